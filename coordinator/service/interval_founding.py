"""What `init` writes for intervals: sections of the genesis documents, and who gets which files of the grid.

intervals:
  grid: ../rts_gmlc/2020-01-27       # a MATPOWER file or a folder of CSV files, relative to this file
  regions: area                      # how it is cut: area, a number, or a CSV file; names are those of the regions
  asset: EUR
  opens: 2020-01-27T00:00:00+00:00   # start of the first interval
  duration_s: 3600
  gate_closure_s: 900                # before an interval; or
  stepper: alpha                     # a participant whose word closes gates, or one for each region: {"1": alpha}
  owners: {"1": alpha, "2": beta}    # of each region's resources; alpha where it is left out
  collateral: 1000000000000          # set aside for each region before it is coupled, in micro-units
  resources:                         # beside those of the grid: storage, say
    - {name: battery-101, bus: "101"}
  fallback: zero_exchange            # of a region that an interval goes on without; or held: what it last agreed to
  tie_meters:                        # settle metered against scheduled exchange; left out, nobody does
    tolerance_wh: 1000               # within it the mean of the meters at both ends counts
    disagreement: schedule           # beyond it: mean, smaller, larger, from_end, to_end or schedule
    blocks: 600                      # of the hub, after the first region has stated its meters: the rest are silent
    collateral: 100000000000         # set aside for each region beside that of the coupling, until it is settled

Every unit in service is a resource `unit-<id>`, every bus with demand a resource `load-<bus>`; a tie-line is `tie-<id>`
in both regions at its ends, metered and switched there by the owner of the region's resources.
"""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import AwareDatetime, Field

from coordinator.ledger.codec import INT64_MAX
from coordinator.market.coupling.public import PublicNetwork
from coordinator.market.coupling.region import RegionAgent
from coordinator.market.offers import MarketRules
from coordinator.service.errors import ConfigurationError
from coordinator.service.home import Name, Strict
from coordinator.service.interval_files import EQUIVALENTS, GRID, INTERCONNECTION, SECRET, SECRET_BYTES
from coordinator.service.roles import Blocks, Micro, Sections
from coordinator.settlement.interval import hub_books, region
from coordinator.settlement.interval.schedules import RESOURCE_MAX_W
from topology.case_files import choose_regions, read_case, regions_file
from topology.dc import build_dc_network
from topology.errors import GridError
from topology.grid import Grid
from topology.region_files import write_interconnection, write_region
from topology.regions import RegionCut, cut_network

_HORIZON = 96
_BELIEVED = 2
"""Times the limit of a tie-line: no meter there is believed to show more."""


class ExtraResource(Strict):
    """Something at a bus that the grid's files do not name."""

    name: str
    bus: str
    owner: Name | None = None
    """Of the region's resources where it is left out."""


class TieMeters(Strict):
    """How metered exchange over tie-lines is settled between regions."""

    tolerance_wh: Annotated[int, Field(ge=0, le=INT64_MAX)] = 1000
    disagreement: Literal["mean", "smaller", "larger", "from_end", "to_end", "schedule"] = "schedule"
    blocks: Blocks = 600
    collateral: Micro = 0


class IntervalSettings(Strict):
    """The section `intervals` of a consortium file."""

    grid: Path
    regions: str = "area"
    asset: str = "EUR"
    opens: AwareDatetime
    duration_s: Annotated[int, Field(ge=1, le=86_400)] = 3600
    gate_closure_s: Annotated[int, Field(ge=0, le=604_800)] = 0
    stepper: Name | dict[str, Name] | None = None
    owners: dict[str, Name] = Field(default_factory=dict)
    resources: tuple[ExtraResource, ...] = ()
    fallback: Literal["zero_exchange", "held"] = "zero_exchange"
    tie_meters: TieMeters | None = None
    collateral: Micro = 10**12
    step_blocks: Blocks = 100
    absent_blocks: Blocks = 20
    round_limit: Blocks = 20
    session_intervals: Blocks = 96
    imbalance_spread: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, slots=True)
class Founding:
    """A grid cut into regions, with each region's secret and what it publishes."""

    settings: IntervalSettings
    cut: RegionCut
    resources: Mapping[str, list[dict[str, str]]]
    region_secrets: tuple[bytes, ...]
    equivalents: tuple[bytes, ...]
    first: str
    """Owns what nobody is named for."""

    @property
    def names(self) -> tuple[str, ...]:
        """Regions in their order."""
        return self.cut.interconnection.region_names

    def hub_sections(self) -> Sections:
        """For the hub's genesis."""
        settings = self.settings
        numbers = ("duration_s", "step_blocks", "absent_blocks", "round_limit", "session_intervals", "collateral")
        section = {**self._common(), **{name: getattr(settings, name) for name in numbers}}
        rules = {"fallback": settings.fallback}
        return {hub_books.NAME: {**section, **self._tie_rules(), **rules, "regions": list(self.names)}}

    def _tie_rules(self) -> dict[str, object]:
        meters, public = self.settings.tie_meters, self.cut.interconnection
        capacity_w = np.maximum(np.abs(public.tie_flow_min_w), np.abs(public.tie_flow_max_w)).tolist()
        ends = zip(public.tie_names, *self._tie_ends(), capacity_w, strict=True)
        ties = [
            {"name": tie, "from": near, "to": far, "limit_w": min(_BELIEVED * most_w, RESOURCE_MAX_W)}
            for tie, near, far, most_w in ends
        ]
        return {"ties": ties, **({} if meters is None else {"tie_meters": meters.model_dump()})}

    def _tie_ends(self) -> tuple[list[str], list[str]]:
        """The region at the from-end of each tie-line, and that at the other."""
        public = self.cut.interconnection
        near, far = (public.boundary_region[end].tolist() for end in (public.tie_from, public.tie_to))
        return [self.names[number] for number in near], [self.names[number] for number in far]

    def region_sections(self, name: str) -> Sections:
        """For a region's genesis."""
        settings = self.settings
        times = {"duration_s": settings.duration_s, "gate_closure_s": settings.gate_closure_s, "horizon": _HORIZON}
        rules = {"stepper": self._stepper(name), "imbalance_spread": settings.imbalance_spread}
        own = {"resources": self.resources[name], "ties": self._ties(name)}
        return {region.NAME: {**self._common(), **times, **rules, **own}}

    def _ties(self, name: str) -> list[dict[str, str]]:
        ends = zip(self.cut.interconnection.tie_names, *self._tie_ends(), strict=True)
        owner = self.settings.owners.get(name, self.first)
        return [{"name": tie, "owner": owner} for tie, *regions in ends if name in regions]

    def _stepper(self, region: str) -> str:
        given = self.settings.stepper
        return (given.get(region, "") if isinstance(given, dict) else given) or ""

    def _common(self) -> dict[str, object]:
        topology = PublicNetwork(self.cut.interconnection, self.equivalents).topology_id
        opens_s = int(self.settings.opens.astimezone(datetime.UTC).timestamp())
        return {"asset": self.settings.asset, "topology": topology.hex(), "opens_s": opens_s}

    def write_public(self, folder: Path) -> None:
        """Into the hub's folder of an organization."""
        write_interconnection(self.cut.interconnection, folder / INTERCONNECTION)
        (folder / EQUIVALENTS).mkdir(mode=0o700)
        for number, data in enumerate(self.equivalents):
            (folder / EQUIVALENTS / f"{number}.bin").write_bytes(data)

    def write_private(self, name: str, folder: Path) -> None:
        """Into a region's folder of one of its validators."""
        number = self.names.index(name)
        write_region(self.cut.regions[number], folder / GRID)
        (folder / SECRET).touch(mode=0o600)
        (folder / SECRET).write_bytes(self.region_secrets[number])


def cut_grid(settings: IntervalSettings, base: Path, regions: Sequence[str], first: str) -> Founding:
    """Read and cut the grid that the consortium file names. `first` owns what nobody is named for.

    Raises ConfigurationError.
    """
    try:
        case = read_case(base / settings.grid)
        network = build_dc_network(case.grid)
        file = regions_file(settings.regions)
        choice = settings.regions if file is None else str(base / file)
        region_of_bus = choose_regions(case.grid, network, choice)
    except GridError as error:
        raise ConfigurationError(f"intervals: {error}") from None
    cut = cut_network(network, region_of_bus)
    if sorted(cut.interconnection.region_names) != sorted(regions):
        found = ", ".join(cut.interconnection.region_names)
        raise ConfigurationError(f"intervals: the grid has regions {found}; name one chain of role region for each")
    steppers = settings.stepper if isinstance(settings.stepper, dict) else {}
    for what, names in (("owners", settings.owners), ("stepper", steppers)):
        strange = [name for name in names if name not in regions]
        if strange:
            raise ConfigurationError(f"intervals: {what} names {strange[0]}, which is no region")
    keys = tuple(secrets.token_bytes(SECRET_BYTES) for _ in cut.regions)
    pairs = zip(cut.regions, keys, strict=True)
    equivalents = [RegionAgent(own, MarketRules(), key, settings.asset).boundary_equivalent() for own, key in pairs]
    where = dict(zip(network.bus_ids, region_of_bus, strict=True))
    resources = _resources(case.grid, where, settings, first)
    return Founding(settings, cut, resources, keys, tuple(equivalents), first)


def _resources(
    grid: Grid, region_of: Mapping[str, str], settings: IntervalSettings, first: str
) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {name: [] for name in region_of.values()}
    units = [ExtraResource(name=f"unit-{unit.id}", bus=unit.bus) for unit in grid.resources if unit.in_service]
    loads = [ExtraResource(name=f"load-{bus.id}", bus=bus.id) for bus in grid.buses if bus.demand_mw or bus.shunt_mw]
    known: set[str] = set()
    for resource in sorted((*units, *loads, *settings.resources), key=lambda resource: (resource.name, resource.bus)):
        if resource.bus not in region_of:
            raise ConfigurationError(f"intervals: resource {resource.name}: there is no bus {resource.bus}")
        if resource.name in known:
            raise ConfigurationError(f"intervals: resource {resource.name} stands there twice; give it another name")
        known.add(resource.name)
        region = region_of[resource.bus]
        owner = resource.owner or settings.owners.get(region, first)
        found[region].append({"name": resource.name, "bus": resource.bus, "owner": owner})
    return found
