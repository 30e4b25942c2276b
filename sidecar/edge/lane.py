"""What the connections of a fast lane share. Decides nothing."""

from __future__ import annotations

import asyncio
from typing import Final

from sidecar.core.hot_head import Patterns
from sidecar.edge.connection import EdgeTiming
from sidecar.edge.general import GeneralLane
from sidecar.edge.open_connections import OpenConnections
from sidecar.edge.reply import Dates
from sidecar.interfaces import Clock, Service


class Lane:
    """What the connections of a fast lane share. Made inside a running event loop."""

    __slots__ = ("clock", "dates", "general", "loop", "open", "patterns", "service", "timing")

    def __init__(
        self,
        service: Service,
        timing: EdgeTiming,
        clock: Clock,
        open_connections: OpenConnections,
        general: GeneralLane,
    ) -> None:
        self.service = service
        self.timing: Final = timing
        self.clock: Final = clock
        self.open: Final = open_connections
        self.general: Final = general
        self.dates: Final = Dates(clock.now_ns)
        self.patterns: Final = Patterns()
        self.loop: Final = asyncio.get_running_loop()
