"""The page on fallback is the tables in words, and nothing else."""

from __future__ import annotations

from pathlib import Path

from sidecar.core.error_classes import ROWS
from sidecar.core.fallback_doc import MEANINGS, page
from sidecar.core.outcomes import Outcome

PAGE = Path(__file__).parents[2] / "docs/fallback.md"


def test_B9_the_page_is_what_decides():
    # to write it: python -c "from sidecar.core.fallback_doc import page; print(page(), end='')" > docs/fallback.md
    assert PAGE.read_text() == page()


def test_B9_every_outcome_and_every_row_has_its_line():
    assert set(MEANINGS) == set(Outcome)
    lines = page().splitlines()
    for outcome in Outcome:
        assert sum(line.startswith(f"| `{outcome.value}` |") for line in lines) == 1
    start = lines.index("| Status | Names | Only for | Outcome | Not called | For |")
    assert len([line for line in lines[start + 2 :] if line]) == len(ROWS)
    assert all(len(line.split(" | ")) == 6 for line in lines[start + 2 :] if line)
