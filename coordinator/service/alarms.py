"""Timers of the core on the event loop's clock: never cancelled, at most one call of the loop is pending."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterator

from coordinator.consensus.effects import Timer


class Alarms:
    """Sets `wake` when the earliest timer is due."""

    def __init__(self, wake: asyncio.Event) -> None:
        self._wake = wake
        self._timers: list[tuple[int, int, Timer]] = []
        self._number = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at_ns = 0

    def set(self, at_ns: int, timer: Timer) -> None:
        """Fire at this time."""
        self._number += 1
        heapq.heappush(self._timers, (at_ns, self._number, timer))
        if self._timers[0][1] == self._number:
            self._wake.set()

    def due(self, now_ns: int) -> Iterator[Timer]:
        """The timers whose time has come, in order; and arrange to be woken for the next."""
        while self._timers and self._timers[0][0] <= now_ns:
            yield heapq.heappop(self._timers)[2]
        if self._timers and self._timers[0][0] != self._alarm_at_ns:
            self._arrange(self._timers[0][0], now_ns)

    def _arrange(self, at_ns: int, now_ns: int) -> None:
        self.stop()
        self._alarm_at_ns = at_ns
        self._alarm = asyncio.get_running_loop().call_later((at_ns - now_ns) / 1e9, self._ring)

    def _ring(self) -> None:
        self._alarm_at_ns = 0
        self._wake.set()

    def stop(self) -> None:
        """Wake no more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
