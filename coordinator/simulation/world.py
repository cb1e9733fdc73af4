"""Virtual time: one queue of events for all chains of a run. Nothing here knows a real clock."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from coordinator.simulation.trace import Trace

Handler = Callable[..., None]


class World:
    """The clock, the queue, the one source of randomness, and the trace. Times are int ns."""

    __slots__ = ("_queue", "_sequence", "events", "now_ns", "rng", "trace")

    def __init__(self, rng: random.Random, trace: Trace) -> None:
        self.rng = rng
        self.trace = trace
        self.now_ns = 0
        self.events = 0
        self._queue: list[tuple[int, int, Handler, tuple[object, ...]]] = []
        self._sequence = 0

    def at(self, time_ns: int, handler: Handler, *arguments: object) -> None:
        """Call the handler at a time, not before now; equal times in the order of these calls."""
        self._sequence += 1
        heapq.heappush(self._queue, (max(time_ns, self.now_ns), self._sequence, handler, arguments))

    def after(self, delay_ns: int, handler: Handler, *arguments: object) -> None:
        """Call the handler after a delay."""
        self._sequence += 1
        heapq.heappush(self._queue, (self.now_ns + delay_ns, self._sequence, handler, arguments))

    def run(self, until_ns: int, is_over: Callable[[], bool]) -> None:
        """Run up to a time, or until `is_over` says so after an event."""
        queue = self._queue
        while queue and queue[0][0] <= until_ns:
            self.now_ns, _, handler, arguments = heapq.heappop(queue)
            handler(*arguments)
            if is_over():
                return
        self.now_ns = until_ns
