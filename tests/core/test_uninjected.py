"""Pods that ask for a sidecar and have none."""

from sidecar.core.limits import HOUR
from sidecar.core.uninjected import Reported, Uninjected, event_of, selector, uninjected_in
from tests.core.test_certificates import NOW

ONE, TWO = Uninjected("a", "one", "u1"), Uninjected("a", "two", "u2")


def stored(pod, **more):
    return {
        "metadata": {"namespace": pod.namespace, "name": pod.name, "uid": pod.uid} | more.pop("metadata", {})
    } | more


def test_only_those_that_run():
    listed = {
        "items": [
            stored(ONE),
            stored(TWO, status={"phase": "Running"}),
            stored(TWO, status={"phase": "Failed"}),
            stored(TWO, status={"phase": "Succeeded"}),
            stored(TWO, metadata={"deletionTimestamp": "now"}),
        ]
    }
    assert uninjected_in(listed) == (ONE, TWO)
    assert uninjected_in({}) == uninjected_in({"items": None}) == ()
    assert selector("x.y") == "x.y/inject=true,x.y/injected!=true"


def test_each_is_reported_once_an_hour():
    reported = Reported()
    assert reported.due((ONE,), NOW) == [ONE]
    assert reported.due((ONE, TWO), NOW + HOUR - 1) == [TWO]
    assert reported.due((ONE, TWO), NOW + HOUR) == [ONE]
    reported.failed(ONE)
    assert reported.due((ONE, TWO), NOW + HOUR) == [ONE]
    assert reported.due((), NOW + HOUR) == []
    assert reported.due((ONE,), NOW + HOUR) == [ONE]  # gone, and there again


def test_replicas_make_the_same_event():
    event = event_of(ONE, "x.y", "injector", NOW)
    assert event["metadata"] == event_of(ONE, "x.y", "injector", NOW + 1)["metadata"]
    assert event["metadata"] != event_of(TWO, "x.y", "injector", NOW)["metadata"]
    assert event["firstTimestamp"] == "2023-11-14T22:13:20Z"
    assert "x.y/inject" in str(event["message"])
