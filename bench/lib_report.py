"""Where and with what figures were taken, and how they are kept: Markdown under bench/results/."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from lib_processes import ROOT

RESULTS = ROOT / "bench" / "results"


def machine() -> str:
    """Processor, cores, memory, system."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = named[0] if named else model
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, load {load:.1f} before"


def commit() -> str:
    """The commit that was measured, with a mark where the tree held more."""
    words = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are figures."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


class Setting(NamedTuple):
    """Where and with what a run began."""

    machine: str
    commit: str
    at: datetime


def setting() -> Setting:
    """The present one: to be noted before the run, which loads the machine and may outlast the commit."""
    return Setting(machine(), commit(), datetime.now(UTC))


def heading(title: str, versions: Mapping[str, str], began: Setting) -> str:
    """The top of a result: what, when, where, with what, by which command."""
    words = shlex.join(["python", *sys.argv])
    versions = {"sidecar": began.commit, "Python": platform.python_version(), **versions}
    return "\n".join(
        [
            f"# {title}",
            "",
            f"- taken: {began.at:%Y-%m-%d %H:%M} UTC",
            f"- machine: {began.machine}",
            f"- versions: {', '.join(f'{name} {version}' for name, version in versions.items())}",
            f"- command: `{words}`",
            "",
        ]
    )


def keep(name: str, text: str) -> Path:
    """Write a result; where it is."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / name
    path.write_text(text.rstrip("\n") + "\n")
    return path
