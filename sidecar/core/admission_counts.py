"""What the injector counts, and its text for Prometheus (exposition format 0.0.4).

Written out here and not by a library: there are six families, their labels are known beforehand but for one, and a
webhook that starts in a tenth of a second is ready for the first pod. Nothing is looked up twice for an admission.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from sidecar.core.admission import Result
from sidecar.core.limits import SECOND

_BOUNDS_US = (100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000)
_MOST_REASONS = 32  # beyond: `other`; a label must not grow with what pods hold
_PREFIX = "sidecar_injector"


class Counts:
    """Admissions of one process since its start."""

    def __init__(self) -> None:
        self._results = dict.fromkeys(Result, 0)
        self._skips: Counter[str] = Counter()
        self._buckets = [0] * (len(_BOUNDS_US) + 1)
        self._sum_ns = 0
        self.rotations: Counter[str] = Counter()  # by what was done: create, introduce, promote, leaf, bundle, ...
        self.api_errors = 0

    def __repr__(self) -> str:
        seen = {result.value: count for result, count in self._results.items() if count}
        return f"<Counts {seen}>"

    def admitted(self, result: Result, reason: str, duration_ns: int) -> None:
        """Count one admission; `reason` matters for skipped ones only."""
        self._results[result] += 1
        if result is Result.SKIPPED:
            is_known = reason in self._skips or len(self._skips) < _MOST_REASONS
            self._skips[reason if is_known else "other"] += 1
        self._sum_ns += duration_ns
        for place, bound_us in enumerate(_BOUNDS_US):
            if duration_ns <= bound_us * 1000:
                self._buckets[place] += 1
                return
        self._buckets[-1] += 1

    def total(self, result: Result) -> int:
        """Admissions that ended so."""
        return self._results[result]

    def text(self, expiries_ns: Mapping[str, int | None], is_ready: bool, uninjected: int | None) -> bytes:
        """All of it. `expiries_ns`: name of a certificate -> Unix ns, None where there is none yet.

        `uninjected`: pods that ask for a sidecar and have none; None when nobody looks.
        """
        return "".join(line + "\n" for line in self._lines(expiries_ns, is_ready, uninjected)).encode()

    def _lines(self, expiries_ns: Mapping[str, int | None], is_ready: bool, uninjected: int | None) -> Iterator[str]:
        yield from _head("admissions_total", "counter", "Admissions, by how they ended.")
        for result, count in self._results.items():
            yield f'{_PREFIX}_admissions_total{{result="{result.value}"}} {count}'
        yield from _head("skipped_total", "counter", "Pods left as they were, by reason.")
        for reason, count in sorted(self._skips.items()):
            yield f'{_PREFIX}_skipped_total{{reason="{_escaped(reason)}"}} {count}'
        yield from self._histogram()
        yield from _head("certificate_expiry_timestamp_seconds", "gauge", "When a certificate expires, Unix time.")
        for name, expiry_ns in expiries_ns.items():
            if expiry_ns is not None:
                seconds = expiry_ns // SECOND
                yield f'{_PREFIX}_certificate_expiry_timestamp_seconds{{certificate="{_escaped(name)}"}} {seconds}'
        yield from _head("certificate_steps_total", "counter", "Changes of certificates and bundles, by kind.")
        for kind, count in sorted(self.rotations.items()):
            yield f'{_PREFIX}_certificate_steps_total{{step="{_escaped(kind)}"}} {count}'
        yield from _head("api_errors_total", "counter", "Calls to the Kubernetes API that failed.")
        yield f"{_PREFIX}_api_errors_total {self.api_errors}"
        yield from _head("ready", "gauge", "1 when /readyz says so.")
        yield f"{_PREFIX}_ready {int(is_ready)}"
        if uninjected is not None:
            yield from _head("uninjected_pods", "gauge", "Pods that ask for a sidecar and have none.")
            yield f"{_PREFIX}_uninjected_pods {uninjected}"

    def _histogram(self) -> Iterator[str]:
        name = f"{_PREFIX}_admission_duration_seconds"
        yield from _head("admission_duration_seconds", "histogram", "From the whole body read to the answer made.")
        seen = 0
        for bound_us, count in zip(_BOUNDS_US, self._buckets, strict=False):
            seen += count
            yield f'{name}_bucket{{le="{bound_us / 1_000_000:g}"}} {seen}'
        seen += self._buckets[-1]
        yield f'{name}_bucket{{le="+Inf"}} {seen}'
        yield f"{name}_sum {self._sum_ns / SECOND:.9g}"
        yield f"{name}_count {seen}"


def _head(name: str, kind: str, meaning: str) -> Iterator[str]:
    yield f"# HELP {_PREFIX}_{name} {meaning}"
    yield f"# TYPE {_PREFIX}_{name} {kind}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
