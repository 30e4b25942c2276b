"""The injector's settings: the defaults are right, everything wrong is told, and `auto` is decided by the cluster."""

import re
from pathlib import Path

import pytest

from sidecar.core.injection import Settings, for_server, problems, read_settings

WRONG = [
    ({"image": ""}, "image: "),
    ({"image": "a b"}, "image: "),
    ({"prefix": "Upper"}, "prefix: "),
    ({"container": "x" * 41}, "container: "),
    ({"port": 80}, "port: "),
    ({"port": 8788}, "admin_port: the data port too"),
    ({"admin_port": 70000}, "admin_port: "),
    ({"admin_port_name": "1234"}, "admin_port_name: "),
    ({"admin_port_name": "x" * 16}, "admin_port_name: "),
    ({"config_map": "A"}, "config_map: "),
    ({"secrets": ["a", "a"]}, "secrets: one is named twice"),
    ({"secrets": ["_"]}, "secrets: "),
    ({"user": 0}, "user: "),
    ({"env": {"1": "x"}}, "env: "),
    ({"env": {"A": "x\n"}}, "env: "),
    ({"placeholders": ["a-b"]}, "placeholders: "),
    ({"resources": {"cpu_request": "1", "cpu_limit": "10m"}}, "resources.cpu_request: more than cpu_limit"),
    ({"resources": {"memory_limit": "much"}}, "resources.memory_limit: "),
]


@pytest.mark.parametrize(("tree", "beginning"), WRONG)
def test_what_is_wrong_is_told_with_its_field(tree, beginning):
    _, found = read_settings(tree)
    assert [each for each in found if each.startswith(beginning)], found


@pytest.mark.parametrize("tree", [{"prot": 1}, {"mode": "x"}, {"port": "1"}, [], {"resources": {"cpu": "1"}}])
def test_what_is_no_setting_is_told(tree):
    assert len(read_settings(tree)[1]) == 1


def test_the_defaults_are_right():
    assert problems(Settings()) == ()
    assert read_settings(None) == (Settings(), ())


def test_auto_is_native_where_the_cluster_has_it():
    assert [for_server(Settings(), each).mode for each in [(1, 28), (1, 29), (2, 0), None]] == [
        "container",
        "native",
        "native",
        "native",
    ]
    assert for_server(Settings(mode="container"), (1, 33)).mode == "container"


def test_the_prefix_stands_in_one_place():
    core = Path(__file__).parents[2] / "sidecar"
    found = [path.name for path in core.rglob("*.py") if re.search(r'"sidecar\.internal', path.read_text())]
    assert found == ["injection_settings.py"]
