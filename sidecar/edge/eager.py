"""Tasks that begin at once where the interpreter can do so (3.12 on), in the next turn of the loop where it cannot."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine

if sys.version_info >= (3, 12):

    def start(work: Coroutine[None, None, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        """Run until it first waits, before this returns."""
        return asyncio.Task(work, loop=loop, name="request", eager_start=True)

else:

    def start(work: Coroutine[None, None, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        """Run in the next turn of the loop. With a name of its own, none is made up for each task."""
        return asyncio.Task(work, loop=loop, name="request")
