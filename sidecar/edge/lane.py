"""What the connections of a fast lane share. Decides nothing."""

from __future__ import annotations

import asyncio
from typing import Protocol

from sidecar.core.hot_head import Patterns
from sidecar.edge.connection import EdgeTiming
from sidecar.edge.general import GeneralLane
from sidecar.edge.open_connections import OpenConnections
from sidecar.edge.reply import Dates
from sidecar.interfaces import Clock, Service


class Lane(Protocol):
    """What the connections of a fast lane share."""

    clock: Clock
    dates: Dates
    general: GeneralLane
    loop: asyncio.AbstractEventLoop
    open: OpenConnections
    patterns: Patterns
    service: Service
    timing: EdgeTiming
