"""The status page in a real Chromium, before a whole sidecar: what it shows, as it happens; by keyboard, on a phone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re

import pytest
import pytest_asyncio

from sidecar.core.limits import SECOND
from sidecar.sim.config import SimConfig
from sidecar.sim.faults import Fault
from tests.admin.test_page import ABROAD
from tests.admin.test_page import running as serving_page
from tests.browser import LAPTOP, PHONE, chromium, complaints
from tests.processes import ROOT
from tests.rig import chat, running, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG = """
providers:
  - name: groq
    base_url: "{groq}"
    keys: [{name: team-a, env: KEY_A, account: org-a}, {name: team-b, env: KEY_B, account: org-b}]
    limits: [{model: "*", rpm: 30, tpm: 60000}]
  - name: cerebras
    base_url: "{cerebras}"
    keys: [{name: main, env: KEY_C}]
models:
  - {name: fast, chain: [groq/openai/gpt-oss-120b, cerebras/gpt-oss-120b]}
wait: {max: 0s}
"""
SIMS = {
    "groq": SimConfig("groq", keys={"gsk_a": "org-a", "gsk_b": "org-b"}),
    "cerebras": SimConfig("cerebras", keys={"csk_c": "main"}),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser():
    async with chromium() as started:
        yield started


@contextlib.asynccontextmanager
async def watching(browser, rig, **options):
    """A page that shows its first board; nothing may have been said against it in the end."""
    context = await browser.new_context(viewport=options.pop("viewport", LAPTOP), **options)
    async with asyncio.timeout(20):
        page = await context.new_page()
        page.set_default_timeout(8_000)
        said = complaints(page)
        await page.goto(f"{rig.admin}/status")
        await page.wait_for_selector("#live-text:text-is('live')")
        yield page
        await page.close()
        await context.close()
    # a stream that is open when its page is closed has failed, in the browser's words
    assert [line for line in said if "/status/events" not in line] == []


@pytest_asyncio.fixture(loop_scope="module")
async def rig(tmp_path):
    async with running(tmp_path, CONFIG, SIMS) as started:
        yield started


async def test_I3_it_shows_what_happens_while_it_happens(browser, rig):
    async with watching(browser, rig) as page:
        await page.wait_for_selector("#no-requests:visible")
        assert (await rig.post(body=chat("fast"))).status == 200
        row = page.locator("#requests tr").first
        await row.wait_for()
        assert "200 ok" in await row.inner_text()
        meters = page.locator("[role=meter][aria-label='requests / minute']")
        await meters.first.wait_for()
        values = [await meters.nth(at).get_attribute("aria-valuenow") for at in range(await meters.count())]
        assert "29" in values
        assert await page.locator("#chains .takes").text_content() == "groq/openai/gpt-oss-120b ready serves now"


async def test_I3_a_provider_that_refuses_is_seen_with_its_reason_and_its_end(browser, rig):
    async with watching(browser, rig) as page:
        rig.fault("groq", Fault("rate_limit", seconds=90))
        assert (await rig.post(body=chat("fast"))).headers["x-sidecar-provider"] == "cerebras"
        troubles = page.locator("#troubles li", has_text="cooling down")
        await troubles.nth(1).wait_for()
        told = await troubles.first.inner_text()
        assert "groq/openai/gpt-oss-120b" in told
        assert re.search(r"ends in (8\d|90) s", told), told
        takes = page.locator("#chains .takes", has_text="cerebras/gpt-oss-120b")
        await takes.wait_for()
        trail = page.locator("#requests ol.trail li")
        assert [await trail.nth(at).inner_text() for at in range(2)] == [
            f"groq/openai/gpt-oss-120b, key {name}: rate limited (429)" for name in await _order(rig)
        ]
        assert (await rig.post(body=chat("groq/openai/gpt-oss-120b"))).status == 429
        await page.wait_for_selector("#errors:text-is('1')")
        await page.locator("#requests .l3", has_text="429 rate limit exceeded").wait_for()


async def _order(rig):
    """The keys in the order they were tried, by what the log says."""
    return [step["key"] for step in rig.requests[0]["trail"]]


HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\u2028'\"`"


async def test_G6_what_callers_say_is_text(browser, rig):
    async with watching(browser, rig) as page:
        shown = []
        page.on("dialog", lambda dialog: shown.append(dialog))
        rig.fault("groq", Fault("rate_limit", seconds=90))
        await rig.post(body=chat(f"groq/{HOSTILE}"))
        await rig.get("/v1/<svg/onload=alert(3)>")
        await page.locator("#requests tr").nth(1).wait_for()
        text = await page.locator("#requests").inner_text()
        assert "<img src=x onerror=alert(1)><script>" in text
        assert await page.locator("#requests img, #requests script, #requests svg, #groups img").count() == 0
        await page.locator("#groups h3", has_text="<img src=x").first.wait_for()
        assert not shown
        text = await page.content()
        assert all(secret not in text for secret in ("gsk_a", "gsk_b", "csk_c"))


async def test_dark_as_the_system_has_it_until_the_keyboard_says_otherwise(browser, rig):
    async with watching(browser, rig, color_scheme="dark") as page:
        background = "getComputedStyle(document.body).backgroundColor"
        assert await page.evaluate(background) == "rgb(16, 19, 26)"
        focused = []
        for _ in range(3):
            await page.keyboard.press("Tab")
            focused.append(await page.evaluate("document.activeElement.textContent"))
        assert focused == ["Skip to the status", "Pause", "Light mode"]
        assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        await page.keyboard.press("Enter")
        assert await page.evaluate(background) == "rgb(246, 247, 249)"
        await page.reload()
        assert await page.evaluate(background) == "rgb(246, 247, 249)", "the choice is remembered"
        for name in ("text", "level"):
            await page.locator(f"#{name}").focus()
            assert await page.evaluate("document.activeElement.id") == name
        summary = page.locator("details.group > summary").first
        await summary.focus()
        await page.keyboard.press("Enter")
        assert not await page.evaluate("document.querySelector('details.group').open")


async def test_a_page_that_is_paused_or_closed_costs_nothing(browser, rig):
    live = rig.sidecar.live
    async with watching(browser, rig) as page:
        assert live.viewers == 1
        await page.get_by_role("button", name="Pause").press("Space")
        await page.wait_for_selector("#live-text:text-is('paused')")
        await until(lambda: live.viewers == 0)
        await page.get_by_role("button", name="Go on").press("Space")
        await page.wait_for_selector("#live-text:text-is('live')")
    await until(lambda: live.viewers == 0)
    drawn = live.boards
    assert (await rig.post()).status == 200
    assert live.boards == drawn


async def test_G4_off_loopback_a_browser_gives_the_token_as_its_password(browser):
    async with serving_page(ABROAD) as admin:
        for password, status in (("wrong", 401), ("letmein", 200)):
            login = {"username": "anybody", "password": password}
            context = await browser.new_context(http_credentials=login)
            page = await context.new_page()
            answer = await page.goto(f"{admin.url}/status")
            assert answer.status == status
            if status == 200:
                await page.wait_for_selector("#live-text:text-is('live')", timeout=8_000)
            await context.close()
        await admin.until(lambda: not admin.live.viewers or admin.clock.advance(SECOND))


MANY = 1000


async def test_I3_a_thousand_keys_on_a_phone(browser, tmp_path):
    keys = ", ".join(f"{{name: key-{n}, env: K{n}}}" for n in range(MANY))
    config = f"""
providers:
  - name: groq
    base_url: "{{groq}}"
    keys: [{keys}]
    limits: [{{model: "*", rpm: 30, tpm: 6000, rpd: 1000, tpd: 100000}}]
models: [{{name: fast, chain: [groq/openai/gpt-oss-120b]}}]
"""
    environ = {f"K{n}": f"gsk_{n}" for n in range(MANY)} | {"K777": ""}
    async with running(tmp_path, config, {"groq": SimConfig("groq")}, environ=environ) as rig:
        assert (await rig.post(body=chat("fast"))).status == 200
        async with watching(browser, rig, viewport=PHONE) as page:
            await page.get_by_text("999 of 1,000", exact=True).wait_for()
            first = page.locator("#groups .row").first
            assert "key-777: missing" in await first.inner_text(), "who is in trouble comes first"
            assert await page.locator("#groups .row").count() == 60
            assert await page.evaluate("document.documentElement.scrollWidth") <= 375
            await page.get_by_label("Provider, account, model, key or state").fill("key-99")
            await page.get_by_text("1 to 11 of 11, the worst first").wait_for()
            await page.get_by_label("Provider, account, model, key or state").fill("")
            await page.get_by_role("button", name="Next").click()
            await page.get_by_text("61 to 120 of 1,000, the worst first").wait_for()
            await page.get_by_role("button", name="Previous").click()
            await page.get_by_text("1 to 60 of 1,000, the worst first").wait_for()
            assert await page.evaluate("document.documentElement.scrollWidth") <= 375
        async with rig.client.get(rig.admin + "/status/events") as stream:
            board = json.loads((await stream.content.readline()).removeprefix(b"data: "))
        assert (len(board["rows"]), board["more_rows"]) == (60, MANY - 60)
        assert len(json.dumps(board)) < 80_000


def _ratio(one, other):
    """The contrast of two colours (WCAG 2.2, relative luminance)."""

    def luminance(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


async def test_every_colour_can_be_read_in_both_schemes():
    page = (ROOT / "sidecar/admin/status.html").read_text()
    schemes = re.findall(r"^:root[^{]*\{([^}]*)\}", page, re.MULTILINE)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", scheme))
        for ground in ("page", "card"):
            for text in ("ink", "soft", "link", "good", "low", "held", "bad"):
                assert _ratio(colours[text], colours[ground]) >= 4.5, (text, ground)
            for shape in ("focus", "soft"):
                assert _ratio(colours[shape], colours[ground]) >= 3, (shape, ground)
        for bar in ("good-bar", "low-bar", "bad-bar"):
            assert _ratio(colours[bar], colours["card"]) >= 3, bar
