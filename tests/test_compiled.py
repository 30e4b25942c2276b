"""What is compiled: the list in pyproject.toml, what its modules may not hold, and that nothing else is tested instead.

The same sources run both ways, so each rule is one that only the compiled way breaks, in silence or at a price.
"""

from __future__ import annotations

import ast
import importlib
import tomllib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LISTED: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["sidecar"]["compiled"]

# base class or decorator -> what becomes of it in a compiled module
UNFIT = {
    "Struct": "loses the types of its fields, and its keywords (frozen, omit_defaults) with them",
    "dataclass": "is built by generated code that stays interpreted; a class with __slots__ costs a sixth",
    "decoded class": "tells msgspec no more of its fields than that they are lists or tuples",
    "Protocol of asyncio": "is no native class, so its __slots__ are not kept",
}
_ASYNCIO = {"Protocol", "BufferedProtocol", "BaseProtocol", "DatagramProtocol", "SubprocessProtocol"}


def _named(node):
    """The dotted name of a base class or of a decorator, whatever it is called or indexed with."""
    while isinstance(node, (ast.Call, ast.Subscript)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return ast.unparse(node)


def _origins(tree):
    """The full name of each name that the module imports."""
    found: dict[str | None, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
        elif isinstance(node, ast.Import):
            found |= {each.asname: each.name for each in node.names if each.asname}
    return found


def unfit(source):
    """(line, why) of each class that may not be compiled."""
    tree = ast.parse(source)
    origins = _origins(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for each in (*node.bases, *node.decorator_list):
                first, dot, rest = _named(each).partition(".")
                name = origins.get(first, first) + dot + rest
                module, _, last = name.rpartition(".")
                if module.split(".")[0] == "asyncio" and last in _ASYNCIO:
                    last = "Protocol of asyncio"
                elif module.split(".")[0] not in ("msgspec", "dataclasses"):
                    continue
                if last in UNFIT:
                    found.append((node.lineno, f"{node.name}: a {last} {UNFIT[last]}"))
    return found + list(_decoded(tree))


def _decoded(tree):
    """(line, why) of each class of the module that a decoder fills in."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _named(node).rpartition(".")[2] in ("Decoder", "decode", "convert"):
            for each in ast.walk(node):
                if isinstance(each, ast.Name) and each.id in own:
                    yield each.lineno, f"{each.id}: a decoded class {UNFIT['decoded class']}"


def faults(listed, root):
    """What is wrong with the list itself."""
    found = [f"{name} is listed twice" for name in dict.fromkeys(listed) if listed.count(name) > 1]
    return found + [f"there is no {name}" for name in listed if not (root / "sidecar" / f"{name}.py").is_file()]


def test_each_module_is_there_and_listed_once():
    assert faults(LISTED, ROOT) == []


@pytest.mark.parametrize("name", LISTED)
def test_what_is_compiled_can_be(name):
    assert unfit((ROOT / "sidecar" / f"{name}.py").read_bytes()) == []


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("import msgspec\nclass A(msgspec.Struct): ...", "Struct"),
        ("import msgspec\nclass A(msgspec.Struct, frozen=True): ...", "Struct"),
        ("from msgspec import Struct as S\nclass A(S): ...", "Struct"),
        ("import dataclasses\n@dataclasses.dataclass\nclass A: ...", "dataclass"),
        ("from dataclasses import dataclass\n@dataclass(frozen=True)\nclass A: ...", "dataclass"),
        ("def f():\n    from dataclasses import dataclass\n    @dataclass\n    class A: ...", "dataclass"),
        ("from typing import NamedTuple\nclass A(NamedTuple): ...\nd = msgspec.json.Decoder(list[A])", "decoded class"),
        ("class A: ...\ndef f(b): return json.decode(b, type=A)", "decoded class"),
        ("import asyncio\nclass A(asyncio.Protocol): ...", "Protocol of asyncio"),
        ("import asyncio\nclass A(B, asyncio.BufferedProtocol): ...", "Protocol of asyncio"),
        ("from asyncio.protocols import BufferedProtocol\nclass A(BufferedProtocol): ...", "Protocol of asyncio"),
        ("import asyncio as a\nclass A(a.Protocol): ...", "Protocol of asyncio"),
    ],
)
def test_each_rule_can_fail(source, kind):
    ((_, why),) = unfit(source)
    assert why.startswith(f"A: a {kind} ")


@pytest.mark.parametrize(
    "source",
    [
        "class A: ...",
        "from typing import NamedTuple, Protocol\nclass A(NamedTuple): ...\nclass B(Protocol): ...",
        "from typing import Generic, TypeVar\nT = TypeVar('T')\nclass A(Generic[T]): ...",
        "import msgspec\ndecoder = msgspec.json.Decoder(dict[str, msgspec.Raw])\nclass A: ...",
    ],
)
def test_and_what_is_fit_passes(source):
    assert unfit(source) == []


def test_the_list_can_be_wrong(tmp_path):
    (tmp_path / "sidecar").mkdir()
    (tmp_path / "sidecar" / "here.py").touch()
    assert faults(["here"], tmp_path) == []
    assert faults(["here", "gone", "here"], tmp_path) == ["here is listed twice", "there is no gone"]


def kind_of(folder, name):
    """How a module of that folder would be loaded: compiled where it lies beside its source, and else as it is."""
    found = [each for each in EXTENSION_SUFFIXES if (folder / f"{name}{each}").is_file()]
    return found[0] if found else ".py"


def test_a_compiled_tree_is_known_by_one_module(tmp_path):
    (tmp_path / "quota.py").touch()
    assert kind_of(tmp_path, "quota") == ".py"
    (tmp_path / f"quota{EXTENSION_SUFFIXES[0]}").touch()
    assert kind_of(tmp_path, "quota") == EXTENSION_SUFFIXES[0]


@pytest.mark.parametrize("name", LISTED)
def test_what_runs_here_is_compiled_as_a_whole_or_not_at_all(name):
    module = importlib.import_module(f"sidecar.{name.replace('/', '.')}")
    assert module.__file__ is not None
    assert Path(module.__file__).is_relative_to(ROOT)
    assert module.__file__.endswith(kind_of(ROOT / "sidecar" / "core", "quota"))
