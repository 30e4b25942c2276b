"""Prompts as applications send them, mixed: English, code, JSON, Chinese. Taken from what is on any machine.

English is the project's own documents and the standard library's docstrings, code is the standard library's, JSON is
made up, Chinese was written for this. The same seed gives the same prompts, as far as the interpreter is the same.
"""

from __future__ import annotations

import argparse
import ast
import asyncio.base_events
import asyncio.tasks
import difflib
import email.message
import http.client
import inspect
import json
import logging
import random
import statistics as statistics_module
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from lib_processes import ROOT

_MODULES: tuple[ModuleType, ...] = (
    asyncio.base_events, asyncio.tasks, argparse, difflib, email.message, http.client, logging, statistics_module,
    subprocess, tarfile,
)  # fmt: skip
_CHARS = (120, 8000)
_SYSTEM = "You are a helpful assistant. Answer briefly, and say so when you do not know."
_FIRST_NAMES = ("Ada", "Bo", "Chen", "Dmitri", "Eva", "Farid", "Grace", "Hiro", "Ines", "Jonas")
KINDS = ("english", "code", "json", "chinese")


class Prompt(NamedTuple):
    """One request: what kind its text is of, its messages, and its body as it goes over the wire."""

    kind: str
    messages: list[dict[str, str]]
    body: bytes


class Prompts:
    """A stream of prompts, each of a kind drawn at random."""

    def __init__(self, seed: int, kinds: tuple[str, ...] = KINDS) -> None:
        self._draws = random.Random(seed)
        self._kinds = kinds
        self._english = _documents() + _docstrings()
        self._code = "\n".join(inspect.getsource(module) for module in _MODULES)
        self._chinese = (Path(__file__).parent / "texts" / "chinese.txt").read_text(encoding="utf-8").split("\n")
        self._texts: dict[str, Callable[[int], str]] = {
            "english": lambda size: self._excerpt(self._english, size),
            "code": lambda size: self._excerpt(self._code, size),
            "json": self._records,
            "chinese": self._sentences,
        }

    def next(self) -> Prompt:
        """The next one. Half come with a system message, some with an earlier turn; one in three clients escapes what
        is not ASCII, as json.dumps does."""
        kind = self._draws.choice(self._kinds)
        least, most = _CHARS
        size = int(least * (most / least) ** self._draws.random())
        messages = [{"role": "system", "content": _SYSTEM}] if self._draws.random() < 0.5 else []
        if self._draws.random() < 0.3:
            messages.append({"role": "user", "content": self._texts[kind](size // 4)})
            messages.append({"role": "assistant", "content": self._texts[kind](size // 4)})
        messages.append({"role": "user", "content": self._texts[kind](size)})
        request = {"model": "openai/gpt-oss-120b", "messages": messages, "max_tokens": 512, "temperature": 0.2}
        escapes = self._draws.random() < 1 / 3
        return Prompt(kind, messages, json.dumps(request, ensure_ascii=escapes, separators=(",", ":")).encode())

    def _excerpt(self, text: str, size: int) -> str:
        start = self._draws.randrange(max(1, len(text) - size))
        return text[start : start + size]

    def _sentences(self, size: int) -> str:
        picked = ""
        while len(picked) < size // 3:  # a Chinese character says what three Latin ones do
            picked += self._draws.choice(self._chinese)
        return picked

    def _records(self, size: int) -> str:
        draws = self._draws
        records: list[dict[str, object]] = []
        indent = draws.choice((None, 2))
        while len(text := json.dumps(records, indent=indent)) < size:
            records.append(
                {
                    "id": draws.randrange(10**6),
                    "name": draws.choice(_FIRST_NAMES),
                    "email": f"user{draws.randrange(1000)}@example.org",
                    "active": draws.random() < 0.5,
                    "score": round(draws.random() * 100, 2),
                    "tags": draws.sample(["new", "priority", "archived", "eu-west-1", "internal"], 2),
                    "created_at": f"2026-0{draws.randint(1, 9)}-1{draws.randint(0, 9)}T08:30:00Z",
                }
            )
        return text


def _documents() -> str:
    return "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    )


def _docstrings() -> str:
    trees = (ast.parse(inspect.getsource(module)) for module in _MODULES)
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return "\n\n".join(
        text
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, kinds) and (text := ast.get_docstring(node))
    )
