"""Makes docs/status.png: the status page in a real Chromium, before a sidecar and simulated providers that are busy.

Run by `make screenshot`. The providers are scripted to refuse, to fail and to be short of quota, so that each part of
the page has something to show.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from sidecar.sim.config import SimConfig
from sidecar.sim.faults import Fault
from tests.browser import chromium
from tests.rig import Rig, chat, running, until

_CONFIG = """
providers:
  - name: groq
    base_url: "{groq}"
    keys:
      - {name: team-a, env: KEY_A, account: org-a}
      - {name: team-b, env: KEY_B, account: org-b}
      - {name: spare, file: /var/run/secrets/groq/spare}
    limits: [{model: "*", rpm: 30, tpm: 12000, rpd: 1000}]
  - name: cerebras
    base_url: "{cerebras}"
    keys: [{name: main, env: KEY_C}]
    limits: [{model: "*", rpm: 20, tpm: 60000}]
models:
  - {name: fast, chain: [groq/openai/gpt-oss-120b, cerebras/gpt-oss-120b]}
  - {name: small, chain: [groq/llama-3.1-8b-instant]}
wait: {max: 60s}
"""
_SIMS = {
    "groq": SimConfig("groq", keys={"gsk_a": "org-a", "gsk_b": "org-b"}),
    "cerebras": SimConfig("cerebras", keys={"csk_c": "main"}),
}


async def _be_busy(rig: Rig) -> list[asyncio.Task[object]]:
    """Requests of all kinds; those that still wait."""
    for _ in range(14):
        await rig.post(body=chat("fast", max_tokens=200))
    rig.fault("groq", Fault("status", status=503, count=2))
    await rig.post(body=chat("fast", stream=True))
    await rig.get("/v1/nothing-here")
    rig.fault("groq", Fault("rate_limit", seconds=90, key="gsk_b", count=1, model="openai/*"))
    for _ in range(6):
        await rig.post(body=chat("fast"))
    rig.fault("groq", Fault("rate_limit", seconds=50, count=2, model="llama*"))
    first = asyncio.create_task(_wait(rig))
    await until(lambda: rig.sidecar.live.house.tickets() != ())
    return [first, *(asyncio.create_task(_wait(rig)) for _ in range(2))]


async def _wait(rig: Rig) -> object:
    return await rig.post(body=chat("small"))


async def main(path: str) -> None:
    """Write the picture to `path`."""
    with tempfile.TemporaryDirectory() as folder:
        async with chromium() as browser, running(Path(folder), _CONFIG, _SIMS) as rig:
            page = await browser.new_page(viewport={"width": 1200, "height": 1000}, color_scheme="light")
            waiting = await _be_busy(rig)
            await page.goto(f"{rig.admin}/status")
            await page.locator("#waits li", has_text="request").nth(2).wait_for()
            await page.locator("#rate-curve polyline").wait_for(state="attached")
            await page.wait_for_timeout(1500)  # so that the second that was busy is on the curves
            await page.screenshot(path=path, full_page=True, clip={"x": 0, "y": 0, "width": 1200, "height": 2000})
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
