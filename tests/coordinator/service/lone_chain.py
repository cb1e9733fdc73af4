"""A chain with one validator in this process: a real host with real files, and nobody to talk to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from coordinator.consensus.signing import Ed25519Signer
from coordinator.ledger.genesis import FORMAT, Genesis, decode_genesis, encode_genesis
from coordinator.service.home import Pace
from coordinator.service.host import ChainHost
from coordinator.service.log import Log
from coordinator.service.metrics import ChainMetrics, NodeMetrics

VALIDATOR, PARTICIPANT = "alpha-validator", "alpha"
SIGNER, PARTICIPANT_SIGNER = Ed25519Signer(b"\1" * 32), Ed25519Signer(b"\2" * 32)


def genesis() -> Genesis:
    """One validator, which has some money."""
    content = {
        "format": FORMAT,
        "name": "lone",
        "time_ms": int(time.time() * 1000) - 1000,
        "version": 1,
        "epoch_length": 10_000,
        "validators": [{"name": VALIDATOR, "public_key": SIGNER.public_key.hex()}],
        "participants": [{"name": PARTICIPANT, "public_key": PARTICIPANT_SIGNER.public_key.hex()}],
        "devices": [],
        "assets": [{"name": "EUR", "issuer": PARTICIPANT}],
        "accounts": [{"owner": VALIDATOR, "asset": "EUR", "balance": 10**9, "credit_limit": 0}],
        "parameters": {},
        "modules": {},
    }
    return decode_genesis(encode_genesis(content))


@asynccontextmanager
async def running(
    folder: Path, kind: type[ChainHost] = ChainHost, of: Genesis | None = None
) -> AsyncIterator[ChainHost]:
    """A chain while it finalizes, a new one unless its genesis is named."""
    metrics = ChainMetrics(NodeMetrics(), "lone")
    pace = Pace(delay_ms=1000, heartbeat_ms=5)
    alone = (lambda peer, data: None), (lambda transaction: None), (lambda peer, frame: False)
    host = kind(of or genesis(), pace, SIGNER, folder, *alone, metrics, Log())
    await host.open()
    work = asyncio.get_running_loop().create_task(host.run())
    try:
        async with asyncio.timeout(100):
            yield host
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await host.close()
