"""What is remembered of fields that targets did not take, so that the next request comes without them at once (B10).

Kept by target and endpoint, for `max_tokens` is one thing to chat and another to responses; for a day, like a limit
learned from an error text (design section 6, Limits); in memory, and forgotten on reload: one call teaches it again.
A remedy that contradicts another (use A for B, and B for A) is refused: no body would ever please. Refuses to know
error texts (rejected_fields.py) and bodies (outgoing.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from sidecar.core.limits import DAY
from sidecar.core.outcomes import Remedy
from sidecar.core.paths import Endpoint
from sidecar.core.snapshot import Target

_MAX_TARGETS: Final = 1024  # callers can name models at will
_MAX_FIELDS: Final = 32  # and fields; of a target with more, all is forgotten and learned again
_NO_NAMES: frozenset[str] = frozenset()
_NO_RENAMES: Mapping[str, str] = MappingProxyType({})


class Fit(NamedTuple):
    """How bodies are changed for a target, after what the catalog says: as the catalog's own fields of these names."""

    drops: frozenset[str] = _NO_NAMES
    message_drops: frozenset[str] = _NO_NAMES
    renames: Mapping[str, str] = _NO_RENAMES

    @property
    def size(self) -> int:
        """How many fields it is about."""
        return len(self.drops) + len(self.message_drops) + len(self.renames)


AS_IT_IS: Final = Fit()


class Rejections:
    """What is known of every target."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[Target, Endpoint], tuple[Fit, int]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Rejections {[(str(target), endpoint.value) for target, endpoint in self._known]}>"

    def fit(self, target: Target, endpoint: Endpoint, now_ns: int) -> Fit:
        """How a body for that target is to be changed; AS_IT_IS where nothing is known."""
        if not self._known:
            return AS_IT_IS
        fit, until_ns = self._known.get((target, endpoint), (AS_IT_IS, now_ns))
        return fit if now_ns < until_ns else AS_IT_IS

    def note(self, target: Target, endpoint: Endpoint, remedies: Iterable[Remedy], now_ns: int) -> bool:
        """Remember remedies for a day; False, and nothing is, where they contradict what is known."""
        before = self.fit(target, endpoint, now_ns)
        fit: Fit | None = before if before.size < _MAX_FIELDS else AS_IT_IS
        for remedy in remedies:
            fit = None if fit is None else _with(fit, remedy)
        if fit is None:
            return False
        self._known[target, endpoint] = (fit, now_ns + DAY)
        self._known.move_to_end((target, endpoint))
        if len(self._known) > _MAX_TARGETS:
            self._known.popitem(last=False)
        return True

    def forget(self) -> None:
        """Know nothing."""
        self._known.clear()


def _with(fit: Fit, remedy: Remedy) -> Fit | None:
    """With one more remedy, so that no name it ends in is one that is refused; None where that cannot be."""
    name, instead = remedy.name, remedy.instead
    if remedy.is_in_messages:
        return fit._replace(message_drops=fit.message_drops | {name})
    if instead is None:
        # what got that name here goes as well
        gone = {name, *(old for old, new in fit.renames.items() if new == name)}
        kept = {old: new for old, new in fit.renames.items() if old not in gone}
        return fit._replace(drops=fit.drops | gone, renames=kept)
    if name in fit.drops:
        return fit
    if instead in fit.drops or instead in fit.renames:
        return None
    renames = {old: instead if new == name else new for old, new in fit.renames.items()}
    return fit._replace(renames=renames | {name: instead})
