"""What each process may do, started as root with `server.user`, or as a user that was given something."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from pathlib import Path

import pytest

from certstore import default_certificate
from proxy.capabilities import Capability
from proxy.privileges import KEEPERS, SUPERVISORS
from tests.support.pki import self_signed
from tests.support.rights import Rights, rights
from tests.support.snigate import PROGRAM, Snigate, wait_for
from tests.support.tls_client import shown

NOBODY = pwd.getpwnam("nobody")
LISTENER = '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nprotocol = "http"\nbackend = "welcome"\n'
NONE = frozenset[int]()


class AsNobody(Snigate):
    """Started by a user that was given capabilities, as a service manager gives them."""

    def launch(self) -> subprocess.Popen[bytes]:
        given = "-all,+net_bind_service,+dac_read_search"
        who = ["--reuid", "nobody", "--regid", str(NOBODY.pw_gid), "--clear-groups"]
        command = ["setpriv", *who, "--inh-caps", given, "--ambient-caps", given, "--bounding-set", given]
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                [*command, PROGRAM, "serve", "--config", self.file], cwd=self.directory, stderr=log, stdout=log
            )


def rights_by_role(snigate: Snigate) -> dict[str, set[Rights]]:
    found: dict[str, set[Rights]] = {}
    for one in snigate.api("/api/v1/status")["processes"]:
        found.setdefault(one["role"], set()).add(rights(one["pid"]))
    return found


def is_closed_to_nobody(pid: int) -> bool:
    """Whether that user, as which the process runs, may not look into its memory."""
    who = ["--reuid", "nobody", "--regid", str(NOBODY.pw_gid), "--clear-groups"]
    command = ["setpriv", *who, "/bin/dd", f"if=/proc/{pid}/mem", "count=0"]
    return b"Permission denied" in subprocess.run(command, capture_output=True, timeout=30).stderr


def closed(snigate: Snigate) -> None:
    """Let nobody but root read the certificates."""
    snigate.certs.chmod(0o700)
    for path in snigate.certs.iterdir():
        path.chmod(0o600)


def test_started_as_root_the_keeper_may_read_and_the_others_nothing_that_is_not_their_users(public: Path) -> None:
    first, encrypted = self_signed("a.example"), self_signed("b.example")
    snigate = Snigate(public, LISTENER)
    snigate.file.write_text(
        snigate.file.read_text()
        .replace("[server]", '[server]\nuser = "nobody"')
        .replace("[certificates]", f'[certificates]\npassphrase_files = ["{public}/words"]')
    )
    (public / "words").write_text("a secret\n")
    (public / "words").chmod(0o600)
    first.write(snigate.certs, "first")
    closed(snigate)
    with snigate:
        assert snigate.process is not None
        before = rights_by_role(snigate)
        assert before == {
            "keeper": {Rights(NOBODY.pw_uid, KEEPERS, KEEPERS, frozenset(KEEPERS), no_new=True)},
            "control": {Rights(NOBODY.pw_uid, NONE, NONE, NONE, no_new=True)},
            "worker": {Rights(NOBODY.pw_uid, NONE, NONE, NONE, no_new=True)},
        }
        mine = rights()
        assert rights(snigate.process.pid) == Rights(
            0, mine.effective & SUPERVISORS, mine.bounds & SUPERVISORS, NONE, no_new=True
        )
        assert all(is_closed_to_nobody(one.pid) for one in snigate.children())
        assert shown(snigate.port, "a.example").fingerprint == first.fingerprint
        (snigate.certs / "b.p12").write_bytes(encrypted.p12(b"a secret"))
        closed(snigate)
        wait_for(lambda: shown(snigate.port, "b.example").fingerprint == encrypted.fingerprint, "what comes is served")
        for role in ("keeper", "control", "worker"):
            victim = next(one["pid"] for one in snigate.api("/api/v1/status")["processes"] if one["role"] == role)
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda gone=victim: is_whole(snigate, gone), "it is replaced")
        assert rights_by_role(snigate) == before
        snigate.expect_new_workers()


def test_the_default_certificate_which_the_keeper_may_not_write_is_made_and_made_again(public: Path) -> None:
    snigate = Snigate(public, LISTENER)
    snigate.file.write_text(
        snigate.file.read_text()
        .replace("[server]", '[server]\nuser = "nobody"')
        .replace("[certificates]", '[certificates]\nrescan = "1s"')
    )
    file, later = snigate.state / default_certificate.FILE, self_signed("later.example")
    with snigate:
        assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (0, 0o600)
        assert shown(snigate.port).fingerprint == fingerprint(snigate)
        before = fingerprint(snigate)
        file.unlink()
        wait_for(lambda: fingerprint(snigate) not in ("", before), "it is made anew")
        wait_for(lambda: all(shown(snigate.port).fingerprint == fingerprint(snigate) for _ in range(4)), "it is served")
        later.write(snigate.certs, "later")
        wait_for(lambda: shown(snigate.port, "later.example").fingerprint == later.fingerprint, "directories are read")
        snigate.expect_new_workers()


def fingerprint(snigate: Snigate) -> str:
    """Of the default certificate that there is in the state directory; empty while there is none."""
    found = default_certificate.load(snigate.state)
    return found.fingerprint if found is not None else ""


def is_whole(snigate: Snigate, gone: int) -> bool:
    """Whether every process is there, that one not, and both workers follow the keeper."""
    status = snigate.api("/api/v1/status")
    return len(status["replicas"]) == 2 and not {gone, None} & {one["pid"] for one in status["processes"]}


def test_what_its_user_was_given_the_keeper_alone_keeps_as_far_as_it_reads(public: Path) -> None:
    pair = self_signed("a.example")
    snigate = AsNobody(public, LISTENER, name="a.example")
    pair.write(snigate.certs)
    closed(snigate)
    snigate.state.mkdir(mode=0o700)
    os.chown(snigate.state, NOBODY.pw_uid, NOBODY.pw_gid)
    with snigate:
        assert snigate.process is not None
        found = rights_by_role(snigate)
        assert {role: {one.effective for one in those} for role, those in found.items()} == {
            "keeper": {KEEPERS},
            "control": {NONE},
            "worker": {NONE},
        }
        assert all(one.no_new and one.user == NOBODY.pw_uid for those in found.values() for one in those)
        assert all(is_closed_to_nobody(one) for one in (snigate.process.pid, *(one.pid for one in snigate.children())))
        supervisor = rights(snigate.process.pid)
        assert supervisor.effective == {Capability.NET_BIND_SERVICE, Capability.DAC_READ_SEARCH}
        assert supervisor.no_new
        assert shown(snigate.port, "a.example").fingerprint == pair.fingerprint


def test_what_the_keeper_may_read_it_does_not_read_for_who_links_to_it_among_its_users_own(
    public: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As a worker that is taken over would: it is the same user, to whom `<state>` belongs."""
    theirs, ours = self_signed("other-service.example"), self_signed("a.example")
    closed_off = tmp_path_factory.mktemp("others")
    (closed_off / "secret.pem").write_bytes(theirs.key_pem)
    (closed_off / "both.pem").write_bytes(theirs.combined_pem)
    for path in closed_off.iterdir():
        path.chmod(0o600)
    snigate = AsNobody(public, LISTENER, name="a.example")
    ours.write(snigate.certs)
    closed(snigate)
    snigate.state.mkdir(mode=0o700)
    os.chown(snigate.state, NOBODY.pw_uid, NOBODY.pw_gid)
    with snigate:
        certs = snigate.state / "certs"
        (certs / "known.pem").write_bytes(theirs.certificate_pem)
        (certs / "known.pem").chmod(0o644)
        (certs / "link.pem").symlink_to(closed_off / "secret.pem")
        (certs / "directory").symlink_to(closed_off)
        wait_for(lambda: f"{certs}/link.pem: cannot be read (Permission denied)" in snigate.log, "the link is told of")
        wait_for(lambda: f"{certs}/directory/both.pem: cannot be read" in snigate.log, "and what is behind the other")
        made = fingerprint(snigate)
        (snigate.state / default_certificate.FILE).unlink()
        (snigate.state / default_certificate.FILE).symlink_to(closed_off / "both.pem")
        ours_too = self_signed("b.example")
        ours_too.write(snigate.certs, "second")
        wait_for(lambda: shown(snigate.port, "b.example").fingerprint == ours_too.fingerprint, "others come in still")
        assert shown(snigate.port, "other-service.example").fingerprint == made
        (snigate.state / default_certificate.FILE).unlink()


@pytest.mark.parametrize("user", ["", 'user = "root"\n'])
def test_root_that_is_to_stay_root_does_and_gains_nothing_by_programs(tmp_path: Path, user: str) -> None:
    snigate = Snigate(tmp_path, LISTENER)
    snigate.file.write_text(snigate.file.read_text().replace("[server]\n", f"[server]\n{user}"))
    with snigate:
        mine = rights()
        for those in rights_by_role(snigate).values():
            assert those == {mine._replace(no_new=True)}
