"""The writing half: who waits for a transport that holds enough, and who is told that the caller is gone."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.edge.open_connections import OpenConnections
from sidecar.edge.reply import Dates
from sidecar.edge.writing import Writing
from sidecar.interfaces import ClientGone
from tests.fakes import settle


class Sink(asyncio.Transport):
    def __init__(self):
        super().__init__()
        self.written = []

    def write(self, data):
        self.written.append(data)

    def is_closing(self):
        return b"close" in self.written


def made():
    writing = Writing(OpenConnections(), Dates(lambda: 0))
    writing._transport = Sink()
    return writing


async def test_a_writer_waits_while_the_transport_holds_enough_and_no_longer():
    writing = made()
    await writing.writable()
    writing.pause_writing()
    assert writing.is_stalled()
    waiting = asyncio.ensure_future(writing.writable())
    await settle()
    assert not waiting.done()
    writing.resume_writing()
    await waiting
    assert not writing.is_stalled()


async def test_a_writer_that_was_cancelled_leaves_nothing_behind():
    writing = made()
    writing.pause_writing()
    waiting = asyncio.ensure_future(writing.writable())
    await settle()
    waiting.cancel()
    await settle()
    writing.resume_writing()
    await writing.writable()


async def test_a_lost_connection_wakes_the_writer_and_refuses_the_next():
    writing = made()
    writing.pause_writing()
    waiting = asyncio.ensure_future(writing.writable())
    await settle()
    writing.connection_lost(None)
    with pytest.raises(ClientGone):
        await waiting
    with pytest.raises(ClientGone):
        writing.write(b"x")
    writing.abort()
    writing.force_close()


def test_a_closing_transport_takes_nothing():
    writing = made()
    writing.write(b"close")
    with pytest.raises(ClientGone):
        writing.write(b"x")
