"""Where and with what figures were taken, and how they are kept: Markdown under bench/results/."""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, NoReturn

from lib_processes import COMPILED, HOME, ROOT
from lib_rounds import Disagreement
from lib_svg import stamped

RESULTS = ROOT / "bench" / "results"
BUSY = "on a busy machine"
_FIGURE = re.compile(r"^(?=-?[0-9])")


def machine() -> str:
    """Processor, cores, memory, system."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = named[0] if named else model
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, load {load:.1f} before"


def interpreter() -> str:
    """Which Python: builds of the same version differ by some 10 % in speed."""
    flags = str(sysconfig.get_config_var("CONFIG_ARGS"))
    told = [platform.python_implementation(), platform.python_compiler()]
    told += [words for flag, words in (("--enable-optimizations", "PGO"), ("--with-lto", "LTO")) if flag in flags]
    return f"{platform.python_version()} ({', '.join(told)})"


def commit() -> str:
    """The commit that was measured, with a mark where the tree held more than results of runs before."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)bench/results")
    return (_git("describe", "--always") or "unknown") + ("-dirty" if changed else "")


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


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
    build = "compiled" if HOME == COMPILED else "not compiled"
    versions = {"sidecar": f"{began.commit}, {build}", "Python": interpreter(), **versions}
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


class Target(NamedTuple):
    """One row of the targets (docs/performance.md), and what was measured of it. Met by no more than `most`."""

    what: str
    figure: float
    most: float
    unit: str = "x"
    spread: float | None = None  # of the middle half of the rounds, as a part of the figure

    @property
    def is_met(self) -> bool:
        """Whether it is hit."""
        return self.figure <= self.most

    def __str__(self) -> str:
        verdict = "hit" if self.is_met else f"MISSED by {self.figure / self.most - 1:.0%}"
        half = None if self.spread is None else self.spread / 2
        spread = "" if half is None else f", rounds ± {half:.0%}"
        if half is not None and half * self.figure >= abs(self.figure - self.most):
            spread += " (undecided)"
        return (
            f"{self.what}: {_told(self.figure)} {self.unit}"
            f" (target: at most {_told(self.most)} {self.unit}): {verdict}{spread}"
        )


def _told(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 1000 else f"{figure:.3g}"


def verdicts(targets: Sequence[Target]) -> str:
    """The targets as a section of a result."""
    return "\n".join(["## Targets", "", *(f"- {target}" for target in targets), ""])


def say(text: str) -> None:
    """Tell whoever watches; the result itself goes to standard output."""
    print(text, file=sys.stderr, flush=True)


class Options(argparse.Namespace):
    """What every script is told."""

    quick: bool
    full: bool
    no_file: bool
    despite_noise: bool


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The command line that all scripts have in common."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="short rounds, few cells: to see that it works")
    made.add_argument("--full", action="store_true", help="every cell, long rounds")
    made.add_argument("--no-file", action="store_true", help="print the result without keeping it")
    made.add_argument(
        "--despite-noise",
        action="store_true",
        help="report also when the rounds disagree: every figure is then marked, and the spread is stated",
    )
    return made


class Report(NamedTuple):
    """A result: its text, its targets, and plots by the name of their file. `noise`: on what the rounds disagreed."""

    name: str
    text: str
    targets: Sequence[Target] = ()
    plots: Mapping[str, str] = {}
    noise: Sequence[str] = ()
    began: Setting | None = None


def conclude(report: Report, options: Options) -> int:
    """Print the result, keep it, say what was hit or missed; the exit code: 1 when a target is missed."""
    text = told(report)
    print(text)
    if not options.no_file:
        for name, plot in report.plots.items():
            keep(name, stamped(plot, _stamp(report), bool(report.noise)))
        say(f"kept in {keep(f'{report.name}.md', text)}")
    for target in report.targets:
        say(str(target))
    return 0 if all(target.is_met for target in report.targets) else 1


def told(report: Report) -> str:
    """The whole text of a result; when the rounds disagreed every figure of it is marked."""
    shown = [f"![{name}]({name})\n" for name in report.plots]
    text = "\n".join([report.text, *shown, *([verdicts(report.targets)] if report.targets else [])])
    return _marked(text, report.noise) if report.noise else text


def _stamp(report: Report) -> str:
    began = report.began
    return f"sidecar {began.commit}, {began.at:%Y-%m-%d}, {began.machine}" if began else ""


def _marked(text: str, noise: Sequence[str]) -> str:
    """With `~` at each figure of a table, the disputes at the top, and a word at each verdict."""
    lines, has_said = [], False
    for line in text.splitlines():
        if line.startswith("| "):
            first, *cells = line[2:].split(" | ")
            line = " | ".join([f"| {first}", *(_FIGURE.sub("~", cell) for cell in cells)])
        elif line.startswith("- ") and " (target: " in line:
            line += f", {BUSY}"
        lines.append(line)
        if line.startswith("- command: ") and not has_said:
            has_said = True
            lines += [
                "",
                f"> **Taken {BUSY}.** The rounds disagreed: every figure is marked with `~` and proves little.",
                ">",
            ]
            lines += [f"> - {each}" for each in noise]
    return "\n".join(lines)


def run(main: Callable[[], int]) -> NoReturn:
    """Run a script to its exit code. 2: nothing can be concluded, with the reason; whatever happens, processes end."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # so that blocks are left in order
    try:
        sys.exit(main())
    except (Disagreement, RuntimeError, OSError) as error:  # nobody listens there, or is not who they should be
        say(f"nothing to report: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
