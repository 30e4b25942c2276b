"""Who comes in, how much, how many: every refusal, their order, and a ledger that always returns to zero."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.entrance import Entrance, Place, Rules, digest
from sidecar.core.errors import Reason, Refusal, render

RULES = Rules(max_body_bytes=1000, max_inflight=3, max_inflight_bytes=1500)
TOKENS = {digest(b"s3cret"): "team-a", digest(b"other"): "team-b"}


def enter(entrance, *headers, length=None):
    return entrance.enter(list(headers), length)


def reason(verdict):
    return verdict.reason if isinstance(verdict, Refusal) else None


@pytest.mark.parametrize(
    "host",
    [
        b"127.0.0.1", b"127.0.0.1:8787", b"127.1.2.3:80", b"[::1]", b"[::1]:8787", b"localhost", b"LocalHost:8787",
        b"app.localhost:8787", b"localhost.", b"10.0.0.7:8787", b"gateway.internal", b"Gateway.Internal:8787",
        b"gateway.internal.",
    ],
)  # fmt: skip
def test_G4_hosts_that_cannot_be_rebound_or_are_listed(host):
    entrance = Entrance(RULES._replace(hosts=frozenset({"Gateway.internal"})))
    assert reason(enter(entrance, (b"host", host))) is None


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example", b"evil.example:8787", b"127.0.0.1.evil.example", b"localhost.evil.example", b"notlocalhost",
        b"user@127.0.0.1", b"127.0.0.1:8787@evil.example", b"", b"127.0.0.1 evil", b"[::1", b"[::1].evil.example",
        b"127.0.0.1\n", b"evil-localhost", b"localhost:port", b"127.0.0.1, evil.example",
    ],
)  # fmt: skip
def test_G4_other_hosts_are_refused_on_loopback(host):
    entrance = Entrance(RULES)
    assert reason(enter(entrance, (b"host", host))) is Reason.FORBIDDEN_HOST
    assert entrance.inflight == 0
    off_loopback = Entrance(RULES._replace(is_loopback_only=False, tokens=TOKENS))
    assert reason(enter(off_loopback, (b"host", host), (b"x-api-key", b"s3cret"))) is None


def test_G4_a_right_host_does_not_hide_a_wrong_one():
    verdict = enter(Entrance(RULES), (b"host", b"127.0.0.1"), (b"host", b"evil.example"))
    assert reason(verdict) is Reason.FORBIDDEN_HOST


def test_a_request_of_http_1_0_may_come_without_host():
    assert isinstance(enter(Entrance(RULES)), Place)


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (b"https://evil.example", Reason.FORBIDDEN_ORIGIN),
        (b"null", Reason.FORBIDDEN_ORIGIN),
        (b"", Reason.FORBIDDEN_ORIGIN),
        (b"http://127.0.0.1:8787", Reason.FORBIDDEN_ORIGIN),
        (b"https://ui.example.evil.example", Reason.FORBIDDEN_ORIGIN),
        (b"https://ui.example", None),
        (b"https://UI.example", None),
    ],
)
def test_G4_browsers_come_in_from_listed_origins_only(origin, expected):
    entrance = Entrance(RULES._replace(origins=frozenset({"https://ui.example"})))
    assert reason(enter(entrance, (b"origin", origin))) is expected


@pytest.mark.parametrize(
    ("headers", "caller"),
    [
        ([(b"authorization", b"Bearer s3cret")], "team-a"),
        ([(b"authorization", b"bearer   s3cret")], "team-a"),
        ([(b"x-api-key", b"s3cret")], "team-a"),
        ([(b"api-key", b"other")], "team-b"),
        ([(b"x-goog-api-key", b"other")], "team-b"),
        ([(b"authorization", b"Bearer wrong"), (b"x-api-key", b"other")], "team-b"),
        ([], None),
        ([(b"authorization", b"Bearer ")], None),
        ([(b"authorization", b"Bearer s3cre")], None),
        ([(b"authorization", b"Bearer s3cret2")], None),
        ([(b"authorization", b"Basic s3cret")], None),
        ([(b"cookie", b"s3cret")], None),
        ([(b"x-api-key", digest(b"s3cret"))], None),
    ],
)
def test_G4_tokens(headers, caller):
    entrance = Entrance(RULES._replace(tokens=TOKENS))
    verdict = enter(entrance, *headers)
    if caller is None:
        assert reason(verdict) is Reason.UNAUTHORIZED
        assert render(verdict).status == 401
    else:
        assert isinstance(verdict, Place)
        assert verdict.caller == caller


def test_without_tokens_whatever_key_the_caller_sends_is_ignored():
    place = enter(Entrance(RULES), (b"authorization", b"Bearer sk-anything"))
    assert isinstance(place, Place)
    assert place.caller is None


def test_the_order_of_checks_is_host_origin_token_length_room():
    entrance = Entrance(Rules(10, 0, 10, tokens=TOKENS))
    wrong = [(b"host", b"evil.example"), (b"origin", b"https://evil.example"), (b"x-api-key", b"wrong")]
    seen = [reason(enter(entrance, *wrong[start:], length=11)) for start in range(3)]
    seen += [reason(enter(entrance, (b"x-api-key", b"s3cret"), length=length)) for length in (11, 10)]
    assert seen == [
        Reason.FORBIDDEN_HOST, Reason.FORBIDDEN_ORIGIN, Reason.UNAUTHORIZED, Reason.BODY_TOO_LARGE, Reason.OVERLOADED,
    ]  # fmt: skip


def test_C7_a_declared_body_above_the_cap_names_both_sizes_and_the_field():
    entrance = Entrance(RULES)
    assert isinstance(enter(entrance, length=1000), Place)
    refusal = enter(entrance, length=1001)
    assert reason(refusal) is Reason.BODY_TOO_LARGE
    assert all(word in refusal.message for word in ("1001", "1000", "body.max_bytes"))


def test_a_body_above_all_bodies_together_is_too_large_for_ever():
    entrance = Entrance(Rules(max_body_bytes=1000, max_inflight=3, max_inflight_bytes=500))
    refusal = enter(entrance, length=501)
    assert reason(refusal) is Reason.BODY_TOO_LARGE
    assert "inflight.bytes" in refusal.message


def test_E5_more_requests_than_places_are_told_when_to_come_again():
    entrance = Entrance(RULES)
    places = [enter(entrance) for _ in range(3)]
    refusal = enter(entrance)
    assert reason(refusal) is Reason.OVERLOADED
    assert (b"retry-after", b"1") in render(refusal).headers
    assert entrance.inflight == 3
    places[0].leave()
    assert isinstance(enter(entrance), Place)


def test_E5_more_bytes_than_allowed_together():
    entrance = Entrance(RULES)
    first = enter(entrance, length=1000)
    assert reason(enter(entrance, length=501)) is Reason.OVERLOADED
    assert isinstance(enter(entrance, length=500), Place)
    assert isinstance(enter(entrance, length=0), Place), "a request without a body needs no bytes"
    assert entrance.inflight_bytes == 1500
    first.leave()
    assert entrance.inflight_bytes == 500


def test_C7_a_growing_body_is_stopped_at_the_cap():
    entrance = Entrance(RULES)
    place = enter(entrance)
    assert place.grow(1000) is None
    assert reason(place.grow(1)) is Reason.BODY_TOO_LARGE
    assert entrance.inflight_bytes == 1000, "the refused bytes are not counted"
    assert "1000 of 1000" in repr(place)
    place.leave()
    assert (entrance.inflight, entrance.inflight_bytes) == (0, 0)


def test_E5_growing_bodies_share_the_bytes():
    entrance = Entrance(RULES)
    first, second = enter(entrance), enter(entrance)
    assert first.grow(900) is None
    assert second.grow(600) is None
    assert reason(second.grow(1)) is Reason.OVERLOADED


def test_a_declared_body_is_counted_once():
    entrance = Entrance(RULES)
    place = enter(entrance, length=700)
    assert [place.grow(350), place.grow(350)] == [None, None]
    assert entrance.inflight_bytes == 700


def test_leaving_twice_is_leaving_once_and_growing_afterwards_counts_nothing():
    entrance = Entrance(RULES)
    stays, leaves = enter(entrance, length=1), enter(entrance, length=10)
    leaves.leave()
    leaves.leave()
    assert leaves.grow(5) is None
    assert (entrance.inflight, entrance.inflight_bytes) == (1, 1)
    assert "left" in repr(leaves)
    stays.leave()


def test_new_rules_keep_those_inside():
    entrance = Entrance(RULES)
    place = enter(entrance, length=1000)
    entrance.replace(Rules(max_body_bytes=100, max_inflight=1, max_inflight_bytes=2000, tokens=TOKENS))
    assert reason(enter(entrance)) is Reason.UNAUTHORIZED
    assert reason(enter(entrance, (b"x-api-key", b"s3cret"))) is Reason.OVERLOADED
    assert place.grow(1000) is None, "what was admitted may still arrive"
    place.leave()
    assert isinstance(enter(entrance, (b"x-api-key", b"s3cret")), Place)


def test_nothing_secret_is_shown():
    entrance = Entrance(RULES._replace(tokens=TOKENS))
    refusal = enter(entrance, (b"authorization", b"Bearer s3cret-but-wrong"))
    assert "s3cret" not in repr(entrance) + repr(refusal)
    assert "inflight=0/3" in repr(entrance)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 700)), max_size=60))
def test_the_ledger_never_exceeds_its_caps_and_returns_to_zero(steps):
    entrance = Entrance(RULES)
    inside: list[Place] = []
    for which, amount in steps:
        if which < len(inside):
            inside.pop(which).leave() if amount % 3 == 0 else inside[which].grow(amount)
        elif isinstance(verdict := enter(entrance, length=amount if amount % 2 else None), Place):
            inside.append(verdict)
        assert 0 <= entrance.inflight_bytes <= RULES.max_inflight_bytes
        assert entrance.inflight == len(inside) <= RULES.max_inflight
    for place in inside:
        place.leave()
    assert (entrance.inflight, entrance.inflight_bytes) == (0, 0)
