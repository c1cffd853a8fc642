from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.privileges import User, UserError, become, find_user, user_to_become

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
