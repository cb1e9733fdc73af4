"""The network of one chain: delay, loss, duplication, reordering, partitions in one or both directions, clogged links.

Before it heals, a message takes `slow_ns` times a long-tailed factor (so messages overtake each other), may be lost,
may come again much later, and links may be cut or clogged. Once healed, every message between nodes that are not
frozen arrives within DELTA_NS.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from coordinator.simulation.options import DELTA_NS, Options

_CLOG_DELTAS = 40
_LONGEST_DELTAS = 40


class Network:
    """Decides when messages arrive. Nodes are numbers."""

    def __init__(self, options: Options, size: int, rng: random.Random) -> None:
        self._options = options
        self._size = size
        self._rng = rng
        self.healed = False
        self.fixed_delay_ns: int | None = None
        """For directed tests: every message takes exactly this long."""
        self._cut = [[False] * size for _ in range(size)]
        self._is_cut = False
        self._clogged_until_ns = [[0] * size for _ in range(size)]
        self._frozen = [False] * size
        self.lost = 0

    def delays_ns(self, source: int, target: int, now_ns: int) -> tuple[int, ...]:
        """When copies of a message arrive, in ns from now; none if it is lost."""
        if self._frozen[source] or self._frozen[target]:
            return ()
        if self.fixed_delay_ns is not None:
            return (self.fixed_delay_ns,)
        draw = self._rng.random
        if self.healed:
            return (DELTA_NS // 50 + int(draw() * 0.4 * DELTA_NS),)
        options = self._options
        if self._cut[source][target] or draw() < options.loss:
            self.lost += 1
            return ()
        delay_ns = max(0, self._clogged_until_ns[source][target] - now_ns) + self._delay_ns(draw)
        if options.duplication and draw() < options.duplication:
            return delay_ns, delay_ns + int(draw() * 10 * DELTA_NS)
        return (delay_ns,)

    def _delay_ns(self, draw: Callable[[], float]) -> int:
        """Median `slow_ns`, long tail; only operations whose results are the same on all machines."""
        share = draw()
        return min(int(self._options.slow_ns * share / (1.02 - share)), _LONGEST_DELTAS * DELTA_NS) + DELTA_NS // 50

    def disturb(self, now_ns: int) -> list[tuple[int, int]]:
        """Let partitions and clogs come and go; gives the pairs that are connected again."""
        options, rng = self._options, self._rng
        again: list[tuple[int, int]] = []
        if options.partition and rng.random() < options.partition:
            again = self._toggle_partition()
        if options.clog and rng.random() < options.clog:
            source, target = rng.randrange(self._size), rng.randrange(self._size)
            self._clogged_until_ns[source][target] = now_ns + int(rng.random() * _CLOG_DELTAS * DELTA_NS)
        return again

    def _toggle_partition(self) -> list[tuple[int, int]]:
        if self._is_cut:
            return self._mend()
        rng, size = self._rng, self._size
        side = [rng.random() < 0.5 for _ in range(size)]
        one_way = self._options.asymmetric and rng.random() < 0.5
        for source in range(size):
            for target in range(size):
                differ = side[source] != side[target]
                self._cut[source][target] = differ and (not one_way or side[source])
        self._is_cut = True
        return []

    def _mend(self) -> list[tuple[int, int]]:
        pairs = [(a, b) for a in range(self._size) for b in range(self._size) if self._cut[a][b]]
        self._cut = [[False] * self._size for _ in range(self._size)]
        self._is_cut = False
        return pairs

    def heal(self, frozen: list[int]) -> None:
        """From now on messages arrive within DELTA_NS, except from and to frozen nodes."""
        self._mend()
        self.healed = True
        for node in frozen:
            self._frozen[node] = True
