"""The console in a real browser: every action, how it is refused, and whether everybody can use it."""

from __future__ import annotations

import json
import os
import pwd
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from playwright.sync_api import Browser, Page, expect

from certstore.load import parse_file
from tests.support.browser import Visitor, browser
from tests.support.pki import Authority, Pair
from tests.support.servers import needs
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import shown

TEXT = (
    '[certificates]\ntrust = []\n[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nprotocol = "http"\n'
    'backend = "welcome"\n[[listeners.routes]]\nhosts = ["shop.example.com"]\n'
)
PAGES = (
    "/certificates",
    "/certificates/new",
    "/certificates/import",
    "/requests",
    "/requests/new",
    "/roots",
    "/served?host=www.example.com",
    "/server",
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as running:
        yield running


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Snigate]:
    with Snigate(tmp_path, TEXT, workers=1) as snigate:
        yield snigate


def base(site: Snigate) -> str:
    return f"http://127.0.0.1:{site.admin}"


@pytest.fixture
def visitor(site: Snigate, chromium: Browser) -> Iterator[Visitor]:
    """Somebody who has signed in."""
    one = Visitor(chromium)
    sign_in(one, site)
    one.page.wait_for_url("**/certificates")
    one.complaints.clear()
    yield one
    one.close()


def sign_in(visitor: Visitor, site: Snigate, token: str = "") -> None:
    visitor.page.goto(f"{base(site)}/sign-in")
    visitor.page.get_by_label("Token").fill(token or site.token)
    visitor.page.get_by_role("button", name="Sign in").click()


def go(visitor: Visitor, site: Snigate, path: str) -> Page:
    visitor.page.goto(base(site) + path)
    return visitor.page


def make(visitor: Visitor, site: Snigate, names: str, days: str = "30") -> None:
    page = go(visitor, site, "/certificates/new")
    page.get_by_label("Names").fill(names)
    page.get_by_label("Days").fill(days)
    page.get_by_role("button", name="Make it").click()
    page.wait_for_url("**/certificates")


def test_a_self_signed_certificate_is_made_shown_renewed_and_deleted(site: Snigate, visitor: Visitor) -> None:
    make(visitor, site, "www.example.com\n*.example.com")
    page = visitor.page
    expect(page.get_by_role("status")).to_contain_text("www.example.com")
    expect(page.get_by_role("table").last).to_contain_text("self-signed")
    page.reload()
    expect(page.get_by_role("status")).to_have_count(0)
    page.get_by_role("link", name=", certificate", exact=False).last.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("*.example.com")
    page.get_by_role("button", name="Renew").click()
    page.wait_for_url("**/certificates")
    expect(page.locator("caption").last).to_have_text("2 certificates")
    page.get_by_role("link", name=", certificate", exact=False).last.click()
    page.get_by_role("link", name="Delete").click()
    expect(page.get_by_text("Names that are served another certificate")).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/certificates")
    expect(page.locator("caption").last).to_have_text("1 certificate")
    assert len(list((site.state / "trash").glob("*/*.pem"))) == 1
    actions = [json.loads(line) for line in (site.state / "audit.log").read_text().splitlines()]
    assert [(one["who"], one["from"], one["action"]) for one in actions] == [
        ("console", "127.0.0.1", action) for action in ("new", "renew", "delete")
    ]
    assert [one for one in visitor.complaints if "Password forms" not in one] == []


def test_a_request_is_made_downloaded_signed_imported_and_becomes_the_default(
    site: Snigate, visitor: Visitor, tmp_path: Path
) -> None:
    page = go(visitor, site, "/requests/new")
    page.get_by_label("Names").fill("mail.example.com")
    page.get_by_label("Country, two letters").fill("Germany")
    page.get_by_role("button", name="Make the request").click()
    field = page.get_by_label("Country, two letters")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_role("alert")).to_contain_text("country has at most 2")
    expect(page.get_by_label("Names")).to_have_value("mail.example.com")
    field.fill("DE")
    page.get_by_role("button", name="Make the request").click()
    page.wait_for_url("**/requests")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the request for mail.example.com").click()
    assert download.value.suggested_filename == "mail.example.com.csr"

    root = Authority.make("Test root")
    lower = Authority.make("Test intermediate", root)
    (waiting,) = (site.state / "requests").iterdir()
    key: Any = load_pem_private_key(waiting.read_bytes(), None)
    signed = lower.issue("mail.example.com", key=key)
    (tmp_path / "signed.pem").write_bytes(signed.certificate_pem)
    (tmp_path / "lower.pem").write_bytes(lower.pem)

    go(visitor, site, "/certificates/import")
    page.get_by_label("Files").set_input_files([tmp_path / "lower.pem", tmp_path / "signed.pem"])
    page.get_by_role("button", name="Import").click()
    page.wait_for_url("**/certificates")
    assert shown(site.port, "mail.example.com").fingerprint == signed.fingerprint

    (tmp_path / "root.pem").write_bytes(root.pem)
    go(visitor, site, "/roots")
    page.get_by_label("Root certificates").set_input_files(tmp_path / "root.pem")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("table")).to_contain_text("CN=Test root")
    wait_for(lambda: _standing(site, signed) == "trusted", "the chain verifies")

    go(visitor, site, f"/certificates/{signed.fingerprint}")
    page.get_by_role("button", name="Set as default").click()
    expect(page.get_by_role("table")).to_contain_text("names that no certificate has")
    page.get_by_role("button", name="Set as default").click()
    page.wait_for_url("**/certificates")
    assert (site.state / "default").read_text() == "mail.example.com\n"
    wait_for(lambda: shown(site.port, "unknown.example.org").fingerprint == signed.fingerprint, "it is the default")

    go(visitor, site, "/roots")
    page.get_by_role("link", name="Remove CN=Test root").click()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("status")).to_contain_text("Trusted no more")
    expect(page.get_by_role("table")).to_have_count(1)
    expect(page.get_by_role("table")).not_to_contain_text("CN=Test root")


def _standing(site: Snigate, pair: Pair) -> str:
    found = site.api(f"/api/v1/certificates/{pair.fingerprint}")["standing"]
    assert isinstance(found, str)
    return found


def test_files_are_dropped_or_pasted_and_what_cannot_be_taken_is_said_beside_the_field(
    site: Snigate, visitor: Visitor
) -> None:
    pair = Authority.make("Root").issue("www.example.com")
    page = go(visitor, site, "/certificates/import")
    page.get_by_role("button", name="Import").click()
    expect(page.get_by_role("alert")).to_have_text("choose a file, or paste its text.")
    page.get_by_label("Or paste PEM text").fill(pair.certificate_pem.decode())
    page.get_by_role("button", name="Import").click()
    expect(page.get_by_role("alert")).to_contain_text(
        "the private key of the certificate for www.example.com is not here"
    )
    drop = """(place, text) => {
        const files = new DataTransfer();
        files.items.add(new File([text], "pair.pem"));
        place.dispatchEvent(new DragEvent("drop", {dataTransfer: files, bubbles: true, cancelable: true}));
    }"""
    page.locator(".drop").evaluate(drop, pair.combined_pem.decode())
    expect(page.locator("#dropped")).to_have_text("pair.pem")
    page.get_by_role("button", name="Import").click()
    page.wait_for_url("**/certificates")
    assert shown(site.port, "www.example.com").fingerprint == pair.fingerprint


def test_a_request_is_withdrawn_after_a_second_look(site: Snigate, visitor: Visitor) -> None:
    page = go(visitor, site, "/requests/new")
    page.get_by_label("Names").fill("mail.example.com")
    page.get_by_role("button", name="Make the request").click()
    expect(page.get_by_role("status")).to_contain_text("It is for mail.example.com")
    page.get_by_role("link", name="Withdraw the request for mail.example.com").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Withdraw the request for mail.example.com?")
    assert len(list((site.state / "requests").iterdir())) == 1
    assert Axe().run(page).violations_count == 0
    page.get_by_role("button", name="Withdraw").click()
    expect(page.get_by_role("status")).to_contain_text("The request is withdrawn")
    assert list((site.state / "requests").iterdir()) == []


def test_an_encrypted_key_asks_for_its_passphrase_where_that_goes(site: Snigate, visitor: Visitor) -> None:
    pair = Authority.make("Root").issue("www.example.com")
    page = go(visitor, site, "/certificates/import")
    for words, given in (("is protected by a passphrase", ""), ("does not open it", "wrong")):
        page.get_by_label("Files").set_input_files(
            {"name": "pair.p12", "mimeType": "application/x-pkcs12", "buffer": pair.p12(b"secret")}
        )
        page.get_by_label("Passphrase").fill(given)
        page.get_by_role("button", name="Import").click()
        expect(page.get_by_role("alert")).to_contain_text(words)
        expect(page.get_by_label("Passphrase")).to_have_attribute("aria-invalid", "true")


def test_parts_are_exported(site: Snigate, visitor: Visitor) -> None:
    make(visitor, site, "www.example.com")
    page = visitor.page
    page.get_by_role("link", name=", certificate", exact=False).last.click()

    def exported(part: str) -> bytes:
        page.get_by_label("Export", exact=True).select_option(part)
        with page.expect_download() as download:
            page.get_by_role("button", name="Export").click()
        return Path(download.value.path()).read_bytes()

    assert b"PRIVATE" not in exported("fullchain")
    assert b"CERTIFICATE REQUEST" in exported("request")
    key = parse_file(exported("key")).keys[0]
    page.get_by_label("Passphrase (for PKCS#12)").fill("secret")
    assert parse_file(exported("pkcs12"), [b"secret"]).keys == (key,)


def test_what_is_served_and_how_the_server_does_is_shown(site: Snigate, visitor: Visitor) -> None:
    page = go(visitor, site, "/served?host=shop.example.com")
    expect(page.get_by_role("table")).to_contain_text("made at first start")
    expect(page.get_by_role("table").get_by_role("link")).to_have_count(0)
    expect(page.get_by_text("No certificate has this name")).to_be_visible()
    expect(page.get_by_role("heading", name="Hosts that no certificate covers")).to_be_visible()
    (site.state / "certs" / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nx")
    wait_for(lambda: site.api("/api/v1/status")["store"]["problems"] == 1, "the problem is known")
    go(visitor, site, "/server")
    expect(page.get_by_text("broken.pem")).to_be_visible()
    expect(page.get_by_role("table").first).to_contain_text("web")
    go(visitor, site, "/served?host=a b")
    expect(page.get_by_role("alert")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_used_by_everybody(site: Snigate, chromium: Browser, visitor: Visitor, scheme: Any) -> None:
    """axe's checks: labels, contrast, roles, headings; and nothing wider than a telephone."""
    make(visitor, site, "www.example.com\n192.0.2.1", "5")
    go(visitor, site, "/requests/new").get_by_label("Names").fill("mail.example.com")
    visitor.page.get_by_role("button", name="Make the request").click()
    certificate = site.api("/api/v1/certificates")["certificates"][0]["fingerprint"]
    state = visitor.context.storage_state()
    one = Visitor(chromium, viewport={"width": 400, "height": 800}, color_scheme=scheme, storage_state=state)
    try:
        for path in (*PAGES, f"/certificates/{certificate}", f"/certificates/{certificate}/delete"):
            page = go(one, site, path)
            found = Axe().run(page)
            assert found.violations_count == 0, f"{path}\n{found.generate_report()}"
            assert page.evaluate("document.documentElement.scrollWidth") <= 400, path
    finally:
        one.close()


def test_the_keyboard_reaches_everything_and_first_a_link_to_the_content(site: Snigate, visitor: Visitor) -> None:
    page = go(visitor, site, "/certificates/new")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Names")).to_be_focused()
    page.keyboard.type("key.example.com")
    for _ in range(3):
        page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Make it")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/certificates#main")


def test_nobody_gets_in_without_the_token(site: Snigate, chromium: Browser) -> None:
    one = Visitor(chromium)
    try:
        for path in PAGES:
            assert go(one, site, path).url.endswith("/sign-in")
        one.page.goto(f"{base(site)}/sign-in#{'0' * 32}")  # as a link of an earlier start
        expect(one.page.get_by_role("alert")).to_have_text("That is not the token.")
        sign_in(one, site, "wrong")
        expect(one.page.get_by_role("alert")).to_have_text("That is not the token.")
        sign_in(one, site)
        one.page.wait_for_url("**/certificates")
    finally:
        one.close()


def test_the_link_on_the_terminal_signs_in_once(tmp_path: Path, chromium: Browser) -> None:
    site = Snigate(tmp_path, TEXT, workers=1)
    with site.on_a_terminal() as said:
        (link,) = re.findall(r"http://\S+/sign-in#[0-9a-f]{32}\b", said)
        first, second = Visitor(chromium), Visitor(chromium)
        try:
            first.page.goto(link)
            first.page.wait_for_url("**/certificates")
            second.page.goto(link)
            expect(second.page.get_by_role("alert")).to_have_text("That is not the token.")
        finally:
            first.close()
            second.close()


def test_a_cookie_is_of_no_use_to_another_user_of_this_machine(site: Snigate, visitor: Visitor) -> None:
    (cookie,) = visitor.context.cookies()
    ask = [needs("curl"), "-s", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}"]
    ask += ["-b", f"{cookie['name']}={cookie['value']}", f"{base(site)}/certificates"]
    assert subprocess.run(ask, capture_output=True, timeout=20, text=True).stdout == "200 "
    if os.getuid() == 0:
        answer = subprocess.run(ask, capture_output=True, timeout=20, text=True, user=pwd.getpwnam("nobody").pw_uid)
        assert answer.stdout == f"303 {base(site)}/sign-in"
        assert subprocess.run(ask, capture_output=True, timeout=20, text=True).stdout == "200 "


def test_a_sign_in_that_never_comes_is_given_up(site: Snigate) -> None:
    """Its body is not sent: the answer comes before it, and the next who signs in is not kept waiting."""
    head = f"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1:{site.admin}\r\nOrigin: {base(site)}\r\nContent-Length: 70\r\n"
    head += "Content-Type: application/x-www-form-urlencoded\r\n\r\ntoken="
    with socket.create_connection(("127.0.0.1", site.admin), timeout=20) as slow:
        slow.sendall(head.encode())
        assert slow.recv(1000).startswith(b"HTTP/1.1 403 ")


def test_signing_out_ends_the_session_for_its_cookie_too(site: Snigate, visitor: Visitor) -> None:
    cookies = visitor.context.cookies()
    (cookie,) = cookies
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    visitor.page.get_by_role("button", name="Sign out").click()
    visitor.page.wait_for_url("**/sign-in")
    visitor.context.add_cookies(cookies)  # type: ignore[arg-type]  # what comes out goes in
    assert go(visitor, site, "/certificates").url.endswith("/sign-in")


class Evil(BaseHTTPRequestHandler):
    """Another site, with a page that sends a form to the console and one that asks its API."""

    target = ""

    def do_GET(self) -> None:
        page = (
            f'<form method="post" action="{self.target}/certificates/new"><input name="names" value="evil.example">'
            f'<input name="key_type" value="ecdsa-p256"><input name="days" value="9"><button>go</button></form>'
        )
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(page.encode())

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


def test_another_sites_form_does_nothing(site: Snigate, visitor: Visitor) -> None:
    Evil.target = base(site)
    with HTTPServer(("127.0.0.1", 0), Evil) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            for host in ("localhost", "127.0.0.1"):  # another site, and another origin of the same site
                visitor.page.goto(f"http://{host}:{server.server_port}/")
                visitor.page.get_by_role("button", name="go").click()
                expect(visitor.page.locator("body")).to_contain_text("a page of another site asked")
        finally:
            server.shutdown()
    assert site.api("/api/v1/certificates")["certificates"] == []


def test_a_form_without_its_sessions_secret_does_nothing(site: Snigate, visitor: Visitor) -> None:
    page = go(visitor, site, "/certificates/new")
    page.get_by_label("Names").fill("www.example.com")
    page.locator("input[name=csrf]").evaluate("one => { one.value = 'x'; }")
    page.get_by_role("button", name="Make it").click()
    expect(page.get_by_role("alert")).to_contain_text("This form is from an earlier session")
    assert site.api("/api/v1/certificates")["certificates"] == []
