"""The status page's server on a real socket: boards shared by all who watch, and who may watch."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json

import aiohttp
import pytest

from sidecar.admin.live import Live
from sidecar.admin.page import StatusPage
from sidecar.admin.server import AdminServer
from sidecar.core.activity import Activity
from sidecar.core.board import Counts, House
from sidecar.core.config import Address
from sidecar.core.entrance import Entrance, Rules, digest
from sidecar.core.limits import SECOND
from sidecar.edge.listening import open_sockets
from tests.core.house import roster_of
from tests.fakes import FakeClock, settle
from tests.values import record as record_of

LOCAL = Rules(1, 1, 1)
ABROAD = LOCAL._replace(is_loopback_only=False, tokens={digest(b"letmein"): "token-0"})


class Admin:
    """A running admin port with its page, on a clock that the test drives."""

    client: aiohttp.ClientSession

    def __init__(self, rules, most=2):
        self.clock = FakeClock()
        self.activity = Activity()
        house = House(roster_of(), self.activity, tuple, self._counts)
        self.live = Live(house, self.clock, most)
        self.counted = 0
        self.entrance = Entrance(rules)
        self.server = AdminServer(lambda: True, lambda: b"{}", self.entrance, StatusPage(self.live))
        self.url = ""

    def _counts(self):
        self.counted += 1
        return Counts("serving", "1", "abc", 0, 0, 0)

    def end(self, number):
        now_ns = self.clock.now_ns()
        self.activity.note(record_of(f"r{number}", now_ns, b"GET", b"/", outcome="ok", status=200), now_ns)

    async def until(self, condition):
        while not condition():
            await settle(1)

    async def tick(self):
        """The next board, drawn."""
        before = self.live.boards
        self.clock.advance(SECOND)
        await self.until(lambda: self.live.boards > before)


@contextlib.asynccontextmanager
async def running(rules=LOCAL, **more):
    admin = Admin(rules, **more)
    (bound,) = open_sockets([Address("127.0.0.1", 0)])
    async with asyncio.timeout(20), aiohttp.ClientSession() as admin.client:
        admin.url = f"http://127.0.0.1:{await admin.server.start(bound)}"
        try:
            yield admin
        finally:
            await admin.server.close()
    assert (admin.entrance.inflight, admin.live.viewers) == (0, 0)


async def board(stream):
    line = await stream.content.readline()
    assert await stream.content.readline() == b"\n"
    return json.loads(line.removeprefix(b"data: "))


async def test_I3_one_board_for_all_who_watch_and_none_for_nobody():
    async with running() as admin:
        admin.end(1)
        admin.clock.advance(10 * SECOND)
        assert admin.counted == 0
        async with admin.client.get(admin.url + "/status/events") as one:
            assert one.headers["content-type"] == "text/event-stream"
            assert one.headers["cache-control"] == "no-store"
            first = await board(one)
            assert (first["all_requests"], [each["id"] for each in first["requests"]]) == (True, ["r1"])
            async with admin.client.get(admin.url + "/status/events") as other:
                assert (await board(other))["all_requests"]
                assert admin.counted == 1
                admin.end(2)
                await admin.tick()
                for stream in (one, other):
                    told = await board(stream)
                    assert (told["all_requests"], [each["id"] for each in told["requests"]]) == (False, ["r2"])
                assert admin.counted == 2
        await admin.until(lambda: not admin.live.viewers or admin.clock.advance(SECOND))
        counted = admin.counted
        admin.clock.advance(10 * SECOND)
        await settle()
        assert admin.counted == counted
        assert admin.clock.pending == 0


async def test_E1_one_more_than_may_watch_is_told_to_come_again():
    async with running(most=1) as admin, admin.client.get(admin.url + "/status/events") as first:
        await board(first)
        async with admin.client.get(admin.url + "/status/events") as second:
            assert (second.status, second.headers["retry-after"]) == (503, "5")
            assert "close another status page" in (await second.json())["error"]["message"]
        assert repr(admin.live) == "<Live 1/1 viewers, 1 boards>"


async def test_closing_sends_viewers_away_in_order():
    async with running() as admin, admin.client.get(admin.url + "/status/events") as stream:
        await board(stream)
        await admin.server.close()
        assert await stream.content.read() == b""


async def test_G4_a_token_that_was_taken_away_ends_the_stream():
    async with running(ABROAD) as admin:
        headers = {"authorization": "Basic " + base64.b64encode(b"me:letmein").decode()}
        async with admin.client.get(admin.url + "/status/events", headers=headers) as stream:
            await board(stream)
            admin.entrance.replace(ABROAD._replace(tokens={digest(b"another"): "token-0"}))
            admin.clock.advance(SECOND)
            assert await stream.content.read() == b""


@pytest.mark.parametrize("path", ["/status", "/status/events", "/status/rows", "/status.json"])
@pytest.mark.parametrize(
    ("rules", "headers", "status"),
    [
        (LOCAL, {"host": "rebound.example.org"}, 403),
        (LOCAL, {"origin": "https://evil.example.org"}, 403),
        (ABROAD, {}, 401),
        (ABROAD, {"authorization": "Basic " + base64.b64encode(b"letmein:wrong").decode()}, 401),
        (ABROAD, {"authorization": "Basic " + base64.b64encode(b"any:letmein").decode()}, 200),
        (ABROAD, {"authorization": "Bearer letmein"}, 200),
    ],
)
async def test_G4_who_may_see_the_page(path, rules, headers, status):
    async with running(rules) as admin, admin.client.get(admin.url + path, headers=headers) as answer:
        assert answer.status == status
        asks = answer.headers.get("www-authenticate", "")
        assert asks.startswith("Basic realm=") is (status == 401)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(("path", "status"), [("/status", 200), ("/status/events", 403), ("/status/rows", 403)])
async def test_G4_a_link_from_another_site_opens_the_page_and_loads_nothing_else(site, path, status):
    async with running() as admin, admin.client.get(admin.url + path, headers={"sec-fetch-site": site}) as answer:
        assert answer.status == status


async def test_the_page_is_one_file_that_asks_for_nothing_else():
    async with running() as admin:
        async with admin.client.get(admin.url + "/status") as answer:
            page = await answer.text()
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert answer.headers["x-frame-options"] == "DENY"
        assert "script-src 'sha256-" in answer.headers["content-security-policy"]
        assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in page
        assert " src=" not in page
        for path in ("/status", "/status/events"):
            async with admin.client.head(admin.url + path) as answer:
                assert (answer.status, await answer.read()) == (200, b"")
        assert admin.counted == 0
        for path in ("/status/", "/statusx", "/status/evil"):
            async with admin.client.get(admin.url + path) as answer:
                assert answer.status == 404


async def test_rows_are_made_anew_when_nobody_watches():
    async with running() as admin:
        for query, accounts in [
            ("", ["org-a", "org-b", "c"]),
            ("?text=ORG-B&level=x&offset=-1", ["org-b"]),
            ("?level=3", []),
            ("?offset=99999999999999", ["org-a", "org-b", "c"]),
        ]:
            async with admin.client.get(admin.url + "/status/rows" + query) as answer:
                found = await answer.json()
            assert [row["account"] for row in found["rows"]] == accounts
            assert found["total"] == len(accounts)


async def test_a_viewer_that_leaves_before_its_first_board_leaves_nothing():
    async with running() as admin:
        boards = admin.live.boards_from_now()
        await anext(boards)
        await boards.aclose()
        assert (admin.live.viewers, admin.clock.pending) == (0, 0)
