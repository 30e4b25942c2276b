"""How the tests are spread over pytest-xdist's workers: whole files, and end to end all that saw the operator's keys.

The fixtures of a module serve all of its tests then, and tests/e2e/test_leaks.py, which looks at everything that was
said, runs last in the process where it was said. `pytest -n 3` is all it takes; no option of the command line matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest
    from xdist.remote import Producer

TOGETHER = "tests/e2e/"


class Spreading(LoadScopeScheduling):  # type: ignore[misc]  # xdist tells no types
    """One file after the other, in the order of the collection, to whoever is free."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        config.option.loadscopereorder = False  # the longest come first already, and they are not those of most tests
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)


def unit(nodeid: str) -> str:
    """What a test is kept together with."""
    path = nodeid.partition("::")[0]
    return TOGETHER if path.startswith(TOGETHER) else path


def rank(nodeid: str) -> int:
    """Where it stands in a session, the lowest first: what takes long by far, so that no worker ends alone with it, and
    what is mere arithmetic last."""
    path = nodeid.partition("::")[0]
    if path == TOGETHER + "test_leaks.py":
        return 1
    if path.startswith(TOGETHER):
        return 0
    return 3 if path.startswith("tests/core/") else 2
