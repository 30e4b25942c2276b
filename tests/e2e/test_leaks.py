"""After everything else: of the operator's keys, no byte was told to anybody but their provider (acceptance G3).

Runs last in a session (conftest.py). Alone, it makes the traffic most likely to leak: errors that repeat the key.
"""

from __future__ import annotations

import base64
import json

from tests.e2e.house import KEYS, MARK
from tests.processes import STARTED, call

CHAT = b'{"model": "fast", "messages": [{"role": "user", "content": "hello"}]%b}'


def _forms_of(secret: str) -> set[bytes]:
    """A key as it might be written: plain, escaped, encoded."""
    plain = secret.encode()
    return {plain, base64.b64encode(plain).rstrip(b"=")[:-1], plain.hex().encode(), secret.replace("-", "%2D").encode()}


SECRETS = {MARK.encode(), *(form for key in KEYS.values() for form in _forms_of(key))}


def _provoke(house):
    """Providers that repeat the key they were sent, in every place an error has."""
    for status in (400, 401, 403, 404, 429, 500, 503):
        for sim, keys in ((house.groq, ("GROQ_A", "GROQ_B")), (house.openai, ("OPENAI_MAIN", "OPENAI_SPARE"))):
            for name in keys:
                told = f"Incorrect key {KEYS[name]}"
                fault: dict[str, object] = {"kind": "status", "status": status, "key": KEYS[name], "count": 1}
                fault["body"] = json.dumps({"error": {"message": told, "code": KEYS[name], "type": KEYS[name]}})
                fault["headers"] = {"x-told": told, "www-authenticate": f"Bearer {KEYS[name]}", "retry-after": "1"}
                sim.steer("faults", fault)
        for more in (b"", b', "stream": true'):
            call(house.url, "POST", "/v1/chat/completions", CHAT % more, {"x-sidecar-fallback": "off"})
            call(house.url, "POST", "/v1/chat/completions", CHAT % more, {"x-sidecar-max-wait": "0s"})
    for path in ("/healthz", "/status.json", "/metrics", "/nothing"):
        answer = call(house.sidecar.admin, "GET", path)
        assert not _leaks(answer.body + repr(answer.headers).encode())


def _leaks(text: bytes) -> list[bytes]:
    return [secret for secret in SECRETS if secret in text]


def test_G3_no_key_was_ever_told(house):
    _provoke(house)
    keys = {seen.key for sim in (house.groq, house.openai) for seen in house.seen(sim)}
    assert keys & set(KEYS.values()), "the keys were in play"
    assert house.sidecar.stop() == 0
    heard = b"\n".join(bytes(each) for each in house.wire.heard)
    assert heard.count(b"HTTP/1.1 ") >= 28, "there is something to look at"
    assert b"[key withheld]" in heard, "a provider did repeat one"
    assert not _leaks(heard)
    logged = "\n".join(line for each in STARTED for line in (*each.stdout, *each.stderr)).encode()
    assert logged.count(b'"path"') >= 28
    assert not _leaks(logged)
    assert house.sidecar.stderr == [], "nothing went wrong inside"
