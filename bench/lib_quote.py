"""All targets of all kept results as one table, hit or missed, ready to be quoted: `python bench/lib_quote.py`."""

from __future__ import annotations

import re
from pathlib import Path

from lib_report import RESULTS, table

_LINE = re.compile(r"- (?P<what>.+): (?P<figure>\S+ \S+) \(target: at most (?P<most>\S+ \S+)\): (?P<verdict>.+)")


def rows_of(name: str, text: str) -> list[list[str]]:
    """The targets that the result of that name tells of."""
    found = (_LINE.fullmatch(line) for line in text.splitlines())
    link = f"[{name}](bench/results/{name})"
    return [[each["what"], each["figure"], each["most"], each["verdict"], link] for each in found if each]


def quoted(folder: Path = RESULTS) -> str:
    """The table."""
    rows = [row for path in sorted(folder.glob("*.md")) for row in rows_of(path.name, path.read_text())]
    return table(("", "measured", "at most", "", "the run"), rows)


if __name__ == "__main__":
    print(quoted())
