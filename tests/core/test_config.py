"""The fields and their defaults, and that every field is in the example and in the reference."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import yaml
from msgspec import inspect

from sidecar.core import config as module
from sidecar.core.config import Address, Config, is_loopback
from sidecar.core.units import parse_duration, parse_size
from sidecar.yamlfile import read_yaml

ROOT = Path(__file__).parents[2]


READERS: dict[str, Callable[[str], object]] = {
    "duration": parse_duration,
    "size": parse_size,
    "address": str,
    "model": str,
}


def fields_of(wanted, path=""):
    """Every field an operator can write: (path, field), `[]` for the entries of a list."""
    if isinstance(wanted, inspect.Metadata):
        extra = wanted.extra or {}
        return [] if "kind" in extra or "one_or_many" in extra else fields_of(wanted.type, path)
    if isinstance(wanted, inspect.VarTupleType):
        return fields_of(wanted.item_type, f"{path}[]")
    if not isinstance(wanted, inspect.StructType):
        return []
    found = []
    for field in wanted.fields:
        where = f"{path}.{field.encode_name}" if path else field.encode_name
        found += [(where, field), *fields_of(field.type, where)]
    return found


FIELDS = dict(fields_of(inspect.type_info(Config)))
LEAVES = [path for path in FIELDS if not any(other.startswith((f"{path}.", f"{path}[]")) for other in FIELDS)]


def test_the_fields_are_found():
    assert {"listen", "providers[].keys[].env", "providers[].limits[].ash", "wait.max", "auth.tokens[].file"} <= set(
        LEAVES
    )


def test_H6_defaults_are_golden():
    """A changed default is a changed behaviour: this list changes with the change log, never by the way."""
    defaults = {
        path: field.default for path, field in FIELDS.items() if path in LEAVES and not path.startswith(("p", "m"))
    }
    second = 10**9
    assert {path: value for path, value in defaults.items() if value is not msgspec.NODEFAULT} == {
        "listen": (Address("127.0.0.1", 8787), Address("::1", 8787, is_optional=True)),
        "admin": Address("127.0.0.1", 8788),
        "wait.max": 20 * second,
        "wait.queue": 1000,
        "retry.attempts": 6,
        "retry.base": second // 4,
        "retry.cap": 10 * second,
        "retry.budget": 0.1,
        "retry.ambiguous": "fallback",
        "retry.strict": False,
        "timeouts.connect": 2 * second,
        "timeouts.headers": 30 * second,
        "timeouts.first_content": 60 * second,
        "timeouts.idle": 60 * second,
        "timeouts.answer": 300 * second,
        "timeouts.total": 600 * second,
        "timeouts.ping": None,
        "timeouts.client_headers": 10 * second,
        "timeouts.client_body": 30 * second,
        "timeouts.client_idle": 300 * second,
        "body.max_bytes": 64 * 1024 * 1024,
        "inflight.max": 4000,
        "inflight.bytes": 256 * 1024 * 1024,
        "hedge.after": None,
        "dns.resolver": "auto",
        "cache.enabled": False,
        "cache.ttl": 3600 * second,
        "cache.max_bytes": 64 * 1024 * 1024,
        "cache.only_deterministic": True,
        "state.path": None,
        "log.sample": 1.0,
        "log.slow": 30 * second,
        "traces.endpoint": None,
        "traces.sample": 1.0,
        "share.url": None,
        "share.replicas": 1,
        "share.password": None,
        "share.prefix": "sidecar",
        "auth.tokens[].env": None,
        "auth.tokens[].file": None,
        "auth.hosts": (),
        "auth.origins": (),
    }


def test_C15_both_loopback_addresses_by_default():
    four, six = Config().listen
    assert (str(four), str(six)) == ("127.0.0.1:8787", "[::1]:8787")
    assert (four.is_optional, six.is_optional) == (False, True)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("10.0.0.1", False)],
)
def test_is_loopback(host, expected):
    assert is_loopback(Address(host, 1)) is expected


def structs():
    return [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, msgspec.Struct)]


@pytest.mark.parametrize("struct", [each for each in structs() if each not in (msgspec.Struct, Address)])
def test_what_an_operator_writes_is_frozen_and_closed(struct):
    assert struct.__struct_config__.frozen
    assert struct.__struct_config__.forbid_unknown_fields


def test_everything_yaml_holds_every_field_and_no_other():
    lines = read_yaml((ROOT / "conf/everything.yaml").read_text()).lines
    written = {re.sub(r"\[[0-9]+\]", "[]", path) for path in lines} - {""}
    assert {path for path in written if not path.endswith("[]")} == set(FIELDS)


@pytest.mark.parametrize("path", LEAVES)
def test_the_reference_tells_each_field(path):
    rows = [row for row in (ROOT / "docs/configuration.md").read_text().splitlines() if row.startswith(f"| `{path}` |")]
    assert len(rows) == 1
    default = FIELDS[path].default
    if isinstance(default, bool | int | float | str | Address):
        told = rows[0].split("|")[2].strip().removeprefix("`").removesuffix("`")
        kind = (getattr(FIELDS[path].type, "extra", None) or {}).get("kind", "")
        read = READERS.get(kind, yaml.safe_load)
        assert read(told) == (str(default) if isinstance(default, Address) else default)
