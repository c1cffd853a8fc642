"""A systemd that runs as process 1 of its own, on this machine's root under a layer of its own, and sees nothing else.

It has a network, processes and control groups of its own, and no units but those that it is given.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.support.container import Image, child_of, inside, layer
from tests.support.servers import needs
from tests.support.snigate import PATIENCE, wait_for

_SAID = "/var/log/said"  # by services
_OWN = {
    "/etc/systemd/system/test.target": "[Unit]\nDefaultDependencies=no\n",
    "/etc/systemd/system/service.d/said.conf": f"[Service]\nStandardOutput=append:{_SAID}\nStandardError=inherit\n",
}
_DEVICES = ("null", "zero", "random", "urandom", "tty", "full")


class Machine:
    """Where that systemd runs."""

    def __init__(self, holder: subprocess.Popen[bytes], log: Path) -> None:
        self._holder = holder
        self._log = log

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command of root's in it, whatever comes of it."""
        return subprocess.run(self._whole(command), capture_output=True, text=True, timeout=2 * PATIENCE, check=False)

    def begin(self, *command: str) -> subprocess.Popen[str]:
        """A command that is not waited for; what it says can be read from it."""
        return subprocess.Popen(self._whole(command), stdout=subprocess.PIPE, text=True)

    def say(self, *command: str) -> str:
        """What a command says that has to succeed."""
        done = self.run(*command)
        assert done.returncode == 0, (
            f"{command}: {done.stdout}{done.stderr}{self.run('cat', _SAID).stdout}{self._log.read_text()}"
        )
        return done.stdout.strip()

    def shown(self, unit: str, name: str) -> str:
        """A property of a unit's."""
        return self.say("systemctl", "show", unit, "--value", "-p", name)

    def is_up(self) -> bool:
        return self.run("systemctl", "is-active", "--quiet", "test.target").returncode == 0

    def _whole(self, command: Sequence[str]) -> list[str]:
        assert self._holder.poll() is None, self._log.read_text()
        first = str(child_of(self._holder.pid))
        spaces = ("--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup")
        return [needs("nsenter"), "--target", first, *spaces, "--root", "--wdns=/", *command]


@contextlib.contextmanager
def booted(image: Image, files: Mapping[str, str], directory: Path) -> Iterator[Machine]:
    """Boot it on an image, with these files (by their paths) and the directories above them."""
    log = directory.with_suffix(".log")
    with _control_group(f"snigate-test-{os.getpid()}") as group, log.open("wb") as output:
        spaces = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child"]
        # Into the control group first: what it is in is the root of what it sees.
        into = ["sh", "-ec", 'echo $$ > "$0"; exec "$@"', str(group / "cgroup.procs"), *inside(image.namespace)]
        command = [*into, *spaces, "sh", "-ec", _script(image.root, files, directory)]
        with subprocess.Popen(command, stdout=output, stderr=output) as holder:
            try:
                machine = Machine(holder, log)
                wait_for(machine.is_up, "systemd is up")
                yield machine
            finally:
                holder.kill()


def _script(below: Path, files: Mapping[str, str], directory: Path) -> str:
    """What makes `directory`/root of what is below, and becomes systemd there."""
    root = directory / "root"
    lines = [f"mount -t tmpfs tmpfs {directory}", layer(below, directory)]
    lines.append(f"rm -rf {root}/etc/systemd/system {root}/lib/systemd/system/*.wants")  # this machine's own
    lines.append(f"rm -f {root}/lib/systemd/system/systemd-journald*")
    for path, text in {**files, **_OWN}.items():
        lines.append(f"mkdir -p {root}{Path(path).parent}; cat > {root}{path} <<'END'\n{text.rstrip()}\nEND\n")
    for place in ("run", "tmp", "sys", "dev"):
        lines.append(f"mount -t tmpfs -o mode={'1777' if place == 'tmp' else '755'} tmpfs {root}/{place}")
    lines.append(f"mount -t proc proc {root}/proc; mount --bind {root}/proc/sys {root}/proc/sys")
    lines.append(f"mount -o remount,bind,ro {root}/proc/sys")
    lines.append(f"mkdir -p {root}/sys/fs/cgroup; mount -t cgroup2 cgroup2 {root}/sys/fs/cgroup")
    lines += [f"touch {root}/dev/{one}; mount --bind /dev/{one} {root}/dev/{one}" for one in _DEVICES]
    lines.append(f"mkdir {root}/dev/shm {root}/dev/pts; ln -s pts/ptmx {root}/dev/ptmx")
    lines.append(
        f"mount -t devpts -o newinstance,ptmxmode=0666 devpts {root}/dev/pts; ip link set lo up; hostname test"
    )
    start = "--system --unit=test.target --show-status=no --log-target=console --log-level=warning"
    lines.append(f"exec env -i container=other PATH=/usr/sbin:/usr/bin chroot {root} /lib/systemd/systemd {start}")
    return "\n".join(lines)


@contextlib.contextmanager
def _control_group(name: str) -> Iterator[Path]:
    """A control group, which is gone when the block ends, with all below it."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    group = Path(next(fields[1] for fields in mounts if fields[2] == "cgroup2"), name)
    group.mkdir()
    try:
        yield group
    finally:
        for one in sorted((path.parent for path in group.rglob("cgroup.procs")), reverse=True):
            wait_for(lambda one=one: _is_removed(one), f"nothing runs in {one}")


def _is_removed(group: Path) -> bool:
    group.rmdir()  # fails while something runs in it
    return True
