"""What was made of a head once serves all requests that repeat it, and no longer than it holds."""

from __future__ import annotations

from sidecar.core.affinity import Ownership
from sidecar.core.call import Call, understand
from sidecar.core.entrance import Entrance, Place, Rules, digest
from sidecar.core.errors import Reason, Refusal
from sidecar.core.heading import Heading, heading_of
from sidecar.core.http import Notes, Request
from sidecar.core.outgoing import prepare
from tests.core.house import NOW, TWO_PROVIDERS, request_of, roster_of, snapshot_of

CHAT = "/v1/chat/completions"
BODY = b'{"model":"%b","messages":[]}'


def again(request: Request, body: bytes) -> Request:
    """The same head with another body."""
    return Request(request.method, request.target, request.headers, body, notes=request.notes)


def test_a_head_is_read_once():
    request = request_of(CHAT, BODY % b"fast")
    heading = heading_of(request)
    assert isinstance(heading, Heading)
    assert heading_of(again(request, b"")) is heading
    assert heading_of(request_of(CHAT, BODY % b"fast")) is not heading
    assert repr(heading) == "<Heading openai /chat/completions>"
    assert (heading.is_json, heading.is_multipart, heading.may_create, heading.ids) == (True, False, False, ())


def test_so_is_one_that_is_refused():
    request = request_of("/nowhere")
    refusal = heading_of(request)
    assert isinstance(refusal, Refusal)
    assert heading_of(again(request, b"{}")) is refusal


def test_each_model_goes_its_own_way():
    snapshot, ownership = snapshot_of(TWO_PROVIDERS), Ownership()
    request = request_of(CHAT, BODY % b"fast")
    calls = [understand(snapshot, again(request, BODY % model), ownership) for model in (b"fast", b"other", b"fast")]
    fresh = [understand(snapshot, request_of(CHAT, BODY % model), ownership) for model in (b"fast", b"other", b"fast")]
    for call, expected in zip(calls, fresh, strict=True):
        assert isinstance(call, Call)
        assert isinstance(expected, Call)
        assert (call.model, call.route) == (expected.model, expected.route)


def test_H1_another_configuration_another_way():
    ownership, request = Ownership(), request_of(CHAT, BODY % b"fast")
    for snapshot in (snapshot_of(TWO_PROVIDERS), snapshot_of(TWO_PROVIDERS)):
        call = understand(snapshot, request, ownership)
        assert isinstance(call, Call)
        assert call.route.targets is snapshot.chains["fast"]


def test_E1_callers_models_do_not_fill_the_memory():
    snapshot, ownership, request = snapshot_of(TWO_PROVIDERS), Ownership(), request_of(CHAT, b"{}")
    roster = roster_of(TWO_PROVIDERS)
    for at in range(500):
        asked = again(request, BODY % (b"m%d" % at))
        call = understand(snapshot, asked, ownership)
        assert isinstance(call, Call)
        candidate = roster.keys(call.route.targets[0], NOW).candidates[0]
        assert prepare(call, asked, candidate, False).head.startswith(b"POST /")
    heading = heading_of(request)
    assert isinstance(heading, Heading)
    assert len(heading.destinations) <= 32
    assert len(heading.openings) <= 32


def test_G2_the_opening_of_one_target_is_not_sent_to_another():
    roster = roster_of(TWO_PROVIDERS)
    request = request_of(CHAT, BODY % b"fast", x_mine="1", authorization="Bearer callers")
    call = understand(roster.snapshot, request, Ownership())
    assert isinstance(call, Call)
    for _ in range(2):
        for target in call.route.targets:
            candidate = roster.keys(target, NOW).candidates[0]
            lines = prepare(call, request, candidate, False).head.split(b"\r\n")
            assert b"host: " + target.provider.host in lines
            assert candidate.key_line.strip() in lines
            assert b"x-mine: 1" in lines
            assert not any(b"callers" in line for line in lines)


RULES = Rules(max_body_bytes=100, max_inflight=2, max_inflight_bytes=1000)


def test_G4_a_head_is_judged_once_under_each_set_of_rules():
    entrance, notes = Entrance(RULES), Notes()
    headers = [(b"host", b"localhost"), (b"authorization", b"Bearer one")]
    assert isinstance(entrance.enter(headers, 1, notes), Place)
    judged = notes.admission
    assert isinstance(entrance.enter(headers, 100, notes), Place)
    assert notes.admission is judged
    refused = entrance.enter(headers, 1, notes)
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.OVERLOADED, "what changes is looked at each time"
    entrance.inflight = 0
    assert isinstance(entrance.enter(headers, 101, notes), Refusal)
    entrance.replace(RULES._replace(tokens={digest(b"another"): "token-0"}))
    refused = entrance.enter(headers, 1, notes)
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.UNAUTHORIZED
    entrance.replace(RULES._replace(tokens={digest(b"one"): "token-0"}))
    entered = entrance.enter(headers, 1, notes)
    assert isinstance(entered, Place)
    assert entered.caller == "token-0"
