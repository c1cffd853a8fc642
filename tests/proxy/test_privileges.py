from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.capabilities import Capability
from proxy.privileges import (
    KEEPERS,
    SUPERVISORS,
    User,
    UserError,
    become,
    confine,
    find_user,
    supervise_only,
    user_to_become,
)
from tests.support.rights import Rights, rights

NOBODY = pwd.getpwnam("nobody")


def in_child(work: Callable[[], None]) -> int:
    """Run in a forked process; its exit status, 0 when nothing was raised."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_nobody_is_found_with_user_and_group() -> None:
    assert find_user("nobody") == User("nobody", NOBODY.pw_uid, NOBODY.pw_gid)


@pytest.mark.parametrize("name", ["no-such-user", "", "nul\0"])
def test_an_unknown_user_is_an_error_that_names_the_key(name: str) -> None:
    with pytest.raises(UserError, match=r"there is no user .*correct server\.user"):
        user_to_become(name)


def test_without_a_name_and_for_who_one_is_already_nothing_changes() -> None:
    assert user_to_become(None) is None
    assert user_to_become(pwd.getpwuid(os.geteuid()).pw_name) is None


def test_there_is_no_way_back_and_no_group_is_left() -> None:
    def work() -> None:
        os.setgroups([0, 4])
        become(find_user("nobody"))
        assert os.getresuid() == (NOBODY.pw_uid,) * 3
        assert os.getresgid() == (NOBODY.pw_gid,) * 3
        assert os.getgroups() == [NOBODY.pw_gid]
        for back in (os.setuid, os.seteuid, os.setgid, os.setegid):
            with pytest.raises(PermissionError):
                back(0)
        with pytest.raises(PermissionError):
            Path("/etc/shadow").read_bytes()

    assert in_child(work) == 0


def test_what_is_kept_of_roots_rights_is_to_read_and_nothing_else() -> None:
    def work() -> None:
        become(find_user("nobody"), KEEPERS)
        assert rights() == Rights(NOBODY.pw_uid, KEEPERS, KEEPERS, frozenset(KEEPERS), no_new=False)
        assert Path("/etc/shadow").read_bytes()
        with pytest.raises(PermissionError):
            os.open("/etc/shadow", os.O_WRONLY)
        with pytest.raises(PermissionError):
            os.setuid(0)

    assert in_child(work) == 0


def test_programs_that_are_executed_may_read_as_much_and_no_more() -> None:
    def work() -> None:
        become(find_user("nobody"), KEEPERS)
        shown = subprocess.run(["/bin/cat", "/etc/shadow", "/proc/self/status"], capture_output=True, check=True)
        assert Rights.of(shown.stdout.decode()) == rights()

    assert in_child(work) == 0


def test_who_becomes_another_has_no_rights_and_no_way_to_any() -> None:
    def work() -> None:
        confine(find_user("nobody"))
        assert rights() == Rights(NOBODY.pw_uid, frozenset(), frozenset(), frozenset(), no_new=False)

    assert in_child(work) == 0


@pytest.mark.parametrize("keeping", [frozenset(), KEEPERS])
def test_what_a_user_was_given_is_given_up_but_for_what_is_kept(keeping: frozenset[Capability]) -> None:
    def work() -> None:
        become(find_user("nobody"), {Capability.NET_BIND_SERVICE, Capability.DAC_READ_SEARCH})
        confine(None, keeping)
        assert (rights().effective, rights().ambient) == (keeping, keeping)

    assert in_child(work) == 0


def test_root_without_a_user_to_become_stays_what_it_is() -> None:
    def work() -> None:
        before = rights()
        confine(None)
        assert rights() == before
        supervise_only(None)
        assert rights() == before._replace(no_new=True)

    assert in_child(work) == 0


def test_the_supervisor_keeps_what_it_takes_to_start_and_end_others() -> None:
    def work() -> None:
        before = rights()
        supervise_only(find_user("nobody"))
        left = before.effective & SUPERVISORS
        assert rights() == Rights(0, left, before.bounds & SUPERVISORS, frozenset(), no_new=True)
        confine(find_user("nobody"), KEEPERS)
        assert rights().effective == KEEPERS

    assert in_child(work) == 0


def test_no_program_gives_back_what_was_given_up() -> None:
    """A program that is root by its own right, for whoever executes it."""
    with tempfile.TemporaryDirectory(prefix="snigate-") as directory:
        Path(directory).chmod(0o755)
        program = Path(shutil.copy("/usr/bin/id", directory))
        program.chmod(0o4755)

        def work() -> None:
            supervise_only(None)
            become(find_user("nobody"))
            done = subprocess.run([program, "-u"], capture_output=True, check=True)
            assert int(done.stdout) == NOBODY.pw_uid

        assert in_child(work) == 0


def test_where_a_sandbox_lets_nothing_be_given_up_it_is_said_and_all_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "geteuid", lambda: NOBODY.pw_uid)
    monkeypatch.setattr("proxy.capabilities.permitted", lambda: {Capability.NET_BIND_SERVICE})
    monkeypatch.setattr("proxy.capabilities.hand_on", refuse)
    confine(None)
    assert "capabilities cannot be given up (Operation not permitted); allow the system call capset" in caplog.text


def test_who_is_not_root_cannot_become_another_user() -> None:
    def work() -> None:
        become(find_user("nobody"))
        with pytest.raises(UserError, match='only root can become "root"; start snigate as root'):
            user_to_become("root")
        assert user_to_become("nobody") is None

    assert in_child(work) == 0


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "may"),
    [
        (0o700, 7, 0, True),
        (0o755, 0, 0, False),
        (0o775, 0, 8, True),
        (0o775, 0, 0, False),
        (0o777, 0, 0, True),
        (0o1777, 0, 0, False),  # as /tmp: others' entries are safe there
        (0o1777, 7, 0, True),
    ],
)
def test_who_owns_or_may_write_a_directory_may_replace_what_is_in_it(mode: int, uid: int, gid: int, may: bool) -> None:
    status = os.stat_result((stat.S_IFDIR | mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))
    assert User("seven", 7, 8).may_write(status) is may
