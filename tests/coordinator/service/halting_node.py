"""A node whose relay halts before it submits one kind of item: `halting_node crash|withhold KIND REGION HOME`.

`crash` is a kill -9 of the process at that point, `withhold` a coordinator that does everything else. Run as a
program by tests.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from actors.serve import serve
from coordinator.service import interregional
from coordinator.service.relay import Relay, Side
from coordinator.settlement.escrow.missing import Item, Kind

HALTED = "halted before"


class HaltingRelay(Relay):
    """Halts at one kind of item of one region, or of all with `any`."""

    mode: str
    kinds: tuple[Kind, ...]
    region: str

    async def carry(self, item: Item, target: Side) -> None:
        """As any relay, but for that item."""
        if item.kind not in self.kinds or self.region not in (item.region, "any"):
            await super().carry(item, target)
            return
        self._log.info(f"{HALTED} {item}")
        if self.mode == "crash":
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Serve a folder with such a relay."""
    HaltingRelay.mode, kinds, HaltingRelay.region, home = sys.argv[1:5]
    HaltingRelay.kinds = tuple(Kind[name] for name in kinds.split(","))
    setattr(interregional, "Relay", HaltingRelay)  # noqa: B010
    serve(Path(home), False)


if __name__ == "__main__":
    main()
