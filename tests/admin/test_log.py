"""The log: whole lines of JSON, those of one turn of the loop in one write, none held back."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from sidecar.admin.event import Event
from sidecar.admin.log import LineLog, write_stdout
from sidecar.core.scribe import Scribe
from tests.values import record as record_of

NOW = 1_700_000_000_000_000_000


def line(name="req_1", **fields):
    return Scribe().line(record_of(name, NOW, b"POST", b"/v1/x", **fields), NOW)


def event(message="words", subject=None):
    return Event("2023-11-14T22:13:20.000Z", "reloaded", message, subject)


async def test_lines_of_one_turn_are_one_write():
    writes: list[bytes] = []
    log = LineLog(writes.append)
    log.request(line("a"))
    log.event(event())
    log.request(line("b"))
    assert writes == [], "nobody waits for the log"
    await asyncio.sleep(0)
    (write,) = writes
    assert write.endswith(b"\n")
    told = [json.loads(each) for each in write.splitlines()]
    assert [each.get("id") for each in told] == ["a", None, "b"]
    assert told[1] == {"time": "2023-11-14T22:13:20.000Z", "event": "reloaded", "message": "words"}


async def test_each_turn_writes_its_own():
    writes: list[bytes] = []
    log = LineLog(writes.append)
    for name in "abc":
        log.request(line(name))
        await asyncio.sleep(0)
    assert [json.loads(write)["id"] for write in writes] == ["a", "b", "c"]


async def test_at_the_end_the_rest_is_written_once():
    writes: list[bytes] = []
    log = LineLog(writes.append)
    log.flush()
    assert writes == []
    log.event(event(subject="groq/a"))
    log.flush()
    log.flush()
    await asyncio.sleep(0)
    (write,) = writes
    assert json.loads(write)["subject"] == "groq/a"


async def test_E1_very_much_in_one_turn_is_not_held():
    writes: list[bytes] = []
    log = LineLog(writes.append)
    for _ in range(100):
        log.event(event("x" * 2000))
    assert 2 <= len(writes) <= 4
    assert all(len(write) < 70 * 1024 for write in writes)
    await asyncio.sleep(0)
    assert b"".join(writes).count(b"\n") == 100
    assert all(json.loads(each)["message"] == "x" * 2000 for each in b"".join(writes).splitlines())


async def test_what_callers_write_makes_no_second_line():
    writes: list[bytes] = []
    log = LineLog(writes.append)
    log.request(line(model='a\n{"id": "forged"}\r\u2028'))
    log.flush()
    assert b"".join(writes).count(b"\n") == 1
    assert json.loads(writes[0])["model"] == 'a\n{"id": "forged"}\r\u2028'


async def test_a_sink_that_fails_once_is_used_again():
    writes: list[bytes] = []

    def failing(lines):
        writes.append(lines)
        if len(writes) == 1:
            raise OSError("the disk is full")

    log = LineLog(failing)
    log.event(event("one"))
    with pytest.raises(OSError, match="full"):
        log.flush()
    log.event(event("two"))
    log.flush()
    assert [json.loads(write)["message"] for write in writes] == ["one", "two"]


def test_the_real_sink_is_standard_output(capsysbinary):
    write_stdout(b"one\n")
    assert capsysbinary.readouterr() == (b"one\n", b"")


PROGRAM = """
from sidecar.admin.log import write_stdout
write_stdout(b"one\\n")
input()
for _ in range(3):
    write_stdout(b"two" * 100_000)
input()
"""


def test_the_real_sink_writes_at_once_and_outlives_its_reader():
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"one\n"
        process.stdout.close()
        process.stdin.write(b"\n\n")
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=5) == 0


async def test_lines_of_requests_wait_for_company_and_events_take_them_along():
    writes: list[bytes] = []
    log = LineLog(writes.append, every_s=3600)
    for name in "ab":
        log.request(line(name))
        await asyncio.sleep(0)
    assert writes == []
    log.event(event())
    await asyncio.sleep(0)
    (write,) = writes
    assert [json.loads(each).get("id") for each in write.splitlines()] == ["a", "b", None]


async def test_many_lines_wait_for_nobody():
    writes: list[bytes] = []
    log = LineLog(writes.append, every_s=3600)
    for _ in range(1000):
        log.request(line())
    assert 2 <= len(writes) <= 4
    assert all(len(write) < 70 * 1024 for write in writes)
    log.flush()
    assert sum(write.count(b"\n") for write in writes) == 1000


async def test_a_line_is_written_in_time():
    written = asyncio.Event()
    log = LineLog(lambda lines: written.set(), every_s=0.01)
    log.request(line())
    async with asyncio.timeout(5):
        await written.wait()
