"""The page on metrics is the families in words, and nothing else."""

from __future__ import annotations

from pathlib import Path

from sidecar.core.metrics_doc import page
from sidecar.core.metrics_table import families

PAGE = Path(__file__).parents[2] / "docs/metrics.md"


def test_the_page_is_what_is_told():
    # to write it: python -c "from sidecar.core.metrics_doc import page; print(page(), end='')" > docs/metrics.md
    assert PAGE.read_text() == page()


def test_every_family_has_its_line_and_a_name_by_the_conventions():
    lines = page().splitlines()
    for name, family in families().items():
        assert sum(line.startswith(f"| `{name}` |") for line in lines) == 1
        assert name.startswith(("sidecar_", "gen_ai_client_"))
        assert name.endswith("_total") == (family.kind == "counter")
        assert not family.says.endswith(".")
