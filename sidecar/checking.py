"""`sidecar check` and `sidecar env`: what a configuration amounts to, and how an application is pointed at it."""

from __future__ import annotations

import time

import click

from sidecar.app import Prepared, Source, prepare
from sidecar.catalog_file import read_catalog
from sidecar.core.check_report import notes, report
from sidecar.core.variables import as_lines, variables
from sidecar.serving import OK, USAGE, complain, environment


def check(path: str | None) -> int:
    """Print the effective configuration, or everything that is wrong with it."""
    prepared = _prepared(path)
    if prepared is None:
        return USAGE
    for line in report(prepared.snapshot):
        click.echo(line)
    for warning in (*prepared.warnings, *notes(prepared.snapshot)):
        click.echo(f"warning  {warning}")
    return OK


def env(path: str | None, shell: str) -> int:
    """Print export lines. Without any key configured, the default address is as good."""
    prepared = _prepared(path) if path is not None else None
    if path is not None and prepared is None:
        return USAGE
    config = prepared.config if prepared is not None else None
    names = [provider.name for provider in config.providers] if config is not None else None
    address = str(config.listen[0]) if config is not None else "127.0.0.1:8787"
    for line in as_lines(variables(address, names), shell):
        click.echo(line)
    return OK


def _prepared(path: str | None) -> Prepared | None:
    prepared = prepare(Source(path, environment()), read_catalog(), time.time_ns())
    if isinstance(prepared, list):
        complain(prepared)
        return None
    return prepared
