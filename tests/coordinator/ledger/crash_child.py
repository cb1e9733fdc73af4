"""Run by test_store.py: commits blocks in processes that are killed with SIGKILL, at many points; prints what it saw.

    python -m tests.coordinator.ledger.crash_child FOLDER

One line a run on standard output: the file, and the last height that was accepted.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from coordinator.ledger.store import Store
from tests.coordinator.ledger.support import Chain

BLOCKS = 12
STEPS = [n * n * 7 for n in range(1, 25)]
SPINS = [n * 1500 for n in range(24)]


def prepare(folder: Path) -> tuple[Chain, Path]:
    """A ledger at genesis to copy."""
    chain = Chain(real=False, path=folder / "empty.sqlite", epoch_length=5)
    assert chain.store is not None
    chain.store.close()
    return chain, folder / "empty.sqlite"


def commit_all(chain: Chain, path: Path, report: int, kill_at: int | None) -> None:
    """In the child: commit blocks and tell of each that was accepted; with `kill_at` die after so many steps."""
    store = Store.open(path)
    if kill_at is not None:
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            if steps == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return 0

        store._connection.set_progress_handler(count, 1)
    for number in range(BLOCKS):
        finalized = [chain.make(chain.pay("alice", "bob", 1 + number), certified=False), chain.make()]
        store.commit(finalized)
        os.write(report, bytes([store.state.header.height]))
    os._exit(0)


def run(chain: Chain, path: Path, kill_at: int | None, spins: int) -> int:
    """Fork, kill, and return the last height that the child was told is durable."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        commit_all(chain, path, writing, kill_at)
    os.close(writing)
    accepted = os.read(reading, 1) if kill_at is None else b""
    if kill_at is None:
        for _ in range(spins):
            pass
        os.kill(child, signal.SIGKILL)
    while more := os.read(reading, 1):
        accepted = more
    os.waitpid(child, 0)
    os.close(reading)
    return accepted[0] if accepted else 0


def main() -> None:
    """Every point once."""
    folder = Path(sys.argv[1])
    chain, empty = prepare(folder)
    points: list[tuple[int | None, int]] = [(step, 0) for step in STEPS] + [(None, spins) for spins in SPINS]
    for number, (kill_at, spins) in enumerate(points):
        path = folder / f"run{number}.sqlite"
        shutil.copy(empty, path)
        height = run(chain, path, kill_at, spins)
        print(json.dumps({"path": str(path), "height": height}), flush=True)


if __name__ == "__main__":
    main()
