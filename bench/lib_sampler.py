"""`sidecar serve` with a sampler inside: `python bench/lib_sampler.py FILE serve --config ...`.

Whenever a tick of processor time has passed (ITIMER_PROF) the stack of our functions is noted, outermost first. SIGUSR1
begins anew, SIGUSR2 ends and writes {stack: times} to FILE. A handler runs between two bytecodes, so what C code takes
counts for the function that called it, and what the event loop takes before a callback for that callback's first line:
such a stack is marked as the loop's.
"""

from __future__ import annotations

import dis
import json
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

PERIOD_S = 0.001  # or a tick of the kernel's, mostly 4 ms
LOOP = "loop"
_RESUME = dis.opmap["RESUME"]  # where a function begins, or a coroutine goes on
_OURS = f"{Path(__file__).parents[1] / 'sidecar'}/"
_OUTER = tuple(f"{_OURS}{name}" for name in ("cli.py", "serving.py", "__main__.py"))  # around the event loop


class Sampler:
    """Counts stacks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stacks: Counter[str] = Counter()
        signal.signal(signal.SIGPROF, self._note)
        signal.signal(signal.SIGUSR1, self._begin)
        signal.signal(signal.SIGUSR2, self._end)

    def _note(self, number: int, frame: FrameType | None) -> None:
        names: list[str] = []
        is_fresh = frame is not None and frame.f_code.co_code[frame.f_lasti] == _RESUME
        while frame is not None:
            code = frame.f_code
            if code.co_filename.startswith(_OURS) and not code.co_filename.startswith(_OUTER):
                names.append(f"{code.co_filename.removeprefix(_OURS).removesuffix('.py')}:{code.co_name}")
            frame = frame.f_back
        if is_fresh and len(names) == 1:
            names.insert(0, LOOP)
        self._stacks[";".join(reversed(names)) or LOOP] += 1

    def _begin(self, number: int, frame: FrameType | None) -> None:
        self._stacks.clear()
        signal.setitimer(signal.ITIMER_PROF, PERIOD_S, PERIOD_S)

    def _end(self, number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(self._stacks))
        fresh.replace(self._path)


def main() -> None:
    """Run the sidecar's own command line, with the sampler at hand."""
    path = Path(sys.argv.pop(1))
    del sys.path[0]  # the scripts of this folder are no modules of the sidecar's
    from sidecar.cli import main as serve  # after the path is right

    Sampler(path)
    serve()


if __name__ == "__main__":
    main()
