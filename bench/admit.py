"""What choosing a key and admitting a request costs: one key, several, a thousand, a thousand of which 990 are spent.

Process CPU time for one `Keys.admit` and the settlement of its charge, four windows for each key; the best of five.
Run from the root: `python -m bench.admit`.
"""

from __future__ import annotations

import sys
import time
import timeit
from collections.abc import Callable

from sidecar.core.conversation import turn_of
from sidecar.core.keys import Keys
from sidecar.core.limits import HOUR, Cost
from tests.core.house import NOW, roster_of, target_of

_LIMITS = "rpm: 100000000, tpm: 100000000000, rpd: 100000000000, tpd: 100000000000000"
_BODY = (
    b'{"model": "fast", "messages": [{"role": "system", "content": "You are a helpful assistant"}, '
    b'{"role": "user", "content": "hello there, how are you?"}, {"role": "assistant", "content": "fine"}, '
    b'{"role": "user", "content": "and now"}], "stream": true}'
)
_TURN = turn_of(_BODY)


def keys_of(count: int) -> Keys:
    """So many keys, each an account of its own."""
    keys = "\n".join(f"      - {{name: k{n}, env: K{n}}}" for n in range(count))
    roster = roster_of(f"providers:\n  - name: groq\n    keys:\n{keys}\n    limits: [{{{_LIMITS}}}]\n")
    return roster.keys(target_of(roster, "groq/m"), NOW)


def admitting(keys: Keys, turn: tuple[int, bool] | None = None) -> Callable[[], None]:
    """One admission and its end, a tenth of a millisecond after the one before."""
    now, cost = NOW, Cost(100, 0)

    def admit() -> None:
        nonlocal now
        now += 100_000
        admitted = keys.admit(cost, now, (), turn)
        assert admitted is not None
        admitted[0].quota.settle(admitted[1], None, now)

    return admit


def microseconds(what: Callable[[], object], number: int = 20_000) -> float:
    """CPU time of one call."""
    return min(timeit.repeat(what, number=number, repeat=5, timer=time.process_time)) / number * 1e6


def main() -> None:
    """Print the table."""
    rows = [(f"{count} keys", microseconds(admitting(keys_of(count)))) for count in (1, 2, 16, 17, 1000)]
    spent = keys_of(1000)
    for candidate in spent.candidates[:990]:
        candidate.quota.cool(NOW + HOUR)
    rows.append(("1000 keys, 990 spent", microseconds(admitting(spent))))
    rows += [(f"{count} keys, a conversation", microseconds(admitting(keys_of(count), _TURN))) for count in (2, 1000)]
    rows.append(("finding the conversation", microseconds(lambda: turn_of(_BODY))))
    sys.stdout.write("".join(f"{name:28} {took:7.2f} us\n" for name, took in rows))


if __name__ == "__main__":
    main()
