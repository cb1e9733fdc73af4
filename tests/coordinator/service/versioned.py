"""The real node as software of another version: it says that it speaks other protocol versions, and does the same.

python -m tests.coordinator.service.versioned HOME LOWEST HIGHEST
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path

from coordinator.service import host
from coordinator.service.home import Home
from coordinator.service.node import Node


def main(home: Path, lowest: int, highest: int) -> None:
    """Run the node."""
    host.machine_of = partial(host.machine_of, versions=tuple(range(lowest, highest + 1)))  # type: ignore[attr-defined]

    async def run() -> None:
        await Node(Home(home)).run()

    asyncio.run(run())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
