"""The parts of the state machine that a node of this software has; each chain's genesis says which make it."""

from __future__ import annotations

from coordinator.ledger.handlers import CORE
from coordinator.settlement.escrow.handlers import ESCROW_HUB, ESCROW_REGION
from coordinator.settlement.interval.hub import INTERVAL_HUB
from coordinator.settlement.interval.region import INTERVAL_REGION

MODULES = (CORE, ESCROW_HUB, ESCROW_REGION, INTERVAL_HUB, INTERVAL_REGION)
