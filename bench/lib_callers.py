"""Closed-loop callers: each asks, waits for its answer, and asks again at once; after an error it keeps to its pace.

They call through the OpenAI SDK as applications do. What counts is what they see: whole answers, errors, times.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import NamedTuple

from lib_contenders import Endpoint
from lib_pool import LATENCY_S, MAX_TOKENS, PROMPT_CHARS
from openai import APIStatusError, AsyncOpenAI, OpenAIError
from openai.types.chat import ChatCompletionUserMessageParam

_PATIENCE_S = 120
_STREAMED = 4  # one call in so many
_WORDS = (
    "the",
    "a",
    "of",
    "and",
    "to",
    "in",
    "that",
    "it",
    "with",
    "as",
    "for",
    "was",
    "on",
    "are",
    "by",
    "be",
    "this",
    "from",
    "at",
    "which",
    "or",
    "have",
    "an",
    "not",
    "they",
    "their",
    "has",
    "one",
    "been",
    "river",
    "window",
    "answer",
    "number",
    "market",
    "garden",
    "engine",
    "letter",
    "season",
    "village",
    "question",
    "morning",
    "paper",
    "light",
    "record",
    "measure",
)


class Seen(NamedTuple):
    """What the callers of one contender saw of calls that ended in time."""

    times_s: list[float]  # of whole answers
    errors: Counter[str]

    def wait_s(self, percentile: int) -> float:
        """How much longer than the provider takes an answer took, at that percentile."""
        waits = sorted(max(0.0, took - LATENCY_S) for took in self.times_s)
        return waits[min(len(waits) - 1, len(waits) * percentile // 100)] if waits else 0.0


class Caller:
    """One caller; `seed` makes its questions its own and the same in every run."""

    def __init__(self, client: AsyncOpenAI, model: str, seed: int) -> None:
        self._client = client
        self._model = model
        self._draws = random.Random(seed)
        self._count = seed  # so that callers do not stream in step

    async def call_for_ever(self, seen: Seen) -> None:
        """Ask until cancelled."""
        while True:
            began = time.monotonic()
            try:
                await self.call()
            except OpenAIError as error:
                seen.errors[_told(error)] += 1
                await asyncio.sleep(max(0.0, LATENCY_S - (time.monotonic() - began)))
            else:
                seen.times_s.append(time.monotonic() - began)

    async def call(self) -> None:
        """Ask once; OpenAIError: no whole answer."""
        self._count += 1
        message: ChatCompletionUserMessageParam = {"role": "user", "content": self._question()}
        if self._count % _STREAMED:
            await self._client.chat.completions.create(model=self._model, messages=[message], max_tokens=MAX_TOKENS)
            return
        stream = await self._client.chat.completions.create(
            model=self._model, messages=[message], max_tokens=MAX_TOKENS, stream=True
        )
        reasons = [choice.finish_reason async for chunk in stream for choice in chunk.choices]
        if not any(reasons):
            raise OpenAIError("a stream broke off")

    def _question(self) -> str:
        size = self._draws.randint(*PROMPT_CHARS)
        words: list[str] = []
        length = 0
        while length < size:
            word = self._draws.choice(_WORDS)
            words.append(word)
            length += len(word) + 1
        return " ".join(words)[:size]


def client(endpoint: Endpoint) -> AsyncOpenAI:
    """An SDK pointed at a contender."""
    return AsyncOpenAI(
        base_url=endpoint.base_url, api_key=endpoint.api_key, max_retries=endpoint.retries, timeout=_PATIENCE_S
    )


async def call_until(endpoint: Endpoint, count: int, ends_s: float) -> Seen:
    """`count` callers who begin within a second, one after the other, until that instant (Unix seconds)."""
    seen = Seen([], Counter())
    async with client(endpoint) as sdk:
        tasks = []
        for seed in range(count):
            tasks.append(asyncio.create_task(Caller(sdk, endpoint.model, seed).call_for_ever(seen)))
            await asyncio.sleep(1 / count)
        await asyncio.sleep(ends_s - time.time())
        times, errors = list(seen.times_s), Counter(seen.errors)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return Seen(times, errors)


def _told(error: OpenAIError) -> str:
    """Under which name an error is counted."""
    return f"{error.status_code}" if isinstance(error, APIStatusError) else type(error).__name__
