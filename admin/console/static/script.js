// Signing in by the link that was printed at the start: behind the "#" is a code that is good once, for some minutes.
const signIn = document.getElementById("sign-in");
const followLink = () => {
  if (!/^#[0-9a-f]{32}$/.test(location.hash)) return;
  signIn.elements.token.value = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
  signIn.requestSubmit();
};
if (signIn) {
  window.addEventListener("hashchange", followLink);
  followLink();
}

// Files dropped onto the form are as good as chosen ones.
for (const place of document.querySelectorAll(".drop")) {
  const input = place.querySelector("input[type=file]");
  const hint = place.querySelector(".hint");
  const show = () => {
    if (input.files.length) hint.textContent = Array.from(input.files, (file) => file.name).join(", ");
  };
  input.addEventListener("change", show);
  for (const event of ["dragover", "dragleave", "drop"]) {
    place.addEventListener(event, (happened) => {
      happened.preventDefault();
      place.classList.toggle("over", event === "dragover");
      if (event === "drop" && happened.dataTransfer.files.length) {
        input.files = happened.dataTransfer.files;
        show();
      }
    });
  }
}
