"""Another root file system on this machine, for tests that need users, folders and an init of their own.

Everything here is seen through an overlay that keeps writes to itself, in namespaces of its own for mounts, processes,
host name and IPC. Nothing outside is changed, and all of it ends with its first process. Tests are skipped where that is
not permitted, unless ARCHIVER_MUST_RUN names `namespaces`.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from archive_rig import until
from s3_servers import MUST_RUN

ROOT = Path(__file__).parent.parent
UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc")
PYTHON = "/opt/python"
LIBRARIES = f"{PYTHON}/lib"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_MOUNTS = """
mount --make-rprivate /
mount -t tmpfs tmpfs {own}
mkdir {own}/upper {own}/work {own}/root
mount -t overlay overlay -o lowerdir=/,upperdir={own}/upper,workdir={own}/work {own}/root
cd {own}/root
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount --rbind /sys sys
mount -o remount,ro,bind sys
mount -t tmpfs tmpfs dev
for name in null zero full random urandom tty; do touch dev/$name; mount --bind /dev/$name dev/$name; done
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
for name in dev/shm run tmp; do mount -t tmpfs -o mode=1777 tmpfs $name; done
chmod 0755 run
"""


def must(word: str, missing: str) -> None:
    """Skip the test, or fail it where ARCHIVER_MUST_RUN says so."""
    if word in MUST_RUN:
        pytest.fail(missing)
    pytest.skip(missing)


@cache
def _refused() -> str:
    """Why namespaces and overlays can't be made here; '' when they can."""
    tried = "cd $0 && mount -t tmpfs t . && cd $0 && mkdir u w r"
    tried += " && mount -t overlay o -o lowerdir=/,upperdir=u,workdir=w r && mount -t proc proc r/proc"
    with TemporaryDirectory() as folder:
        try:
            done = subprocess.run([*UNSHARE, "sh", "-c", tried, folder], check=False, capture_output=True, text=True)
        except OSError as error:
            return str(error)
    return "" if done.returncode == 0 else done.stderr.strip() or "no reason given"


@dataclass
class OtherRoot:
    """What the root holds beyond this machine's own: files, and folders of this machine at other places."""

    folder: Path
    """Where its parts are kept; it must be empty."""
    binds: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if why := _refused():
            must("namespaces", f"no namespaces of our own here: {why}")
        (self.folder / "own").mkdir(parents=True)
        (self.folder / "files").mkdir()
        self.binds[PYTHON] = Path(sys.base_prefix)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Put a file into the root; root owns it."""
        file = self.folder / "files" / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        file.chmod(mode)

    def share(self, path: str) -> Path:
        """A folder that both sides see."""
        here = self.folder / path.strip("/").replace("/", "-")
        here.mkdir()
        self.binds[path] = here
        return here

    def install(self, venv: str) -> None:
        """The program in a venv, as if it had been installed from this tree, without the network."""
        self.binds["/opt/source"] = ROOT / "archiver"
        self.binds["/opt/site-packages"] = Path(sysconfig.get_path("purelib"))
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        packages = f"{venv}/lib/python{version}/site-packages"
        self.write(f"{venv}/pyvenv.cfg", f"home = {PYTHON}/bin\ninclude-system-site-packages = false\n")
        self.write(f"{packages}/here.pth", "/opt/site-packages\n")
        self.write(f"{venv}/bin/archiver", _script(f"{venv}/bin/python"), 0o755)
        (self.folder / "files" / venv.lstrip("/") / "bin" / "python").symlink_to(f"{PYTHON}/bin/python{version}")
        (self.folder / "files" / packages.lstrip("/") / "archiver").symlink_to("/opt/source")

    def run(
        self, setup: Sequence[str], command: Sequence[str], *, environment: Mapping[str, str], seconds: float = 120
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command in the root, after setting it up with lines of shell (outside, where the root is `.`)."""
        return subprocess.run(
            self._entering(setup, {"LD_LIBRARY_PATH": LIBRARIES, **environment}, command),
            env={"PATH": PATH},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    @contextmanager
    def booted(self, setup: Sequence[str], init: Sequence[str]) -> Iterator["subprocess.Popen[bytes]"]:
        """An init as process 1 of the root, in a control group of its own; ended without warning, with all it started."""
        setup = [*setup, "umount -l sys/fs/cgroup 2> /dev/null || :", "mount -t cgroup2 cgroup2 sys/fs/cgroup"]
        # What an init mounts for one service alone, it mounts through here.
        entering = self._entering(setup, {"container": "other", "PATH": PATH}, init, inside=["mount --make-rshared /"])
        with _control_group() as group:
            into = ["sh", "-c", f'echo 0 > {group}/cgroup.procs && exec "$@"', "sh", "unshare", "--cgroup"]
            nowhere = subprocess.DEVNULL
            process = subprocess.Popen([*into, *entering], env={"PATH": PATH}, stdin=nowhere, stdout=nowhere)
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def _entering(
        self, setup: Sequence[str], environment: Mapping[str, str], command: Sequence[str], inside: Sequence[str] = ()
    ) -> list[str]:
        lines = ["set -eu", _MOUNTS.format(own=shlex.quote(str(self.folder / "own")))]
        lines.append(f"cp -a --no-preserve=ownership {shlex.quote(str(self.folder / 'files'))}/. .")
        for path, here in self.binds.items():
            lines.append(f"mkdir -p .{path} && mount --rbind {shlex.quote(str(here))} .{path}")
        lines += [*setup, "pivot_root . . && umount -l . && cd /", *inside]
        variables = [f"{name}={value}" for name, value in environment.items()]
        lines.append(f"exec {shlex.join(['env', '-i', *variables, *command])}")
        return [*UNSHARE, "sh", "-c", "\n".join(lines)]


@contextmanager
def _control_group() -> Iterator[Path]:
    """A control group of the unified hierarchy, which is gone at the end."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text("utf-8").splitlines())
    places = [Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"]
    group = (places or [Path("/sys/fs/cgroup")])[0] / f"archiver-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        must("namespaces", f"no control group of our own here: {error}")
    try:
        yield group
    finally:
        until(lambda: _removed(group))


def _removed(group: Path) -> bool:
    """Whether a control group is gone; it can't go while one of its processes is still ending."""
    try:
        for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            folder.rmdir()
        group.rmdir()
    except OSError:
        return False
    return True


def _script(python: str) -> str:
    return f"#!{python}\nimport sys\nfrom archiver.cli import main\nsys.exit(main())\n"


def program(word: str, name: str, package: str) -> str:
    """Where a program of this machine is; the test is skipped, or fails, when it isn't there."""
    found = shutil.which(name)
    if found is None:
        must(word, f"no {name} here: apt-get install {package}")
    assert found is not None
    return found
