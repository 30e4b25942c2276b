"""The shape of the house: layers, what core may know, sizes, and what tests may not do (docs: CONTRIBUTING.md).

Everything here reads the source as a tree and runs none of it. A new module needs a rank in `RANKS`.
"""

import ast
import graphlib
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A module may import what has a lower rank, and what is of its own group.
RANKS = [
    {"core": ["core"], "version": [""], "extensible": ["extensible"]},
    {"interfaces": ["interfaces"]},
    {room: [room] for room in ("edge", "upstream", "store", "admin", "inject", "sim")},
    {
        "gateway": [
            "gateway",
            "attempt",
            "caching",
            "delivery",
            "flight",
            "flowing",
            "hedge",
            "job",
            "judging",
            "relay",
            "waiting",
            "models",
        ]
    },
    {
        "app": [
            "app",
            "answers",
            "catalog_file",
            "clock",
            "credentials",
            "leasing",
            "loading",
            "observing",
            "persistence",
            "preparing",
            "scraping",
            "tracing",
            "yamlfile",
            "zones",
        ]
    },
    {
        "commands": [
            "cli",
            "__main__",
            "checking",
            "demo",
            "doctor",
            "injecting",
            "probing",
            "rehearsing",
            "running",
            "serving",
            "simulating",
            "watching",
        ]
    },
]
PLACES = {name: (rank, group) for rank, groups in enumerate(RANKS) for group, names in groups.items() for name in names}

# Values in, values out. Of datetime and email.utils only what takes the time as an argument (see the calls below).
PURE = {
    *(
        "__future__",
        "abc",
        "array",
        "base64",
        "binascii",
        "bisect",
        "collections",
        "collections.abc",
        "contextlib",
        "copy",
    ),
    *("dataclasses", "datetime", "decimal", "difflib", "email.utils", "enum", "fnmatch", "functools", "hashlib"),
    *("heapq", "html", "ipaddress", "itertools", "json", "math", "msgspec", "operator", "re", "string", "struct"),
    *("types", "typing", "unicodedata", "urllib.parse", "zlib"),
}
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "__import__"}
IMPURE_METHODS = {"now", "utcnow", "today", "getenv", "urandom", "read_text", "read_bytes", "write_text", "write_bytes"}

# module -> why it may import within a function
LAZY = {
    "admin.metrics": "prometheus_client takes 30 ms and 5 MB, which a process that nobody scrapes need not pay",
    "app": "the client of the store and the SDK of traces take 100 ms each, which those without either need not pay",
    "cli": "each command loads only what it needs: `sidecar env` need not wait for aiohttp",
    "demo": "the openai SDK plays the application; it is installed for development only",
    "upstream.resolver": "c-ares takes 60 ms to load, which `dns.resolver: system` need not pay",
}


def _trees(folder):
    """(dotted name below `folder`, tree) of each module in it."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT / folder).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), ast.parse(path.read_bytes())


SOURCES = dict(_trees("sidecar"))
TESTS = dict(_trees("tests"))


def _imports(tree):
    """Every module that is imported, anywhere in the tree, as a dotted name; `from a import b` gives a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _own_imports(name, tree=None):
    """The modules of this package that the module `name` imports, without the package's name."""
    for imported in _imports(tree or SOURCES[name]):
        below = imported.removeprefix("sidecar").removeprefix(".")
        if imported.split(".")[0] == "sidecar" and below in SOURCES and below != name:
            yield below


def _place(name):
    top = name.split(".")[0]
    assert top in PLACES, f"sidecar/{top} has no rank: give it one in RANKS"
    return PLACES[top]


@pytest.mark.parametrize("name", SOURCES)
def test_imports_point_down(name):
    rank, group = _place(name)
    for imported in _own_imports(name):
        other_rank, other_group = _place(imported)
        assert other_rank < rank or other_group == group, f"{name} (rank {rank}) imports {imported} ({other_rank})"


def _at_run_time(tree):
    """The module without what is imported for the type checker alone: two types may know each other."""
    body = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    return ast.Module(body, [])


def test_there_is_no_circle_of_imports():
    # a package's own __init__ is imported with each of its modules; ours hold nothing but a docstring or the version
    packages = {"", *(name.rpartition(".")[0] for name in SOURCES)}
    graph = {name: set(_own_imports(name, _at_run_time(tree))) - packages for name, tree in SOURCES.items()}
    assert list(graphlib.TopologicalSorter(graph).static_order())


CORE = [name for name in SOURCES if name.split(".")[0] == "core"]


@pytest.mark.parametrize("name", CORE)
def test_core_imports_only_what_is_pure(name):
    for node in ast.walk(SOURCES[name]):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        else:
            continue
        for module in modules:
            assert module in PURE or module.startswith("sidecar.core"), f"line {node.lineno}: {module}"


@pytest.mark.parametrize("name", CORE)
def test_core_awaits_nothing_and_asks_nobody(name):
    for node in ast.walk(SOURCES[name]):
        assert not isinstance(node, (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)), node.lineno
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name):
                assert called.id not in IMPURE_CALLS, f"line {node.lineno}: {called.id}()"
            if isinstance(called, ast.Attribute):
                assert called.attr not in IMPURE_METHODS, f"line {node.lineno}: .{called.attr}()"


def _lines(name):
    path = ROOT / "sidecar" / Path(*name.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return path.read_bytes().count(b"\n")


def test_half_of_the_lines_decide(capsys):
    total = sum(map(_lines, SOURCES))
    core = sum(map(_lines, CORE))
    with capsys.disabled():
        print(f"\nlines in sidecar/: {total}, of which core/ {core} ({100 * core / total:.1f} %)")  # noqa: T201
    assert core * 2 >= total


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@pytest.mark.parametrize("name", SOURCES)
def test_files_and_functions_are_small(name):
    assert _lines(name) <= 300
    for node in ast.walk(SOURCES[name]):
        if isinstance(node, FUNCTIONS):
            assert (node.end_lineno or 0) - node.lineno < 50, f"{node.name} is longer than 50 lines"


@pytest.mark.parametrize("name", SOURCES)
def test_every_file_opens_with_its_law(name):
    assert ast.get_docstring(SOURCES[name]), "a file opens with a docstring: what it decides, what it refuses to know"


@pytest.mark.parametrize("name", [name for name in SOURCES if name not in LAZY])
def test_imports_stand_at_the_top(name):
    for node in ast.walk(SOURCES[name]):
        if isinstance(node, FUNCTIONS):
            inner = [each.lineno for each in ast.walk(node) if isinstance(each, (ast.Import, ast.ImportFrom))]
            assert not inner, f"{node.name}: import in line {inner}"


SKIPS = {"skip", "skipif", "importorskip", "xfail"}


@pytest.mark.parametrize("name", TESTS)
def test_tests_do_not_sleep_patch_or_skip(name):
    for node in ast.walk(TESTS[name]):
        line = f"line {getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "sleep":
            # sleep(0) does not wait: it lets the others run once
            assert ast.unparse(node) == "asyncio.sleep(0)", f"{line}: a test never sleeps"
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("pytest", "pytest.mark", "unittest"):
            assert node.attr not in SKIPS, f"{line}: a test is run or deleted"
        if isinstance(node, ast.arg):
            assert node.arg != "monkey" + "patch", f"{line}: a test never patches"
    assert not {"unittest.mock", "mock"} & set(_imports(TESTS[name])), "a test never patches"


def _texts():
    """(path, text) of each file that git would take: all but what .gitignore names, and binaries."""
    ignored = [line.strip().rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line.strip()]
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        if not path.is_file() or any(fnmatch(part, glob) for part in parts for glob in [".git", *ignored]):
            continue
        try:
            yield "/".join(parts), path.read_text()
        except UnicodeDecodeError:
            continue


# brackets keep the patterns from finding themselves
UNFINISHED = re.compile(r"\b(TO[D]O|FIX[M]E|XX[X])\b|NotImplemented[E]rror")
REGISTRY = re.compile(r"://[^\s/]*(?:pypi|python[h]osted|npm[j]s|debian)[^\s/]*")
MACHINE = re.compile(r"(?<![\w.])/(?:wor[k]|roo[t]|hom[e]/\w+|tmp/ven[v])/")


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (UNFINISHED, "what is not done is in an issue, not in the code"),
        (REGISTRY, "which registry is used is each machine's own affair"),
        (MACHINE, "a path of one machine"),
    ],
)
def test_no_file_holds(pattern, why):
    found = [f"{path}: {match[0]!r}" for path, text in _texts() if (match := pattern.search(text))]
    assert not found, f"{why}: {found}"
