"""The house that most end-to-end tests share: two simulated providers with two keys each, and a sidecar before them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import groq
import openai
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.e2e.wiretap import Wiretap
from tests.processes import Serving, Sim

# The longest common part is what a leak is searched by: no key may be told, nor a half of one.
MARK = "e2e0nlyAtTheProvider"
KEYS = {
    "OPENAI_MAIN": f"sk-main-{MARK}-1111",
    "OPENAI_SPARE": f"sk-spare-{MARK}-2222",
    "GROQ_A": f"gsk_a_{MARK}_3333",
    "GROQ_B": f"gsk_b_{MARK}_4444",
}
CALLER_KEY = "sk-of-the-application"  # what the application believes to be a key
GROQ_MODEL = "openai/gpt-oss-120b"
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]

_CONFIG = """
providers:
  - name: openai
    base_url: {openai}
    keys:
      - {{name: main, env: OPENAI_MAIN, account: org-1}}
      - {{name: spare, env: OPENAI_SPARE, account: org-2}}
  - name: groq
    base_url: {groq}
    keys:
      - {{name: team-a, env: GROQ_A, account: org-a}}
      - {{name: team-b, env: GROQ_B, account: org-b}}
models:
  - name: fast
    chain: [groq/openai/gpt-oss-120b, openai/gpt-4o-mini]
"""
OPENAI_MODELS = ("gpt-4o-mini", "gpt-3.5-turbo-instruct", "text-embedding-3-small", "whisper-1", "tts-1")
GROQ_MODELS = (GROQ_MODEL, "whisper-large-v3")


class House:
    """A sidecar, its providers, and the wire that applications use."""

    def __init__(self, folder: Path) -> None:
        self.openai = Sim(
            "openai",
            *(
                f"--key={KEYS[name]}={account}"
                for name, account in (("OPENAI_MAIN", "org-1"), ("OPENAI_SPARE", "org-2"))
            ),
            *(f"--model={model}" for model in OPENAI_MODELS),
        )
        self.groq = Sim(
            "groq",
            *(f"--key={KEYS[name]}={account}" for name, account in (("GROQ_A", "org-a"), ("GROQ_B", "org-b"))),
            *(f"--model={model}" for model in GROQ_MODELS),
        )
        config = _CONFIG.format(openai=self.openai.base_url, groq=self.groq.base_url)
        self.sidecar = Serving(folder / "house.yaml", config, KEYS)
        self.wire = Wiretap(int(self.sidecar.url.rpartition(":")[2]))

    @property
    def url(self) -> str:
        """The origin that applications are given."""
        return self.wire.url

    def stop(self) -> None:
        """End everything; harmless when called again."""
        for each in (self.sidecar, self.openai, self.groq):
            each.stop()
        self.wire.close()

    def seen(self, sim: Sim) -> list[Any]:
        """The requests a provider has seen since its last reset."""
        return [Arrived(each) for each in sim.ask("requests")]


class Arrived:
    """One request as a provider saw it."""

    def __init__(self, shown: Any) -> None:
        self.method: str = shown["method"]
        self.target: str = shown["target"]
        self.headers: list[tuple[str, str]] = [(name, value) for name, value in shown["headers"]]
        self.body: str = shown.get("body", "")

    @property
    def key(self) -> str:
        """The key it came with."""
        return dict(self.headers)["authorization"].removeprefix("Bearer ")


def openai_client(url: str, **settings: Any) -> OpenAI:
    """The OpenAI SDK as an application has it; no proxy of this machine is asked."""
    http = DefaultHttpxClient(trust_env=False)
    return OpenAI(base_url=f"{url}/v1", api_key=CALLER_KEY, http_client=http, **{"max_retries": 0, **settings})


def async_openai_client(url: str, **settings: Any) -> AsyncOpenAI:
    """The same for asyncio."""
    http = DefaultAsyncHttpxClient(trust_env=False)
    return AsyncOpenAI(base_url=f"{url}/v1", api_key=CALLER_KEY, http_client=http, **{"max_retries": 0, **settings})


def groq_client(url: str) -> groq.Groq:
    """The groq SDK; it appends /openai/v1 itself."""
    http = groq.DefaultHttpxClient(trust_env=False)
    return groq.Groq(base_url=url, api_key=CALLER_KEY, max_retries=0, http_client=http)


def text_of(stream: openai.Stream[Any]) -> str:
    """The words of a streamed chat completion."""
    return "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)
