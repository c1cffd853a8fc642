"""An image built and run without a container engine: this machine's root, under layers of a mount namespace's own.

The base image is this machine: its libraries, and the Python that the tests run on. What a Containerfile does is done
on top of it by the same commands. It runs as an engine would run it with a read-only root: as process 1 of its own,
as the image's user, without capabilities, and with nothing to write to but its volumes.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.containerfile import Stage, Step, read
from tests.support.servers import needs
from tests.support.snigate import PATIENCE, wait_for

PYTHON = "/usr/local/python"  # where the tests' Python is to be found in an image


class Image:
    """The last stage of a Containerfile, built. It lives as long as the block it was built in."""

    def __init__(self, stage: Stage, root: Path, namespace: int) -> None:
        self.stage = stage
        self.root = root
        self.namespace = namespace  # by a process in it

    def run(self, command: Sequence[str], mounts: dict[Path, str], log: Path) -> Container:
        """Start its entry point with `command`. `mounts`: directories of this machine, by where they are to be seen."""
        wanted = [path for path in self.stage.volumes if path not in mounts.values()]
        bound = {**mounts, **{_copied_volume(self, log.parent, path): path for path in wanted}}
        script = [f"mkdir -p {' '.join(f'{self.root}{target}' for target in bound.values())}"]
        script += [f"mount -o remount,bind,ro {self.root}", f"mount -t proc proc {self.root}/proc"]
        script += [f"mount --bind {source} {self.root}{target}" for source, target in bound.items()]
        script.append("exec " + shlex.join(_as_user(self.stage, self.root, [*self.stage.entrypoint, *command])))
        alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", "; ".join(script)]
        with log.open("ab") as output:
            process = subprocess.Popen([*inside(self.namespace), *alone], stdout=output, stderr=output)
        return Container(self.stage, process, log)

    def shell(self, command: str) -> str:
        """What a command of root's says in it, as it was built."""
        return _sh(self.namespace, f"chroot {self.root} sh -c {shlex.quote(command)}").stdout


class Container:
    """An image that runs."""

    def __init__(self, stage: Stage, process: subprocess.Popen[bytes], log: Path) -> None:
        self._stage = stage
        self._process = process
        self._log = log

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        """Its process 1, by the number that this machine knows it by."""
        assert self._process.poll() is None, self.log
        return child_of(self._process.pid)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def tell_to_stop(self) -> None:
        """Send the image's stop signal, as an engine does."""
        os.kill(self.pid, signal.Signals[self._stage.stop_signal])

    def wait(self) -> int:
        """Wait for its end; the exit status."""
        return self._process.wait(PATIENCE)

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """A further command in it, as its user."""
        into = [needs("nsenter"), "--target", str(self.pid), "--mount", "--pid", "--root", "--wdns=/"]
        whole = into + _as_user(self._stage, None, command)
        return subprocess.run(whole, capture_output=True, text=True, timeout=PATIENCE, check=False)

    def is_healthy(self) -> bool:
        """What the image's own check says."""
        return self.run(self._stage.health).returncode == 0


def child_of(pid: int) -> int:
    """The one process that a process has started, or is about to start."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    wait_for(children.read_text, "it has been started")
    return int(children.read_text())


@contextlib.contextmanager
def built(containerfile: Path, context: Path, names: Sequence[str], directory: Path) -> Iterator[Image]:
    """Build a Containerfile; of the files in `context` only `names` are there for it."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    pip = {key: value for key, value in os.environ.items() if key.startswith("PIP_") and key != "PIP_CONSTRAINT"}
    path = f"{PYTHON}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    stages = read(containerfile, {"PATH": path})
    with _namespace() as namespace:
        _sh(namespace, f"mount -t tmpfs tmpfs {directory}")
        roots: dict[str, Path] = {}
        for number, stage in enumerate(stages):
            roots[stage.name] = root = directory / str(number) / "root"
            _sh(namespace, _base(root.parent))
            for step in stage.steps:
                _sh(namespace, _script(step, stage, root, roots, context, names), pip)
        yield Image(stages[-1], roots[stages[-1].name], namespace)


@contextlib.contextmanager
def _namespace() -> Iterator[int]:
    """A mount namespace, by the process that holds it open."""
    with subprocess.Popen([needs("unshare"), "--mount", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:
        assert cat.stdin is not None
        assert cat.stdout is not None
        cat.stdin.write(b"there\n")
        cat.stdin.flush()
        assert cat.stdout.readline() == b"there\n"
        yield cat.pid


def _base(directory: Path) -> str:
    """What makes this machine's root into a base image at `directory`/root."""
    root = directory / "root"
    return (
        f"{layer(Path('/'), directory)}; mount --rbind /dev {root}/dev; mount -t proc proc {root}/proc; "
        f"echo {PYTHON}/lib > {root}/etc/ld.so.conf.d/000-python.conf; ldconfig -r {root}"
    )


def layer(below: Path, directory: Path) -> str:
    """What makes `directory`/root out of what is below, so that changes go to `directory` alone."""
    root = directory / "root"
    return (
        f"mkdir -p {root} {directory}/upper {directory}/work; "
        f"mount -t overlay overlay -o lowerdir={below},upperdir={directory}/upper,workdir={directory}/work {root}; "
        f"mkdir -p {root}{PYTHON}; mount --bind {sys.base_prefix} {root}{PYTHON}; "
        f"mount -o remount,bind,ro {root}{PYTHON}"
    )


def _script(step: Step, stage: Stage, root: Path, roots: dict[str, Path], context: Path, names: Sequence[str]) -> str:
    """The shell's words for a step."""
    if step.kind == "RUN":
        environment = shlex.join(f"{key}={value}" for key, value in stage.environment.items())
        command = f"cd {stage.directory} && {step.words[0]}"
        return f"chroot {root} env {environment} sh -c {shlex.quote(command)}"
    *sources, destination = step.words
    target = Path(f"{root}{Path(stage.directory) / destination}")
    if step.stage:
        return f"mkdir -p {target.parent}; cp -a {roots[step.stage]}{sources[0]} {target}"
    assert set(sources) <= set(names), "COPY of what the ignore file keeps out"
    lines = [f"mkdir -p {target if destination.endswith('/') else target.parent}"]
    for source in sources:
        lines.append(f"cp -R --preserve=mode,timestamps {context / source} {target}")
    lines.append(f"find {target} -name __pycache__ -prune -exec rm -r {{}} +")
    return "; ".join(lines)


def _as_user(stage: Stage, root: Path | None, command: Sequence[str]) -> list[str]:
    """A command as the image's user, in its environment, without capabilities or a way to get any."""
    user, group = stage.user.split(":")
    into = ["chroot", str(root)] if root is not None else []
    bare = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
    bare += ["--bounding-set=-all", "--inh-caps=-all"]
    return [*into, *bare, "env", "-i", *(f"{key}={value}" for key, value in stage.environment.items()), *command]


def _copied_volume(image: Image, directory: Path, path: str) -> Path:
    """A new volume, with the owner and mode that the image says."""
    volume = directory / path.lstrip("/").replace("/", "-")
    volume.mkdir(exist_ok=True)
    owner, mode = image.shell(f"stat -c '%u:%g %a' {path}").split()
    os.chown(volume, *map(int, owner.split(":")))
    volume.chmod(int(mode, 8))
    return volume


def inside(namespace: int) -> list[str]:
    """What runs a command in a mount namespace."""
    return [needs("nsenter"), "--target", str(namespace), "--mount", "--wdns=/"]


def _sh(namespace: int, script: str, more: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A shell in the namespace, which stops at the first failure."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **(more or {})}
    command = [*inside(namespace), "sh", "-ec", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, script + done.stdout + done.stderr
    return done
