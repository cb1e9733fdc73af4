"""The role of a chain between regions, and the sections that it puts into the chain's genesis document.

chains:
  - name: hub
    role: hub
    escrow: {window_min: 60, window_max: 6000, netting_window: 240}     # hub blocks; sized if left out
  - name: north
    role: region
    limits: {EUR: 5000000}            # how far the region may owe the others, in micro-units
    openers: [alpha, beta]            # who may open what debits it; the region's organizations if left out
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from coordinator.consensus.validators import max_faulty
from coordinator.ledger.codec import INT64_MAX
from coordinator.ledger.genesis import Genesis
from coordinator.service.errors import ConfigurationError
from coordinator.service.home import Pace, Strict
from coordinator.settlement.escrow.books import shortest_window_blocks
from coordinator.settlement.escrow.handlers import ESCROW_HUB, ESCROW_REGION
from coordinator.settlement.escrow.region_section import OPENERS_MAX

ESCROW_MODULES = (ESCROW_HUB.name, ESCROW_REGION.name)
_DELAYS_A_ROUND_TRIP = 12
_DELAYS_A_TIMEOUT = 5
_NETTING_WINDOWS, _LONGEST_WINDOWS = 4, 100

Sections = dict[str, dict[str, Any]]
Micro = Annotated[int, Field(ge=0, le=INT64_MAX)]
Blocks = Annotated[int, Field(ge=1, le=INT64_MAX)]


class ChainRole(StrEnum):
    """What a chain is to the others; one without a role settles nothing with them."""

    HUB = "hub"
    REGION = "region"


class Windows(Strict):
    """From an OPEN to its deadline, in hub blocks: the least, the most, and that of nettings."""

    window_min: Blocks
    window_max: Blocks
    netting_window: Blocks


class ChainSettlement(Strict):
    """What a chain's settings say about its role."""

    role: ChainRole | None = None
    escrow: Windows | None = None
    limits: dict[str, Micro] = Field(default_factory=dict)
    openers: tuple[str, ...] = ()


def check_roles(chains: Mapping[str, ChainSettlement]) -> None:
    """Raises ConfigurationError, which names the chain."""
    hubs = [name for name, chain in chains.items() if chain.role is ChainRole.HUB]
    if len(hubs) > 1:
        raise ConfigurationError(f"chains {hubs[0]} and {hubs[1]} are both the hub; a consortium has one")
    for name, chain in chains.items():
        if chain.role is not ChainRole.HUB and chain.escrow is not None:
            raise ConfigurationError(f"chain {name}: escrow windows are the hub's; give it role: hub")
        if chain.role is not ChainRole.REGION and (chain.limits or chain.openers):
            raise ConfigurationError(f"chain {name}: limits and openers are a region's; give it role: region")
        if chain.role is ChainRole.REGION and not hubs:
            raise ConfigurationError(f"chain {name} is a region and there is no hub; give a chain role: hub")


def windows(validators: int, pace: Pace, slowest: Pace) -> Windows:
    """Sized from the hub's validators and pace and that of the slowest region.

    A hub under load makes a block about every message delay, of which timeouts are a multiple. A region's answer takes
    some delays on both chains, in which so many such blocks may pass; f leaders in a row may censor it.
    """
    block_ms = max(pace.minimum_interval_ms, pace.delay_ms // _DELAYS_A_TIMEOUT, 1)
    round_trip_ms = _DELAYS_A_ROUND_TRIP * (pace.delay_ms + slowest.delay_ms) + 2 * slowest.minimum_interval_ms
    shortest = shortest_window_blocks(max_faulty(validators), -(-round_trip_ms // block_ms))
    return Windows(
        window_min=shortest, window_max=_LONGEST_WINDOWS * shortest, netting_window=_NETTING_WINDOWS * shortest
    )


def hub_sections(chosen: Windows) -> Sections:
    """For the hub's genesis."""
    return {ESCROW_HUB.name: chosen.model_dump()}


def region_sections(name: str, role: ChainSettlement, hub: Genesis, organizations: Sequence[str]) -> Sections:
    """For a region's genesis: whom it follows, and what the hub's validators are to register."""
    return {
        ESCROW_REGION.name: {
            "region": name,
            "hub_chain_id": hub.chain_id.hex(),
            "hub_epoch_length": hub.epoch_length,
            "hub_validators": [key.hex() for key in hub.validators.public_keys],
            "limits": dict(role.limits),
            "openers": list(role.openers or organizations[:OPENERS_MAX]),
        }
    }
