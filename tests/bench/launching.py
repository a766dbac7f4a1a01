"""Running one command under the launcher: what it took, whatever processes it started."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil

LAUNCHER = Path(__file__).with_name("launcher.py")
_SAMPLED_EVERY_S = 0.5
_TOLD_CHARACTERS = 3000


@dataclass(frozen=True)
class Ended:
    """What one command took, its children included; of memory the largest process, or all that ran at once (`launch`)."""

    exit_code: int
    wall_s: float
    user_s: float
    system_s: float
    peak_rss_bytes: int
    stdout: Path
    stderr: Path

    @property
    def told(self) -> str:
        """The last that it said."""
        return "\n".join(path.read_text(errors="replace")[-_TOLD_CHARACTERS:] for path in (self.stderr, self.stdout))


class Crowd(threading.Thread):
    """Samples the memory of all processes below one, each shared page counted once (PSS), and keeps the highest sum."""

    def __init__(self, above: psutil.Process) -> None:
        super().__init__(daemon=True)
        self.highest_bytes = 0
        self._above = above
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(_SAMPLED_EVERY_S):
            self.highest_bytes = max(self.highest_bytes, sum(map(_pss_bytes, _below(self._above))))

    def end(self) -> int:
        self._over.set()
        self.join()
        return self.highest_bytes


def _below(above: psutil.Process) -> list[psutil.Process]:
    try:
        return above.children(recursive=True)
    except psutil.Error:  # it has just ended
        return []


def _pss_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def launch(
    command: list[str],
    work: Path,
    environment: dict[str, str] | None = None,
    *,
    crowd: bool = False,
    at_most_s: float | None = None,
) -> Ended:
    """Run a command; its output lies in `work` until the next one runs there.

    With `crowd` the memory of all its processes is sampled, since the kernel knows only the largest one's peak. After
    `at_most_s` it gets a SIGTERM.
    """
    result, stdout, stderr = (work / f"process.{name}" for name in ("json", "stdout", "stderr"))
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(result), str(stdout), str(stderr)]
    process = subprocess.Popen(launcher + command, env={**os.environ, **(environment or {})})
    above = psutil.Process(process.pid)
    sampling = Crowd(above) if crowd else None
    if sampling:
        sampling.start()
    try:
        process.wait(at_most_s)
    except subprocess.TimeoutExpired:
        for child in above.children():  # the command; what it started is its own affair
            child.terminate()
        process.wait()
    finally:
        _stop(process, above)
        together_bytes = sampling.end() if sampling else 0
    if process.returncode:
        raise RuntimeError(f"the launcher ended with {process.returncode}")
    found = json.loads(result.read_text(encoding="ascii"))
    found["peak_rss_bytes"] = max(found["peak_rss_bytes"], together_bytes)
    return Ended(**found, stdout=stdout, stderr=stderr)


def _stop(process: "subprocess.Popen[bytes]", above: psutil.Process) -> None:
    """After Ctrl-C in the middle: nothing that was started goes on."""
    if process.poll() is None:
        for child in _below(above):
            child.terminate()
        process.wait()
