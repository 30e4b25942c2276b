"""The text of `sidecar check`: who is called with which key, and every limit with where it came from."""

from __future__ import annotations

import pytest

from sidecar.core.check_report import notes, report
from tests.core.house import roster_of, snapshot_of

TEXT = """
listen: [127.0.0.1:8787, "[::1]:8787"]
admin: 127.0.0.1:9
providers:
  - name: groq
    keys:
      - {name: a, env: KEY_A, account: org}
      - {name: b, file: /run/b}
      - {name: c, env: KEY_C, account: org}
    limits:
      - {model: "*", rpm: 30, tpd: 1000, concurrency: 4}
      - {model: "llama*", account: org, rpm: 60, pool: big}
  - name: gemini
    keys: [{name: g, env: KEY_G}]
    limits: [{model: flash, rpd: 100}]
    learn: false
  - {name: ollama}
  - {name: custom, base_url: "http://[::1]:9/v1", learn: false}
models:
  - {name: fast, chain: [groq/x, gemini/pro, gemini/flash, ollama/y]}
  - {name: slow, chain: [groq/x]}
"""
REPORT = """\
listen   http://127.0.0.1:8787/v1, http://[::1]:8787/v1
admin    http://127.0.0.1:9
wait     up to 20s in line for quota, at most 1000 at once; then 429 with Retry-After
retry    at most 6 attempts for each request, over all targets
state    in memory: what was used is forgotten at a restart
callers  whoever reaches the port

provider groq   https://api.groq.com/openai/v1
  speaks groq; limits are learned as well
  key    a   account org   env KEY_A   present
  key    b   account b   file /run/b   MISSING
  key    c   account org   env KEY_C   present
  limit  org x *   rpm 30   from providers[0].limits[0]   counted by token bucket
  limit  org x *   tpd 1000   from providers[0].limits[0]   counted by token bucket
  limit  org x *   concurrency 4   from providers[0].limits[0]
  limit  org x llama*   rpm 60   from providers[0].limits[1]   counted by token bucket   shared by pool big
  limit  org x llama*   tpd 1000   from providers[0].limits[0]   counted by token bucket   shared by pool big
  limit  org x llama*   concurrency 4   from providers[0].limits[0]   shared by pool big
  limit  org x x   rpm 30   from providers[0].limits[0]   counted by token bucket
  limit  org x x   tpd 1000   from providers[0].limits[0]   counted by token bucket
  limit  org x x   concurrency 4   from providers[0].limits[0]
  limit  b x *   rpm 30   from providers[0].limits[0]   counted by token bucket
  limit  b x *   tpd 1000   from providers[0].limits[0]   counted by token bucket
  limit  b x *   concurrency 4   from providers[0].limits[0]
  limit  b x llama*   rpm 30   from providers[0].limits[0]   counted by token bucket
  limit  b x llama*   tpd 1000   from providers[0].limits[0]   counted by token bucket
  limit  b x llama*   concurrency 4   from providers[0].limits[0]
  limit  b x x   rpm 30   from providers[0].limits[0]   counted by token bucket
  limit  b x x   tpd 1000   from providers[0].limits[0]   counted by token bucket
  limit  b x x   concurrency 4   from providers[0].limits[0]

provider gemini   https://generativelanguage.googleapis.com/v1beta/openai
  speaks gemini; limits are taken as given
  key    g   account g   env KEY_G   present
  limit  g x flash   rpd 100   from providers[1].limits[0]   counted by fixed
  limit  g x pro   none configured

provider ollama   http://127.0.0.1:11434/v1
  speaks ollama; limits are learned as well
  key    none   account none   needs no key   present
  limit  none configured: learned from headers and errors

provider custom   http://[::1]:9/v1
  speaks openai; limits are taken as given
  key    none   account none   needs no key   present
  limit  none

model    fast -> groq/x -> gemini/pro -> gemini/flash -> ollama/y
  first  groq/x   2 of 3 keys, 1 account
  then   gemini/pro   1 of 1 keys, 1 account
  then   gemini/flash   1 of 1 keys, 1 account
  then   ollama/y   needs no key
model    slow -> groq/x
  first  groq/x   2 of 3 keys, 1 account
"""


def test_A24_the_whole_report():
    assert "\n".join(report(snapshot_of(TEXT, missing=("b",)))) + "\n" == REPORT


FIELDS = ["rpm", "rph", "rpd", "tpm", "tph", "tpd", "itpm", "otpm", "ash", "concurrency"]


@pytest.mark.parametrize("field", FIELDS)
def test_A24_each_limit_alone_is_reported_and_enforced(field):
    text = f"providers: [{{name: groq, keys: [{{name: a, env: A}}], limits: [{{{field}: 7}}]}}]\n"
    (line,) = (line for line in report(snapshot_of(text)) if line.startswith("  limit"))
    assert line.startswith(f"  limit  a x *   {field} 7   from providers[0].limits[0]")
    spec = roster_of(text).snapshot.quota_spec("groq/a", "m")
    assert spec is not None
    assert [limit.limit for limit in spec.specs] + ([spec.concurrency] if spec.concurrency else []) == [7]
    counted = line.partition("counted by ")[2].replace(" ", "_")
    assert counted == (spec.specs[0].algorithm if spec.specs else "")


def test_G3_no_secret_is_printed():
    assert "secret-of" not in "\n".join(report(snapshot_of(TEXT)))


def test_without_models_nothing_is_said_of_them():
    assert not any(line.startswith("model") for line in report(snapshot_of("providers: [{name: ollama}]\n")))


MORE = """
providers:
  - name: groq
    keys: [{name: a, env: A}, {name: b, env: B}]
    limits: [{model: "lama*", rpm: 1}, {model: "llama-3.3*", rpm: 1}, {model: x, rpm: 1}, {rpm: 9}]
  - {name: own, base_url: "http://127.0.0.1:9/v1"}
models: [{name: fast, chain: [groq/x]}]
wait: {max: 0s}
state: {path: /var/lib/sidecar.db}
auth: {tokens: [{env: T}]}
"""


def test_A24_what_is_silently_inert_is_told():
    assert list(notes(snapshot_of(TEXT))) == [
        "providers[3]: custom is in no chain; only who asks for `custom/MODEL` gets there"
    ]
    found = list(notes(snapshot_of(MORE, missing=("a", "b"))))
    assert [note.partition(":")[0] for note in found] == ["model fast", "providers[0].limits[0]", "providers[1]"]
    assert "'lama*'" in found[1]


def test_what_callers_will_meet():
    lines = list(report(snapshot_of(MORE, missing=("a", "b"))))
    for line in (
        "wait     not at all: 429 with Retry-After as soon as no target admits",
        "state    /var/lib/sidecar.db",
        "callers  need one of 1 tokens",
        "  first  groq/x   NO KEY: passed over",
    ):
        assert line in lines
