"""What the hub's genesis says about intervals: who is coupled, when, and by which rules."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.ledger.errors import GenesisError
from coordinator.ledger.view import Context
from coordinator.settlement.escrow.encoding import ASSET_BYTES_MAX, LEGS_MAX, REGION_BYTES_MAX
from coordinator.settlement.genesis_section import SMALL, hash_of, number_of, text_of
from coordinator.settlement.interval.exchange import read_tie_rules
from coordinator.settlement.interval.fallback import HELD, ZERO_EXCHANGE
from coordinator.settlement.interval.hub_books import NAME, HubIntervals, Parameters
from coordinator.settlement.interval.hub_exchange import Exchanges

REGIONS_MAX = LEGS_MAX - 1
"""With the leg of the remainder they fit one settlement."""
_NUMBERS = ("duration_s", "step_blocks", "absent_blocks", "round_limit", "session_intervals")


def found(context: Context, section: Mapping[str, object]) -> None:
    """Write what genesis says. Raises GenesisError."""
    names, topology = section.get("regions"), section.get("topology")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise GenesisError("interval_hub: regions is a list of names in the order of the interconnection")
    if len(set(names)) != len(names) or len(names) > REGIONS_MAX:
        raise GenesisError(f"interval_hub: at most {REGIONS_MAX} regions, each once")
    asset = text_of(section, "asset", NAME)
    if len(asset.encode()) > ASSET_BYTES_MAX or any(len(name.encode()) > REGION_BYTES_MAX for name in names):
        raise GenesisError(
            f"interval_hub: names of assets have {ASSET_BYTES_MAX} bytes, of regions {REGION_BYTES_MAX}; shorten them"
        )
    numbers = {name: number_of(section, name, NAME, most=SMALL) for name in _NUMBERS}
    parameters = Parameters(
        asset=text_of(section, "asset", NAME),
        topology=hash_of(topology, "topology", NAME),
        regions=tuple(names),
        opens_s=number_of(section, "opens_s", NAME, least=0),
        collateral=number_of(section, "collateral", NAME),
        **numbers,
        holds=_fallback(section) == HELD,
    )
    books = HubIntervals(context)
    books.put_parameters(parameters)
    books.outages.found(section, names, NAME)
    rules = read_tie_rules(section, NAME)
    if rules is not None:
        Exchanges(books).put_rules(rules)


def _fallback(section: Mapping[str, object]) -> object:
    fallback = section.get("fallback", ZERO_EXCHANGE)
    if fallback not in (ZERO_EXCHANGE, HELD):
        raise GenesisError(f"{NAME}: fallback is {ZERO_EXCHANGE} or {HELD}, not {fallback}")
    return fallback
