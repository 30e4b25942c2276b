"""How far is the estimate of a request's input tokens from what a real tokenizer counts?

A stream of mixed prompts (English, code, JSON, Chinese) is estimated as the sidecar does, and the tokenizer's count
reported back as a provider's usage would be. What counts is the error after the first fifty responses: the median over
the hundred that follow, and over all. o200k is the tokenizer of gpt-oss and of OpenAI's models since 2024, cl100k that
of the ones before; several seeds are several applications.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from statistics import median, quantiles
from typing import NamedTuple

from lib_processes import ROOT
from lib_prompts import KINDS, Prompt, Prompts
from lib_report import heading, keep, setting, table

from sidecar.core.tokens import Calibration, Kind, kind, text_bytes

_NODE = ROOT / "bench" / "node"
_ENCODINGS = ("o200k_base", "cl100k_base")
_LEARNING = 50
_SOON = 100
_PROMPTS = 400
_TARGET = 0.15


class Estimate(NamedTuple):
    """One request: the kind of its text, and the error of its estimate as a part of the count."""

    kind: str
    error: float


def count(prompts: Iterable[Prompt], encoding: str) -> list[int]:
    """What the tokenizer counts in each."""
    lines = "\n".join(json.dumps(prompt.messages) for prompt in prompts)
    words = ["node", "count.mjs", encoding]
    counted = subprocess.run(words, cwd=_NODE, input=lines, capture_output=True, text=True, check=True).stdout
    return [int(line) for line in counted.split()]


def estimates(prompts: list[Prompt], counts: list[int]) -> list[Estimate]:
    """Estimate one after the other, as one model's calibrations have it at that point."""
    calibrations = {each: Calibration() for each in Kind}
    found = []
    for prompt, counted in zip(prompts, counts, strict=True):
        size, calibration = text_bytes(prompt.body), calibrations[kind(prompt.body)]
        found.append(Estimate(prompt.kind, (calibration.estimate(size) - counted) / counted))
        calibration.report(size, counted)
    return found


def _middle(found: list[Estimate]) -> float:
    return median(abs(each.error) for each in found)


def _row(encoding: str, seed: int, found: list[Estimate]) -> tuple[list[str], float]:
    late, soon = found[_LEARNING:], found[_LEARNING : _LEARNING + _SOON]
    worst_tenth = quantiles([abs(each.error) for each in late], n=10)[-1]
    biases = [median(each.error for each in late if each.kind == name) for name in KINDS]
    figures = [f"{_middle(found[:_LEARNING]):.1%}", f"**{_middle(soon):.1%}**", f"{_middle(late):.1%}"]
    figures += [f"{worst_tenth:.0%}", *(f"{bias:+.0%}" for bias in biases)]
    return [f"{encoding} {seed}", *figures], _middle(soon)


def main() -> int:
    """Measure; 1 when the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4, help="how many streams of prompts")
    parser.add_argument("--no-file", action="store_true", help="print the table without keeping it")
    options = parser.parse_args()
    if not (_NODE / "node_modules").exists():
        parser.error("the tokenizer is not installed: make bench/node/node_modules/.made")
    began = setting()
    rows, errors = [], []
    for encoding in _ENCODINGS:
        for seed in range(1, options.seeds + 1):
            stream = Prompts(seed)
            prompts = [stream.next() for _ in range(_PROMPTS)]
            row, error = _row(encoding, seed, estimates(prompts, count(prompts, encoding)))
            rows.append(row)
            errors.append(error)
    head = ["tokenizer, seed", f"median of the first {_LEARNING}", f"of the {_SOON} after", "of all after"]
    head += ["nine in ten below", *(f"bias, {name}" for name in KINDS)]
    package = json.loads((_NODE / "node_modules" / "gpt-tokenizer" / "package.json").read_text())
    versions = {"gpt-tokenizer": package["version"]}
    text = "\n".join(
        [
            heading("Error of the estimated input tokens", versions, began),
            f"Target: a median below {_TARGET:.0%} after {_LEARNING} responses. A bias above zero is an estimate too"
            " high, which the calibration prefers: too low costs a 429, too high some waiting.",
            "",
            table(head, rows),
        ]
    )
    print(text)
    if not options.no_file:
        print(f"kept in {keep('tokens.md', text)}", file=sys.stderr)
    return 0 if max(errors) < _TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
