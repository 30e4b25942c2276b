"""Renders the chart: as much of Go's templates as the chart may use, so that the tests need no helm.

Actions: a pipeline, `if`, `else`, `end`; functions `quote`, `toYaml`, `nindent`, `default`, `eq`, `not`, `or`; fields
of `.Values`, `.Release` and `.Chart`. Whatever else a template has is an error here, so the chart keeps to this.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "k8s" / "helm" / "sidecar-injector"

_ACTION = re.compile(r"[ \t\n]*\{\{-(.*?)\}\}|\{\{(?!-)(.*?)\}\}", re.DOTALL)
_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|\(|\)|\||\.[A-Za-z][\w.]*|-?\d+|[A-Za-z]+)')


def render(values=None, namespace="sidecar-injector"):
    """The objects of all templates, with values laid over the chart's own."""
    merged = overlaid(yaml.safe_load((CHART / "values.yaml").read_text()), values or {})
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    scope = {
        "Values": merged,
        "Release": {"Namespace": namespace, "Name": "sidecar-injector"},
        "Chart": {"AppVersion": chart["appVersion"]},
    }
    found = []
    for path in sorted((CHART / "templates").glob("*.yaml")):
        found += [each for each in yaml.safe_load_all(rendered(path.read_text(), scope)) if each]
    return found


def overlaid(below, above):
    """As helm lays values over others: mappings are merged, everything else is replaced."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: overlaid(below[key], value) if key in below else value for key, value in above.items()}


def rendered(template, scope):
    """The text of one template. A `{{-` takes the white space before it away, as in Go."""
    pieces: list[str] = []
    open_ifs: list[bool] = []
    at = 0
    for match in _ACTION.finditer(template):
        before = template[at : match.start()]
        at = match.end()
        action = (match[1] or match[2]).strip()
        assert not action.endswith("-"), f"{action}: only the left side is trimmed"
        if all(open_ifs):
            pieces.append(before)
        word, _, rest = action.partition(" ")
        if word == "if":
            open_ifs.append(bool(evaluated(rest, scope)) if all(open_ifs) else False)
        elif word == "else":
            assert not rest, action
            open_ifs[-1] = not open_ifs[-1] if all(open_ifs[:-1]) else False
        elif word == "end":
            open_ifs.pop()
        elif all(open_ifs):
            pieces.append(_shown(evaluated(action, scope)))
    assert not open_ifs, "an `if` without its `end`"
    return "".join([*pieces, template[at:]])


def evaluated(text, scope):
    """The value of a pipeline."""
    tokens = _TOKEN.findall(text)
    assert "".join(tokens) == re.sub(r"\s+(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", "", text), text
    value = _pipeline(tokens, scope)
    assert not tokens, f"{text}: {tokens} is left"
    return value


def _pipeline(tokens, scope):
    value = _call(tokens, scope)
    while tokens and tokens[0] == "|":
        tokens.pop(0)
        value = _call(tokens, scope, value)
    return value


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "quote": lambda value: '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"',
    "toYaml": lambda value: yaml.safe_dump(value, default_flow_style=False).rstrip("\n"),
    "nindent": lambda width, value: "\n" + "\n".join(" " * width + line for line in value.split("\n")),
    "default": lambda other, value: value or other,
    "eq": lambda one, other: one == other,
    "not": lambda value: not value,
    "or": lambda one, other: one or other,
}


def _call(tokens, scope, *piped):
    first = tokens.pop(0)
    if first not in _FUNCTIONS:
        assert not piped, first
        tokens.insert(0, first)
        return _operand(tokens, scope)
    given = []
    while tokens and tokens[0] not in ("|", ")"):
        given.append(_operand(tokens, scope))
    return _FUNCTIONS[first](*given, *piped)


def _operand(tokens, scope):
    token = tokens.pop(0)
    if token == "(":
        value = _pipeline(tokens, scope)
        assert tokens.pop(0) == ")"
        return value
    if token.startswith('"'):
        return yaml.safe_load(token)
    if token.lstrip("-").isdigit():
        return int(token)
    assert token.startswith("."), f"{token}: not of the subset"
    value = scope
    for name in token[1:].split("."):
        assert name in value, f"{token}: {name} is not in values.yaml"
        value = value[name]
    return value


def _shown(value):
    return str(value).lower() if isinstance(value, bool) else str(value)
