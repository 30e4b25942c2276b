"""The options that turn a benchmark into a load test of someone else's deployment: where, as whom, how much."""

from __future__ import annotations

import argparse
from urllib.parse import urlsplit

from lib_gateways import Door
from lib_report import Options
from lib_upstream import MODEL


class Foreign(Options):
    """The command line with `--url` and what belongs to it."""

    url: str | None
    pid: int | None
    header: list[str]
    ca: str
    model: str
    connections: int
    seconds: int
    rate: float
    tokens: int


def foreign_options(made: argparse.ArgumentParser) -> Foreign:
    """Read the command line, with these options added."""
    group = made.add_argument_group("load test of another endpoint")
    group.add_argument("--url", help="chat completions there; a bare origin means /v1/chat/completions")
    group.add_argument("--pid", type=int, help="the process there, on this machine, whose processor time is counted")
    group.add_argument("--header", action="append", default=[], metavar="NAME: VALUE", help="one more header")
    group.add_argument("--ca", default="", metavar="FILE", help="authorities to trust there, instead of the system's")
    group.add_argument("--model", default=MODEL, help="the model that is asked for (default: %(default)s)")
    group.add_argument("--connections", type=int, default=16, help="at once (default: %(default)s)")
    group.add_argument("--seconds", type=int, default=10, help="how long (default: %(default)s)")
    group.add_argument("--rate", type=float, default=10.0, help="latency.py: requests a second (default: %(default)s)")
    group.add_argument("--tokens", type=int, default=100, help="stream.py: max_tokens (default: %(default)s)")
    return made.parse_args(namespace=Foreign())


def foreign_door(options: Foreign) -> Door:
    """The endpoint that is meant."""
    assert options.url is not None
    parts = urlsplit(options.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SystemExit(f"--url {options.url}: expected http://HOST or https://HOST, with or without a path")
    url = options.url if parts.path.strip("/") else options.url.rstrip("/") + "/v1/chat/completions"
    pairs = (each.partition(":") for each in options.header)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Door(url, options.pid, headers, is_foreign=True, authority=options.ca)
