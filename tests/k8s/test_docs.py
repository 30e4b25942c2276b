"""docs/kubernetes.md says what the code and the manifests say."""

import re

import msgspec

from sidecar.core.injection import Settings
from sidecar.core.injection_settings import PREFIX
from tests.core.pods import pod, verdict
from tests.k8s.kustomize import FOLDER

ROOT = FOLDER.parent
TEXT = (ROOT / "docs" / "kubernetes.md").read_text()


def _section(title):
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def _first_column(title):
    rows = [line.split("|")[1] for line in _section(title).splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_every_annotation_is_there_and_no_other():
    known = verdict(pod(annotations={"zzzzzz": "1"})).denial or ""
    assert _first_column("Annotations") == set(known.rpartition("known: ")[2].split(", "))


def test_every_setting_is_there_and_no_other():
    fields = {field.name for field in msgspec.structs.fields(Settings)} - {"version"}  # the injector's own
    assert _first_column("Settings") == fields


def test_what_it_names_exists():
    paths = set(re.findall(r"k8s/[\w./-]+\w", TEXT))
    assert {path for path in paths if not (ROOT / path).exists()} == set()
    targets = set(re.findall(r"\bmake ([a-z]+)", TEXT))
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"(?m)^{target}:", makefile) for target in targets)
    assert set(re.findall(r"[\w.]+(?=/inject)", TEXT)) <= {PREFIX, "k8s"}


def test_the_tests_that_it_names_exist():
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    written = {
        name for path in (ROOT / "tests").rglob("*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert named - written == set()
    # and each of the numbers has its row
    rows = re.findall(r"(?m)^\| ([A-D]\d+(?:, [A-D]\d+)*)\b", _section("What was tested, and what was not"))
    numbers = [number for row in rows for number in row.split(", ")]
    conventions = [
        f"{letter}{at}" for letter, most in zip("ABCD", (9, 19, 7, 5), strict=True) for at in range(1, most + 1)
    ]
    assert sorted(numbers) == sorted([*conventions, *(f"D{at}" for at in range(1, 13))])


def test_the_image_is_named_where_it_says():
    words = re.search(r"sed -i 's\|(\S+)\|\S+\|' (.*)", TEXT)
    assert words is not None
    for path in words[2].split():
        assert (ROOT / path).read_text().count(words[1]) == 1
