"""What is wrong with the section `traces`, and where spans go by it.

No message repeats the URL: a token may have been pasted there.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit

from sidecar.core.config import Config, Known, Problem

_PATH = "/v1/traces"  # OTLP/HTTP: what a collector's own address is followed by
_PLACE = "traces.endpoint"


def collector(endpoint: str) -> str:
    """The URL that spans are posted to: one without a path is a collector's own address."""
    return endpoint.rstrip("/") + _PATH if urlsplit(endpoint).path in ("", "/") else endpoint


def trace_problems(config: Config, known: Known) -> Iterator[Problem]:
    """Everything wrong with `traces`."""
    endpoint = config.traces.endpoint
    if endpoint is None:
        if config.traces.sample != 1:
            yield Problem("traces.sample", "is of no use without traces.endpoint", "remove it, or name a collector")
        return
    url = _split(endpoint)
    if url is None or url.scheme not in ("http", "https") or not url.hostname:
        yield Problem(_PLACE, "is not an http or https URL", "such as http://otel-collector:4318")
    elif url.username is not None or url.password is not None:
        yield Problem(_PLACE, "holds credentials", "put them into the variable OTEL_EXPORTER_OTLP_HEADERS")
    elif "?" in endpoint or "#" in endpoint:
        yield Problem(_PLACE, "holds a query or a fragment", "end it with the path, such as /v1/traces")
    if not known.can_trace:
        yield Problem(_PLACE, "needs OpenTelemetry, which is not installed", 'pip install "sidecar[otel]"')


def _split(text: str) -> SplitResult | None:
    if not text.isascii() or not text.isprintable() or " " in text:
        return None
    try:
        url = urlsplit(text)
        return url if url.port != 0 else None  # reading the port is what checks it
    except ValueError:
        return None
