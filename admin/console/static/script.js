// Signing in by the link that was printed at the start: the token is behind the "#", which no server and no log sees.
const signIn = document.getElementById("sign-in");
if (signIn && location.hash.length > 1) {
  signIn.elements.token.value = decodeURIComponent(location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
  signIn.requestSubmit();
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
