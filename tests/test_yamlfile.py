from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.yamlfile import read_yaml

TEXT = """\
# a comment
wait:
  max: 20s
providers:
  - name: groq
    keys:
      - {name: a,
         env: A}
      - name: b
"""


def test_H1_every_path_has_its_line():
    document = read_yaml(TEXT)
    assert document.problems == ()
    first, second = "providers[0].keys[0]", "providers[0].keys[1]"
    assert document.lines == {
        **{"": 1, "wait": 2, "wait.max": 3, "providers": 4, "providers[0]": 5},
        **{"providers[0].name": 5, "providers[0].keys": 6},
        **{first: 7, f"{first}.name": 7, f"{first}.env": 8, second: 9, f"{second}.name": 9},
    }


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("providers[0].keys[1].env", 9),
        ("providers[0].base_url", 5),
        ("providers[7].name", 4),
        ("retry.cap", 1),
        ("", 1),
    ],
)
def test_what_is_absent_has_the_line_around_it(path, line):
    assert read_yaml(TEXT).line(path) == line


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", None),
        ("# nothing", None),
        ("a: 1", {"a": 1}),
        ("a: 1.5", {"a": 1.5}),
        ("a: yes", {"a": True}),
        ("a:", {"a": None}),
        ("a: ~", {"a": None}),
        ("a: 2024-01-01", {"a": "2024-01-01"}),
        ("a: '1'", {"a": "1"}),
        ("1: a", {"1": "a"}),
        ("on: a", {"on": "a"}),
        ("- [1, {b: c}]", [[1, {"b": "c"}]]),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("a: &x {b: 1, d: 2}\nc:\n  <<: *x\n  b: 3", {"a": {"b": 1, "d": 2}, "c": {"b": 3, "d": 2}}),
        ("c:\n  <<: [{a: 1, b: 1}, {b: 2, c: 2}]", {"c": {"a": 1, "b": 1, "c": 2}}),
        ("a: !!str 5", {"a": "5"}),
    ],
)
def test_trees(text, tree):
    document = read_yaml(text)
    assert (document.tree, document.problems) == (tree, ())


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("a: [1", 1, "not YAML"),
        ("a: 1\nb: [::1]:8787\n", 2, "not YAML"),
        ("a: 1\n\tb: 2\n", 2, "not YAML"),
        ("a: 1\nb: *nobody\n", 2, "not YAML"),
        ("a: 1\n--- \nb: 1\n", 2, "single document"),
        ("a: 1\nb: \x01\n", 2, "control character"),
        ("[" * 5000, 1, "nested too deeply"),
        ("a: &a [*a]", 1, "nested too deeply"),
        ("a: &a {<<: *a}", 1, "nested too deeply"),
        (
            "a0: &a0 [1,1,1,1]\n" + "".join(f"a{n + 1}: &a{n + 1} [{','.join([f'*a{n}'] * 10)}]\n" for n in range(9)),
            1,
            "multiply",
        ),
    ],
)
def test_unreadable(text, line, part):
    document = read_yaml(text)
    assert not document.is_whole
    assert document.tree is None
    assert document.problems[0].path == ""
    assert part in document.problems[0].message
    assert document.line("") == line


@pytest.mark.parametrize(
    ("text", "path", "line", "part"),
    [
        ("a: 1\nb: 2\na: 3\n", "a", 3, "given twice, first in line 1"),
        ("x:\n  a: 1\n  a: 1\n", "x.a", 3, "given twice, first in line 2"),
        ("a: !!python/object/apply:os.system [id]\n", "a", 1, "has a tag"),
        ("b: 1\na: !mine x\n", "a", 2, "has a tag"),
        ("a: !!binary aGk=\n", "a", 1, "has a tag"),
        ("a: !!set {b}\n", "a", 1, "has a tag"),
        ("a: !!int b\n", "a", 1, "does not agree with its tag"),
        ("a: " + "9" * 5000, "a", 1, "does not agree"),
        ("x:\n  ? [a]\n  : b\n", "x", 1, "name is not text"),
        ("x:\n  <<: 5\n", "x", 1, "merges something"),
    ],
)
def test_problems_within(text, path, line, part):
    document = read_yaml(text)
    assert document.is_whole
    assert [problem.path for problem in document.problems] == [path]
    assert part in document.problems[0].message
    assert document.line(path) == line


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab:-[]{}&*!<>?|#'\"\n \t1,%@`", max_size=40))
def test_any_text_is_read_or_told(text):
    document = read_yaml(text)
    assert document.is_whole or document.problems
