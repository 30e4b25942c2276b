"""The text of `sidecar check`: who is called with which key, and every limit with where it came from."""

from __future__ import annotations

import pytest

from sidecar.core.check_report import report
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
model    slow -> groq/x
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
