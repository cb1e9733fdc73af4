"""Audits of several ledgers side by side: each a `gridaccord audit` in a process of its own, as anybody runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from actors.results.run_folder import ChainFile, RunError
from coordinator.ledger.audit import AuditReport, Finding

Audits = dict[str, Future[AuditReport]]
"""By chain; `result()` raises RunError where a ledger could not be read at all."""


@contextmanager
def audits(chains: Sequence[ChainFile]) -> Iterator[Audits]:
    """Begin them, as many at once as there are cores. Those that nobody waits for any more are not begun."""
    pool = ThreadPoolExecutor(os.cpu_count() or 1, "audit")
    try:
        yield {chain.name: pool.submit(_audit, chain) for chain in chains}
    finally:
        pool.shutdown(cancel_futures=True)


def _audit(chain: ChainFile) -> AuditReport:
    options = ("--chain-id", chain.genesis.chain_id.hex(), "--json", "--quiet")
    command = [sys.executable, "-m", "actors.audit", str(chain.path), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise RunError(f"{chain.path}: the audit ended with exit code {done.returncode}: {done.stderr.strip()}")
    document = json.loads(done.stdout)
    del document["valid"], document["seconds"]
    finding = document.pop("finding")
    return AuditReport(**document, finding=None if finding is None else Finding(**finding))
