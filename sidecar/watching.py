"""`sidecar status`: asks a running sidecar's admin port for its status and prints it, once or again and again.

Exit codes: 0; 64 for a wrong address, configuration or token; 69 when nobody answers there (EX_UNAVAILABLE of
sysexits.h: neither the command line nor the program is at fault). No proxy is asked.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from http.client import HTTPConnection, HTTPException
from itertools import islice
from typing import NamedTuple

from sidecar.catalog_file import read_catalog
from sidecar.core.config import Address, Config
from sidecar.core.config_shape import read_address
from sidecar.core.status_table import Line, painted, read, table
from sidecar.credentials import read_secrets
from sidecar.loading import load

OK, USAGE, UNAVAILABLE = 0, 64, 69
_PATIENCE_S = 5
_EVERY_S = 2.0
_CLEAR = "\x1b[H\x1b[J"


class Wish(NamedTuple):
    """How the status is wanted."""

    as_json: bool
    again: bool


class Asked(NamedTuple):
    """What came of asking: a body, or what is wrong in words, with the exit code of that."""

    body: bytes
    problem: str = ""
    code: int = OK


class _Place(NamedTuple):
    address: Address
    token: str | None


def status(path: str | None, admin: str | None, wish: Wish) -> int:
    """Print the status of the sidecar that `path` configures or that listens at `admin`; the exit code."""
    place = _place(path, admin)
    if isinstance(place, list):
        sys.stderr.write("".join(f"sidecar: {line}\n" for line in place))
        return USAGE
    try:
        code = _print(place, wish)
        while wish.again and code == OK:
            time.sleep(_EVERY_S)
            _print(place, wish)
    except KeyboardInterrupt:
        return OK
    except BrokenPipeError:  # `sidecar status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    return code


def _print(place: _Place, wish: Wish) -> int:
    asked = ask(place.address, place.token)
    if asked.problem:
        sys.stderr.write(f"sidecar: {asked.problem}\n")
        return asked.code
    if wish.as_json:
        sys.stdout.write(asked.body.decode() + "\n")
    else:
        told = read(asked.body)
        if told is None:
            sys.stderr.write(f"sidecar: what http://{place.address}/status.json says is no status of a sidecar\n")
            return USAGE
        _show([*table(told, str(place.address))], wish)
    sys.stdout.flush()
    return OK


def _show(lines: list[Line], wish: Wish) -> None:
    is_terminal = sys.stdout.isatty()
    is_coloured = is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    texts = [painted(line, is_coloured) for line in lines]
    if wish.again and is_terminal:
        most = shutil.get_terminal_size().lines - 1
        left_out = len(texts) - most
        if left_out > 0:
            texts = [*islice(texts, most - 1), f"… {left_out + 1} more lines; a larger window shows them"]
        sys.stdout.write(_CLEAR)
    sys.stdout.write("\n".join(texts) + "\n")


def ask(address: Address, token: str | None) -> Asked:
    """GET /status.json there."""
    headers = {"accept": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    connection = HTTPConnection(_reached(address.host), address.port, timeout=_PATIENCE_S)
    try:
        connection.request("GET", "/status.json", headers=headers)
        with connection.getresponse() as response:
            body, code = response.read(), response.status
    except (OSError, HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        hint = "is `sidecar serve` running, and is that its `admin` address?"
        return Asked(b"", f"no sidecar answers at http://{address} ({why}); {hint}", UNAVAILABLE)
    finally:
        connection.close()
    if code == 401:
        hint = "name the configuration with --config, or set SIDECAR_TOKEN"
        return Asked(b"", f"http://{address} asks for one of its tokens (auth.tokens); {hint}", USAGE)
    if code != 200:
        return Asked(b"", f"http://{address}/status.json answers {code}; is that a sidecar's `admin` address?", USAGE)
    return Asked(body)


def _reached(host: str) -> str:
    """Where a host that stands for all interfaces is reached from here."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def _place(path: str | None, admin: str | None) -> _Place | list[str]:
    """The admin address and a token for it; or what is wrong, a line each."""
    token = os.environ.get("SIDECAR_TOKEN")
    config: Config | None = None
    if path is not None:
        loaded = load(path, os.environ, read_catalog())
        if loaded.config is None:
            return [str(problem) for problem in loaded.problems]
        config = loaded.config
        tokens = read_secrets(config, os.environ).tokens
        token = token or next((each.reveal() for each in tokens if each is not None), None)
    if admin is None:
        return _Place((config or Config()).admin, token)
    address = read_address(admin)
    if address is None:
        return [f"--admin {admin}: write an IP address and a port, as in 127.0.0.1:8788"]
    return _Place(address, token)
