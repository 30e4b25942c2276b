"""Processes a benchmark starts: ours and those we are compared with. Each is ended with the block it was opened for.

What they print goes to build/bench/NAME.log, where the reason of a surprising figure is looked up afterwards.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.error import URLError
from urllib.request import urlopen

ROOT = Path(__file__).parents[1]
LOGS = ROOT / "build" / "bench"
COMPILED = ROOT / "build" / "compiled"
# where ours are run from: with the hot path compiled, as they are shipped, once `make compiled` has made that
HOME = COMPILED if (COMPILED / ".made").exists() else ROOT
SIDECAR = (sys.executable, "-P", "-m", "sidecar")  # -P: from where PYTHONPATH says, not from where it is started
_READY_S = 120  # LiteLLM alone takes 10 to 40 seconds to load
# Ends a process also when the benchmark itself was killed; part of every Linux (util-linux)
_LEASH = ("setpriv", "--pdeathsig", "TERM", "--") if shutil.which("setpriv") else ()


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


class Process:
    """A process group with a log of its own, ready once `ready_url` answers, or at once where that is empty; on `cores`
    alone where they are given."""

    def __init__(
        self,
        name: str,
        words: Sequence[str],
        environ: Mapping[str, str],
        ready_url: str,
        cores: frozenset[int] = frozenset(),
    ) -> None:
        LOGS.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.log = LOGS / f"{name}.log"
        kept = {each: os.environ[each] for each in ("PATH", "HOME", "LANG", "TMPDIR") if each in os.environ}
        before = os.sched_getaffinity(0)
        self._began_s = time.monotonic()
        with self.log.open("wb") as log:
            try:
                if cores:
                    os.sched_setaffinity(0, cores)  # is inherited, by its threads as well
                self._process = subprocess.Popen(
                    [*_LEASH, *words],
                    env={**kept, "PYTHONPATH": str(HOME), **environ},
                    cwd=ROOT,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            finally:
                os.sched_setaffinity(0, before)
        self.ready_ms = 0.0  # from exec to the first good answer of `ready_url`
        try:
            if ready_url:
                self._await(ready_url)
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self._process.pid

    def __repr__(self) -> str:
        return f"<Process {self.name} pid={self._process.pid}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _await(self, url: str) -> None:
        give_up = time.monotonic() + _READY_S
        while self._process.poll() is None and time.monotonic() < give_up:
            try:
                with urlopen(url, timeout=5):
                    self.ready_ms = (time.monotonic() - self._began_s) * 1000
                    return
            except (URLError, OSError):
                time.sleep(0.001 if time.monotonic() < self._began_s + 2 else 0.05)
        raise RuntimeError(f"{self.name} did not get ready; see {self.log}")

    def stop(self) -> None:
        """End it in order, and when it does not, at once, with all it started. Harmless when called again."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                self._process.wait()
        self._signal(signal.SIGKILL)  # workers that outlived the one that started them

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return
