"""The official Node SDK of OpenAI, whose HTTP client (undici) pools and frames in its own way."""

from __future__ import annotations

import json
import subprocess

from tests.e2e.house import GROQ_MODELS, OPENAI_MODELS
from tests.processes import ROOT, WATCHDOG_S, clean_environ

_FOLDER = ROOT / "tests" / "node"


def test_node_sdk(house):
    assert (_FOLDER / "node_modules" / "openai").exists(), "run `make test`, or `npm ci` in tests/node"
    done = subprocess.run(
        ["node", str(_FOLDER / "client.mjs"), f"{house.url}/v1"],
        env=clean_environ(), capture_output=True, timeout=WATCHDOG_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    seen = json.loads(done.stdout)
    assert len(seen["chat"].split()) == 5
    assert len(seen["stream"]["text"].split()) == 12
    assert seen["stream"]["usage"]["completion_tokens"] == 12
    assert seen["tool"] == "weather"
    assert seen["embeddings"] == [8, 8]
    assert (seen["events"][0], seen["events"][-1]) == ("response.created", "response.completed")
    assert seen["file"] == {"bytes": 3_000_000, "same": True}
    assert seen["models"] == ["fast", *OPENAI_MODELS, *GROQ_MODELS]
    assert seen["error"] == {"name": "NotFoundError", "status": 404, "code": "model_not_found"}
    assert house.groq.total["refused"] == {"model_not_found": 1}
