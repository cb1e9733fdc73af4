"""How a region comes into the hub's registry: what a validator of the hub signals follows from the region's genesis."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.ledger.genesis import Genesis
from coordinator.settlement.escrow.handlers import ESCROW_HUB, ESCROW_REGION, encode_region
from coordinator.settlement.escrow.region_section import RegionSection, read_region_section


@dataclass(frozen=True, slots=True)
class Registration:
    """A region, its chain, and the content of the `escrow_region` that registers it."""

    region: str
    chain_id: bytes
    content: bytes


def is_hub(genesis: Genesis) -> bool:
    """Whether a chain decides settlements."""
    return ESCROW_HUB.name in _modules(genesis)


def region_section(genesis: Genesis) -> RegionSection | None:
    """What a region's genesis says of its hub, None for other chains. Raises GenesisError."""
    section = _modules(genesis).get(ESCROW_REGION.name)
    return read_region_section(section) if isinstance(section, dict) else None


def registration_of(genesis: Genesis, hub_chain_id: bytes) -> Registration | None:
    """None where the chain is no region of this hub. Raises GenesisError."""
    section = region_section(genesis)
    if section is None or section.hub_chain_id != hub_chain_id:
        return None
    keys = genesis.validators.public_keys
    content = encode_region(
        section.region, genesis.chain_id, genesis.epoch_length, keys, section.limits, section.openers
    )
    return Registration(section.region, genesis.chain_id, content)


def _modules(genesis: Genesis) -> dict[str, object]:
    modules = genesis.content.get("modules")
    return modules if isinstance(modules, dict) else {}
