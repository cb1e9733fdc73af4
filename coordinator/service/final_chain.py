"""What the work between chains needs of a chain on this node, be it validated here or followed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from coordinator.ledger.genesis import Genesis
from coordinator.ledger.state import LedgerState
from coordinator.ledger.store import Finalized, Store
from coordinator.service.home import Pace
from coordinator.service.outcomes import Outcomes


class Ledger(Protocol):
    """Keeps a chain's ledger file."""

    store: Store


class FinalChain(Protocol):
    """A chain's final blocks, as they become durable here."""

    genesis: Genesis
    pace: Pace
    outcomes: Outcomes
    new_block: asyncio.Event
    """Set with the next final block, and then another one."""
    followers: list[Callable[[Sequence[Finalized]], None]]
    """Called with final blocks once they are durable, in order."""
    told: LedgerState
    """After the last block that is durable and whose outcomes have been told."""
