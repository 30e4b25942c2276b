"""Two attempts at once: when the first target is silent for too long, another is asked beside it, and the first to
have an answer is kept.

Whom to ask, and whether anyone, is core.attempts' to say. It happens before anything was passed on, so the caller sees
one answer; both targets are charged. Only requests that may be hedged come here: all others pay nothing for it.
"""

from __future__ import annotations

import asyncio

from sidecar.attempt import Attempt
from sidecar.job import Job, Shells
from sidecar.upstream.deadline import until


async def race(shells: Shells, job: Job, made: list[Attempt]) -> Attempt | None:
    """The attempt that has an answer, or None when none has. `made` holds the first, and takes the second as well;
    whoever calls closes them."""
    tasks = [asyncio.ensure_future(made[0].obtain())]
    winner: Attempt | None = None
    try:
        if await _is_slow(shells, job, tasks[0]):
            beside = job.attempts.hedge(made[0].send.candidate, shells.clock.now_ns())
            if beside is not None:
                made.append(Attempt(shells, job, beside))
                tasks.append(asyncio.ensure_future(made[1].obtain()))
        winner = await _first_answer(tasks)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for each, result in zip(made, results, strict=True):
        if isinstance(result, Exception):
            raise result
        if each is not winner and result is not None:
            each.give_way()
        elif each is not winner:
            each.close()  # it has failed by itself
    return winner


async def _is_slow(shells: Shells, job: Job, task: asyncio.Task[Attempt | None]) -> bool:
    try:
        async with until(shells.clock, shells.clock.now_ns() + (job.policy.hedge_ns or 0)):
            await asyncio.wait([task])
    except TimeoutError:
        return not task.done()
    return False


async def _first_answer(tasks: list[asyncio.Task[Attempt | None]]) -> Attempt | None:
    """The first of them that has one; the one that began first, if two have."""
    while tasks:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done() and (answered := task.result()) is not None:
                return answered
        tasks = [task for task in tasks if not task.done()]
    return None
