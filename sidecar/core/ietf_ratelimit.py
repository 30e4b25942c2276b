"""The `RateLimit` and `RateLimit-Policy` fields of the IETF draft (draft-ietf-httpapi-ratelimit-headers-10).

Decides how the items of the two lists belong together (by the name they end in: Hugging Face puts a second string
before it) and which of them count requests. Anything malformed is passed over. Refuses to know who sends them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from sidecar.core.durations import LONGEST_NS
from sidecar.core.limits import SECOND, Axis, Reading, Source

_ITEM = re.compile(r'((?:"[^"]{0,64}";?\s*)+)([^,"]*(?:"[^"]{0,64}"[^,"]*)*)')
_NAME = re.compile(r'"([^"]*)"')
_PARAMETER = re.compile(r';?\s*(qu|[qwrt])=(?:([0-9]{1,15})|"([a-z-]{1,32})")(?=\s*(?:;|$))')


class _Item(NamedTuple):
    numbers: dict[str, int]
    unit: str


def read_fields(state: bytes, policy: bytes) -> Iterator[Reading]:
    """The windows that `ratelimit` (what is left, until when) and `ratelimit-policy` (how many, per what) describe."""
    states, policies = _items(state), _items(policy)
    for name in dict.fromkeys([*policies, *states]):
        numbers = {**_of(policies, name).numbers, **_of(states, name).numbers}
        window, reset = numbers.get("w"), numbers.get("t")
        if _of(policies, name).unit == "requests" and not numbers.keys().isdisjoint("qr"):
            yield Reading(
                Axis.REQUESTS,
                window * SECOND if window else None,
                numbers.get("q"),
                numbers.get("r"),
                reset * SECOND if reset is not None and reset * SECOND <= LONGEST_NS else None,
                Source.HEADER,
            )


def _of(items: dict[str, _Item], name: str) -> _Item:
    return items.get(name, _Item({}, "requests"))


def _items(value: bytes) -> dict[str, _Item]:
    items: dict[str, _Item] = {}
    for names, parameters in _ITEM.findall(value[:1024].decode("latin-1")):
        found = _PARAMETER.findall(parameters.strip())
        numbers = {key: int(number) for key, number, _ in found if number}
        items[_NAME.findall(names)[-1]] = _Item(numbers, next((text for _, _, text in found if text), "requests"))
    return items
