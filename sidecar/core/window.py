"""The contract of all windows: how a provider counts against one limit, as integers of nanoseconds.

A window decides: does an amount fit now, when will it, what is left. It refuses to know what is counted, for whom, and
what time it is. Tests and spends are separate steps, so that many windows can be tested before any is spent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod


class Window(ABC):
    """What every algorithm offers. Amounts are whole units of the axis; times are Unix ns. A new window is whole.

    A class and no protocol: calls between classes that are compiled are direct.
    """

    __slots__ = ("limit", "window_ns")

    # it changes by the calls made to it, and otherwise only grows: what was seen lately may be relied on
    is_ours = True

    def __init__(self, limit: int, window_ns: int) -> None:
        self.limit = limit  # read it freely, change it with set_limit
        self.window_ns = window_ns

    @abstractmethod
    def fits(self, amount: int, now: int) -> bool:
        """Whether `amount` may be spent now. Nothing always fits; more than the limit never does."""

    @abstractmethod
    def free_at(self, amount: int, now: int) -> int | None:
        """`now` when it fits now, else the first instant at which it would; None when it never will."""

    @abstractmethod
    def spend(self, amount: int, now: int) -> None:
        """Take `amount` without asking: may overdraw, since a provider may report more than was thought."""

    @abstractmethod
    def refund(self, amount: int, now: int, spent_ns: int | None = None) -> None:
        """Give back part of what was spent at `spent_ns` (default: just now); what has come back already stays."""

    @abstractmethod
    def remaining(self, now: int) -> int:
        """The largest amount that fits now, 0 when overdrawn."""

    @abstractmethod
    def admits_by(self, until: int, now: int) -> int:
        """The most that may be admitted from now to `until` if nothing is given back; never less than really may."""

    @abstractmethod
    def resets_at(self, now: int) -> int:
        """When the window will be whole again; `now` when it is."""

    @abstractmethod
    def observe(self, remaining: int, now: int, whole_ns: int | None = None) -> None:
        """Take over the provider's own count; `whole_ns`: when it says the window will be whole, where that helps."""

    @abstractmethod
    def brought_up(self, remaining: int, told_of_ns: int, since: int, now: int) -> int | None:
        """What a count the provider made at `told_of_ns` comes to now, `since` having been spent after it.

        None: nothing, it was made of a window that is over.
        """

    @abstractmethod
    def set_limit(self, limit: int, now: int) -> None:
        """Change the limit. What was used stays used, so a raised limit admits at once."""

    @abstractmethod
    def state(self) -> tuple[int, ...]:
        """Plain integers to keep, none negative while anything is spent; `restore` takes them, under whatever limit."""

    @abstractmethod
    def restore(self, state: tuple[int, ...], now: int) -> None:
        """Continue from a kept state. ValueError: it is not one of this algorithm."""
