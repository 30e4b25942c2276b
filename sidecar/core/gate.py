"""What a cooldown lets through: everything, nothing, or one probe (acceptance A18).

The three states alone; which event leads from one to the other is quota.py's to decide, which knows who the probe is.
"""

from __future__ import annotations

import enum


class Gate(enum.Enum):
    """Whether a cooldown stands before the windows."""

    OPEN = "open"
    COOLING = "cooling"  # until `cooldown_until`; from then on the first request to come is the probe
    PROBING = "probing"  # one request is out; all others wait for what becomes of it
