"""What the genesis document of a region says about the hub and about itself: the section `escrow_region`.

    {"region": "north", "hub_chain_id": "<hex>", "hub_epoch_length": 1000, "hub_validators": ["<hex>", ...],
     "limits": {"EUR": 5000000}, "openers": ["utility"]}

`limits` are how far the region may owe the others, in micro-units, and how far its neutral account may go below zero.
`openers` may submit OPENs that debit it. Both are what the hub's validators register (`registration.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coordinator.ledger.codec import INT64_MAX
from coordinator.ledger.errors import GenesisError
from coordinator.settlement.escrow.encoding import REGION_BYTES_MAX
from coordinator.settlement.escrow.types import HUB
from coordinator.settlement.genesis_section import hash_of, number_of

MODULE = "escrow"
"""What errors about a section of this protocol begin with."""
LIMITS_MAX = 64
OPENERS_MAX = 16
_KEYS = ("region", "hub_chain_id", "hub_epoch_length", "hub_validators", "limits", "openers")


@dataclass(frozen=True, slots=True)
class RegionSection:
    """The section, checked."""

    region: str
    hub_chain_id: bytes
    hub_epoch_length: int
    hub_validators: tuple[bytes, ...]
    limits: Mapping[str, int]
    openers: tuple[str, ...]


def read_region_section(section: Mapping[str, object]) -> RegionSection:
    """Raises GenesisError."""
    unknown = [name for name in section if name not in _KEYS]
    if unknown:
        raise GenesisError(f"escrow: {unknown[0][:60]!r} is no key of a region; there are {', '.join(_KEYS)}")
    validators = _texts(section, "hub_validators")
    region = section.get("region")
    if not isinstance(region, str) or not 0 < len(region.encode()) <= REGION_BYTES_MAX or region == HUB:
        raise GenesisError(f"escrow: region is a name of 1 to {REGION_BYTES_MAX} bytes, not {HUB!r}")
    return RegionSection(
        region,
        hash_of(section.get("hub_chain_id"), "hub_chain_id", MODULE),
        number_of(section, "hub_epoch_length", MODULE),
        tuple(hash_of(key, "hub_validators", MODULE) for key in validators),
        _limits(section.get("limits", {})),
        _openers(section),
    )


def _limits(value: object) -> Mapping[str, int]:
    if not isinstance(value, dict) or len(value) > LIMITS_MAX:
        raise GenesisError(f"escrow: limits are at most {LIMITS_MAX} amounts by asset")
    for asset, amount in value.items():
        if type(amount) is not int or not 0 <= amount <= INT64_MAX:
            raise GenesisError(f"escrow: the limit in {asset} is no amount of micro-units")
    return value


def _openers(section: Mapping[str, object]) -> tuple[str, ...]:
    openers = _texts(section, "openers") if "openers" in section else ()
    if len(openers) > OPENERS_MAX or "" in openers:
        raise GenesisError(f"escrow: openers are the names of at most {OPENERS_MAX} participants of the hub")
    return openers


def _texts(section: Mapping[str, object], name: str) -> tuple[str, ...]:
    values = section.get(name)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise GenesisError(f"escrow: {name} is not a list of texts")
    return tuple(values)
