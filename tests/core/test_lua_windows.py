"""The windows in Lua and those in Python: the same verdicts on the same sequences, on a real server.

Doubles round, integers do not: where they differ, it is by a millisecond or one unit, on the strict side.
"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.limits import MINUTE, SECOND
from sidecar.core.lua_windows import LUA_WINDOWS
from sidecar.core.windows import make
from tests.servers import RedisServer

START_US = 1_764_000_000_000_000
MS = 1_000_000

PLAY = (
    LUA_WINDOWS
    + r"""
local play = cjson.decode(ARGV[1])
local spec = play.spec
local kind = kinds[spec.kind]
local w = kind.new()
local said = {}
for _, step in ipairs(play.steps) do
  local now, what, amount, at = step[1], step[2], step[3], step[4]
  w = cmsgpack.unpack(cmsgpack.pack(w))  -- as it is kept between calls
  if what == 'spend' then kind.spend(w, spec, amount, now)
  elseif what == 'refund' then kind.refund(w, spec, amount, now, at) end
  local free = kind.free_at(w, spec, math.min(amount, spec.limit), now)
  said[#said + 1] = {remaining(w, spec, now), free - now, kind.whole_at(w, spec, now) - now}
end
return cjson.encode(said)
"""
)


@pytest.fixture(scope="module")
def server():
    with RedisServer() as running:
        yield running


def lua(server, spec, steps):
    reply = server.call("EVAL", PLAY, "0", json.dumps({"spec": spec, "steps": steps}))
    assert reply.startswith(b"$"), reply
    return json.loads(reply.split(b"\r\n", 1)[1])


def python(algorithm, limit, transit_us, steps):
    window = make(algorithm, limit, MINUTE, None, transit_us * 1000)
    said = []
    for now_us, what, amount, at_us in steps:
        now = (START_US + now_us) * 1000
        if what == "spend":
            window.spend(amount, now)
        elif what == "refund":
            window.refund(amount, now, (START_US + at_us) * 1000)
        free = window.free_at(min(amount, limit), now)
        said.append((window.remaining(now), free - now, window.resets_at(now) - now))
    return said


limits = st.integers(1, 10_000)
step = st.tuples(
    st.one_of(st.integers(0, 3_000_000), st.integers(0, 70_000_000)),  # microseconds since the one before
    st.sampled_from(["ask", "spend", "spend", "spend", "refund"]),
    st.floats(0, 1.2),  # of the limit
)


@pytest.mark.parametrize("algorithm", ["token_bucket", "sliding", "fixed"])
@settings(max_examples=120, deadline=None)
@given(limit=limits, transit_us=st.sampled_from([0, 500_000, 1_500_000]), played=st.lists(step, max_size=30))
def test_F3_the_script_and_the_windows_agree(server, algorithm, limit, transit_us, played):
    steps, now, spent_at, spent = [], 0, 0, 0
    for passed, what, part in played:
        now += passed
        amount = max(1, int(part * limit))
        if what == "spend":
            spent_at, spent = now, amount
        elif what == "refund":
            amount, spent = min(amount, spent), 0  # nobody gives back more than was taken
        steps.append((now, what, amount, spent_at))
    spec = {"kind": algorithm, "limit": limit, "span": 60_000_000, "transit": transit_us, "ends": 0, "base": START_US}
    ours, theirs = python(algorithm, limit, transit_us, steps), lua(server, spec, steps)
    for at, ((left, free, whole), (lua_left, lua_free, lua_whole)) in enumerate(zip(ours, theirs, strict=True)):
        seen = (at, steps[: at + 1])
        assert left - 1 <= lua_left <= left, seen
        assert -1000 <= lua_free * 1000 - free <= MS, seen
        if left < limit:  # a whole one may be held back for a transit by what has been given back since
            assert abs(lua_whole * 1000 - whole) <= MS, seen


def test_a_calendar_of_its_own_ends_where_it_says(server):
    spec = {"kind": "fixed", "limit": 5, "span": 60_000_000, "transit": 0, "ends": 7_000_000, "base": START_US}
    steps = [(0, "spend", 5, 0), (6_999_999, "ask", 1, 0), (7_000_000, "ask", 5, 0), (7_000_000, "spend", 5, 0)]
    assert [(left, free) for left, free, _ in lua(server, spec, steps)] == [
        (0, 7_000_000), (0, 1), (5, 0), (0, 60_000_000)
    ]  # fmt: skip


def test_a_break_would_show(server):
    steps = [(0, "spend", 10, 0), (SECOND // 1000, "ask", 1, 0)]
    spec = {"kind": "token_bucket", "limit": 10, "span": 60_000_000, "transit": 0, "ends": 0, "base": START_US}
    assert lua(server, spec | {"transit": 1_000_000}, steps) != lua(server, spec, steps)
