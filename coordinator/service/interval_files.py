"""What a node knows of grids, beside its chains: files of its folder, checked against the genesis documents.

chains/<hub>/interconnection.json      tie-lines, links and boundary buses: public, the same for all
chains/<hub>/equivalents/<number>.bin  each region's boundary equivalent: public, as the regions publish it
chains/<region>/grid.json              the region's own grid, for its validators
chains/<region>/region.secret          what pseudonyms and salts derive from, for its validators
"""

from __future__ import annotations

import stat
from pathlib import Path

from coordinator.ledger.genesis import Genesis
from coordinator.ledger.view import View
from coordinator.market.coupling.interval_state import PublicationWindow
from coordinator.market.coupling.public import PublicNetwork
from coordinator.market.coupling.wire import ProtocolError
from coordinator.market.offers import MarketRules
from coordinator.service.errors import ConfigurationError
from coordinator.settlement.interval import hub_books, region
from coordinator.settlement.interval.hub_books import HubIntervals
from coordinator.settlement.interval.hub_exchange import Exchanges
from coordinator.settlement.interval.hub_party import HubKnowledge
from coordinator.settlement.interval.region import RegionIntervals
from coordinator.settlement.interval.region_party import RegionKnowledge
from topology.errors import GridError
from topology.region_files import check_fits, read_interconnection, read_region

INTERCONNECTION, EQUIVALENTS, GRID, SECRET = "interconnection.json", "equivalents", "grid.json", "region.secret"
SECRET_BYTES = 32


def couples(genesis: Genesis) -> bool:
    """Whether a chain takes part in intervals."""
    modules = genesis.content.get("modules")
    return isinstance(modules, dict) and (hub_books.NAME in modules or region.NAME in modules)


def read_public(hub: Path, topology: bytes) -> PublicNetwork:
    """What everybody knows of the grid, from the hub's folder. Raises ConfigurationError."""
    try:
        interconnection = read_interconnection(hub / INTERCONNECTION)
        count = interconnection.region_count
        equivalents = [(hub / EQUIVALENTS / f"{number}.bin").read_bytes() for number in range(count)]
        public = PublicNetwork(interconnection, equivalents)
    except (GridError, ProtocolError, OSError) as error:
        raise ConfigurationError(f"{hub}: {error}; copy the consortium's topology files there") from None
    if public.topology_id != topology:
        named = topology.hex()[:16]
        raise ConfigurationError(
            f"{hub}: topology {public.topology_id.hex()[:16]}, genesis names {named}; copy it anew"
        )
    return public


def hub_knowledge(view: View, public: PublicNetwork) -> HubKnowledge:
    """For a seat of the hub. Raises ConfigurationError."""
    books, rules, ties = HubIntervals.of(view), Exchanges.of(view).rules, public.interconnection.tie_names
    parameters, named = books.parameters, books.outages.ties()
    metered = ties if rules is None else tuple(line.name for line in rules.lines)
    if metered != ties or (named and set(named) != set(ties)):
        raise ConfigurationError("the hub's genesis names other tie-lines than the topology has; found it anew")
    return HubKnowledge(public, MarketRules(), parameters.asset, parameters.collateral, rules is not None)


def region_knowledge(view: View, public: PublicNetwork, folder: Path) -> RegionKnowledge:
    """For a validator of a region, from the region's folder. Raises ConfigurationError."""
    parameters = RegionIntervals.of(view).parameters
    if parameters.topology != public.topology_id:
        raise ConfigurationError(f"{folder}: the region's genesis names another topology than the hub's")
    try:
        grid = read_region(folder / GRID)
        check_fits(grid, public.interconnection, str(folder / GRID))
    except GridError as error:
        raise ConfigurationError(str(error)) from None
    return RegionKnowledge(grid, public, MarketRules(), _secret(folder / SECRET), parameters.asset, PublicationWindow())


def _secret(path: Path) -> bytes:
    try:
        mode, secret = stat.S_IMODE(path.stat().st_mode), path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; copy the region's secret there") from None
    if mode & 0o077:
        raise ConfigurationError(f"{path}: mode {mode:04o}, others may read the secret; chmod 600 it")
    if len(secret) != SECRET_BYTES:
        raise ConfigurationError(f"{path}: {len(secret)} bytes; a secret has {SECRET_BYTES}")
    return secret
