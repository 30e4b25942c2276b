"""Fault plans: whom they strike, how often, and what they leave of a stream."""

from __future__ import annotations

import random

import msgspec
import pytest

from sidecar.sim.faults import Ending, Facts, Fault, FaultPlan, Frame, problem, replaces, spoiled_body, spoiled_frames

FACTS = Facts("k1", "llama-3", "/v1/chat/completions")
FRAMES = [Frame(b"data: %d\n\n" % number, 1) for number in range(4)]
ERROR = Frame(b"event: error\ndata: {}\n\n")


def plan(*faults: Fault) -> FaultPlan:
    made = FaultPlan()
    for fault in faults:
        made.add(fault)
    return made


def test_an_empty_plan_does_nothing():
    assert plan().decide(FACTS, 0.0) is None


def test_a_count_runs_out():
    made = plan(Fault("down", count=2), Fault("busy"))
    kinds = [fault.kind for fault in (made.decide(FACTS, 0.0) for _ in range(3)) if fault]
    assert kinds == ["down", "down", "busy"]
    made.clear()
    assert (made.decide(FACTS, 0.0), made.faults) == (None, [])


@pytest.mark.parametrize(
    ("fields", "strikes"),
    [
        ({"model": "llama*"}, True),
        ({"model": "gpt*"}, False),
        ({"key": "k1"}, True),
        ({"key": "k2"}, False),
        ({"path": "*/chat/*"}, True),
        ({"path": "*/models"}, False),
    ],
)
def test_patterns(fields, strikes):
    assert (plan(Fault("down", **fields)).decide(FACTS, 0.5) is not None) is strikes


def test_each_fault_takes_its_share_of_the_draws():
    made = plan(Fault("cut", probability=0.1), Fault("down", key="other"), Fault("busy", probability=0.2))
    draws = random.Random(7)
    struck = [made.decide(FACTS, draws.random()) for _ in range(10_000)]
    shares = {kind: sum(f is not None and f.kind == kind for f in struck) / 10_000 for kind in ("cut", "busy", "down")}
    assert shares == pytest.approx({"cut": 0.1, "busy": 0.2, "down": 0}, abs=0.015)
    assert made.decide(FACTS, 0.0999) == made.faults[0]
    assert made.decide(FACTS, 0.1) == made.faults[2]
    assert made.decide(FACTS, 0.31) is None


def test_a_draw_that_passes_uses_up_no_count():
    made = plan(Fault("cut", probability=0.5, count=1))
    assert made.decide(FACTS, 0.9) is None
    assert made.decide(FACTS, 0.1) is not None
    assert made.decide(FACTS, 0.1) is None


@pytest.mark.parametrize(
    ("fault", "sent", "ending"),
    [
        (Fault("cut", after_chunks=2), FRAMES[:2], Ending.EOF),
        (Fault("cut", after_chunks=0, mode="rst"), [], Ending.RST),
        (Fault("cut", mode="end"), FRAMES[:1], Ending.END),
        (Fault("error_event", after_chunks=3), [*FRAMES[:3], ERROR], Ending.END),
        (Fault("stall_after_headers", after_chunks=0), [], Ending.STALL),
        (Fault("stall_after_headers", seconds=3), FRAMES, Ending.WHOLE),
        (Fault("empty"), [], Ending.END),
        (Fault("empty", mode="completion"), FRAMES, Ending.WHOLE),
        (Fault("slow", seconds=1), FRAMES, Ending.WHOLE),
    ],
)
def test_what_is_left_of_a_stream(fault, sent, ending):
    assert spoiled_frames(fault, FRAMES, ERROR) == (sent, ending)


def test_one_event_of_a_stream_is_broken():
    sent, ending = spoiled_frames(Fault("malformed", after_chunks=1), FRAMES, ERROR)
    assert (sent[0], sent[2:], ending) == (FRAMES[0], FRAMES[2:], Ending.WHOLE)
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(sent[1].data.removeprefix(b"data: "))


@pytest.mark.parametrize(
    ("fault", "body", "ending"),
    [
        (Fault("cut"), b'{"a"', Ending.EOF),
        (Fault("cut", after_chunks=0), b"", Ending.EOF),
        (Fault("stall_after_headers"), b'{"a"', Ending.STALL),
        (Fault("error_event"), b"{}", Ending.WHOLE),
        (Fault("empty"), b"", Ending.WHOLE),
        (Fault("slow"), b'{"a":12}', Ending.WHOLE),
    ],
)
def test_what_is_left_of_a_body(fault, body, ending):
    assert spoiled_body(fault, b'{"a":12}', b"{}") == (body, ending)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault("status"), "needs `status`"),
        (Fault("cut", mode="refuse"), "not one of cut: eof, rst, end"),
        (Fault("slow", mode="rst"), "it has none"),
        (Fault("down", mode="refuse"), "needs `seconds`"),
    ],
)
def test_faults_that_mean_nothing(fault, text):
    assert text in (problem(fault) or "")


def test_a_stall_that_ends_is_only_a_late_answer():
    assert replaces(Fault("stall_before_headers"))
    assert not replaces(Fault("stall_before_headers", seconds=1))
    assert problem(Fault("down", mode="refuse", seconds=1)) is None
