"""A scenario: what a run is made of, as one YAML file. Every key has a default that is documented here.

    name: RTS-GMLC, 27 January 2020
    case: "2020-01-27"            # MATPOWER file or folder of CSV files with series; a date needs the quotes
    regions: area                 # how it is cut: area, a number, or a CSV file bus,region
    seed: 1
    devices: {meters: 3000}
    batteries:
      - {name: hill, bus: "101", power_mw: 50, energy_mwh: 200}
    faults:
      - {kind: kill_validators, interval: 6, validators: bravo}

Paths are relative to the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import yaml
from pydantic import BaseModel, Field, model_validator

from coordinator.service.home import Name, Pace, Strict, read_settings
from topology.case_files import regions_file

Share = Annotated[float, Field(ge=0, le=1)]
_Model = TypeVar("_Model", bound=BaseModel)


class Devices(Strict):
    """The meters of a run, and how they behave. Deterministic from the scenario's seed."""

    meters: Annotated[int, Field(ge=1, le=1_000_000)] = 3_000
    """Signing meters in all regions: one or two for each unit and battery, the others behind the buses with demand."""
    flexible_share: Share = 0.05
    """Of a bus's demand: what its customers would rather shed above a price than use."""
    fleets: Annotated[int, Field(ge=1, le=1024)] = 1
    """Processes in which the devices of a region are."""


class Battery(Strict):
    """Storage that plans ahead and offers the value of its opportunities."""

    name: Name
    bus: str
    power_mw: Annotated[float, Field(gt=0)]
    energy_mwh: Annotated[float, Field(gt=0)]
    efficiency: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Of a round trip."""
    initial: Share = 0.5
    """State of charge when the run begins."""


class FaultKind(StrEnum):
    """What can go wrong on purpose."""

    KILL_VALIDATORS = "kill_validators"
    """The process with these validators is killed as the interval opens; it is started again at once."""
    KILL_FLEET = "kill_fleet"
    """A process with devices is killed; it goes on from its last snapshot, its readings are late."""
    SILENT = "silent"
    """Nothing that a region says reaches the hub: it clears alone, under the consortium's fallback."""
    ISLANDED = "islanded"
    """All of a region's tie-lines are open, announced an interval ahead: it is coupled as an island of its own."""
    LINE_OUTAGE = "line_outage"
    """One tie-line is out of service, which a region at its end announces an interval ahead."""
    BYZANTINE = "byzantine"
    """These validators equivocate from this interval on."""
    LYING_METERS = "lying_meters"
    """A share of the meters repeat registers, send sentinels, run backwards or sign with a wrong key."""
    LATE_READINGS = "late_readings"
    """A share of the meters hold their readings back until this is over."""


class Fault(Strict):
    """Something that goes wrong on purpose, from the opening of an interval on."""

    kind: FaultKind
    interval: Annotated[int, Field(ge=0)]
    """Number of the interval, from 0."""
    intervals: Annotated[int, Field(ge=1)] = 1
    """For how many, where it lasts."""
    validators: Name | None = None
    """The organization whose validators it is about."""
    region: str | None = None
    """The region that it is about."""
    line: str | None = None
    """The tie-line that it is about, by its id in the case; `region` is at one of its ends."""
    share: Share | None = None
    """Of all meters."""

    @property
    def target(self) -> str:
        """What it is about, for people."""
        if self.share is not None:
            return f"{self.share:.1%} of meters"
        return str(self.validators or self.line or self.region)

    def lasts(self, interval: int) -> bool:
        """Whether it is on in an interval, by its number."""
        return self.interval <= interval < self.interval + self.intervals

    @model_validator(mode="after")
    def _names_its_target(self) -> Fault:
        wanted = _TARGETS[self.kind]
        given = tuple(name for name in ("validators", "region", "line", "share") if getattr(self, name) is not None)
        if given != wanted:
            names, said = " and ".join(wanted), ", ".join(given) or "nothing"
            raise ValueError(f"{self.kind} names {names}, and nothing else; {said} is given")
        if self.kind in OUTAGES and not self.interval:
            raise ValueError(f"{self.kind} is announced an interval ahead: from interval 1 on, not 0")
        return self


_TARGETS = {
    FaultKind.KILL_VALIDATORS: ("validators",),
    FaultKind.BYZANTINE: ("validators",),
    FaultKind.KILL_FLEET: ("region",),
    FaultKind.SILENT: ("region",),
    FaultKind.ISLANDED: ("region",),
    FaultKind.LINE_OUTAGE: ("region", "line"),
    FaultKind.LYING_METERS: ("share",),
    FaultKind.LATE_READINGS: ("share",),
}
OUTAGES = (FaultKind.ISLANDED, FaultKind.LINE_OUTAGE)
"""Those that change what is connected, and are announced."""
LASTING = (*OUTAGES, FaultKind.SILENT, FaultKind.LYING_METERS, FaultKind.LATE_READINGS)
"""Those that are on for some intervals and then over."""


class Market(Strict):
    """What the consortium agrees on in genesis."""

    asset: str = "EUR"
    collateral: Annotated[int, Field(ge=0)] = 10**13
    """Set aside for each region before it is coupled, in micro-units of the asset."""
    imbalance_spread_per_mwh: Annotated[float, Field(ge=0)] = 0.0
    """Deviations from the schedule are paid that much worse than the price at the bus."""
    step_blocks: Annotated[int, Field(ge=1)] = 60
    """Hub blocks after which an interval goes on without a region that is silent."""
    absent_blocks: Annotated[int, Field(ge=1)] = 20
    """The same for a region that was absent before."""
    round_limit: Annotated[int, Field(ge=1)] = 20
    fallback: Literal["zero_exchange", "held"] = "zero_exchange"
    """What the others reckon with for a region that an interval goes on without: nothing, or what it last agreed to."""


class Cluster(Strict):
    """Where the actors run."""

    address: str = "local"
    """Of a Ray cluster; local starts one on this machine and ends it with the run. auto: the one that is running."""
    host: str = "127.0.0.1"
    """Where validators listen, and where the others reach them, on one machine."""
    hosts: dict[Name, str] = Field(default_factory=dict)
    """On several: for each organization the address of the Ray node that its process with validators is on."""
    port: Annotated[int, Field(ge=1, le=65_000)] | None = None
    """Of the first organization, the others have the next ones; free ports of this machine where it is left out."""
    spread: bool = False
    """Whether every process with validators must be on a node of its own (STRICT_SPREAD)."""

    @model_validator(mode="after")
    def _hosts_have_ports(self) -> Cluster:
        if self.hosts and (self.port is None or self.spread):
            raise ValueError("hosts want port, which is free on each of them, and not spread: they say what is where")
        return self

    def host_of(self, organization: str) -> str:
        """The address of the machine that its validators are on."""
        return self.hosts.get(organization, self.host)


class Scenario(Strict):
    """A run. Paths are relative to the scenario's file."""

    name: str
    case: Path
    regions: str = "area"
    seed: Annotated[int, Field(ge=0)] = 0
    intervals: Annotated[int, Field(ge=1)] | None = None
    """How many of the case's intervals; all where it is left out."""
    clock: Literal["simulated", "wall"] = "simulated"
    """simulated: intervals follow each other as soon as they can. wall: one opens every `interval_s`."""
    interval_s: Annotated[float, Field(gt=0)] | None = None
    """With a wall clock; the intervals' own length where it is left out."""
    organizations: Annotated[tuple[Name, ...], Field(min_length=4)] = ("alpha", "bravo", "charlie", "delta")
    """Each runs a process with a validator of every region and a seat of the hub."""
    devices: Devices = Devices()
    batteries: tuple[Battery, ...] = ()
    market: Market = Market()
    pace: Pace = Pace(delay_ms=200, heartbeat_ms=500)
    """Of the regions' chains."""
    hub_pace: Pace = Pace(delay_ms=200, heartbeat_ms=250)
    cluster: Cluster = Cluster()
    faults: tuple[Fault, ...] = ()

    @model_validator(mode="after")
    def _every_organization_has_a_host(self) -> Scenario:
        if self.cluster.hosts and set(self.cluster.hosts) != set(self.organizations):
            raise ValueError(f"cluster.hosts names each of {', '.join(self.organizations)}, or none")
        return self

    @property
    def config_hash(self) -> str:
        """SHA-256 of the scenario with every default written out."""
        return hashlib.sha256(self.resolved.encode()).hexdigest()

    @property
    def resolved(self) -> str:
        """As YAML, with every default written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read_scenario(path: Path) -> Scenario:
    """Raises ConfigurationError, which names the key."""
    return resolved_paths(read_settings(path, Scenario), path.parent, ("case", "regions"))


def resolved_paths(scenario: Scenario, base: Path, keys: Container[str]) -> Scenario:
    """With those paths absolute that these keys hold, which are relative to `base`."""
    found: dict[str, Path | str] = {}
    if "case" in keys:
        found["case"] = (base / scenario.case).resolve()
    file = regions_file(scenario.regions)
    if "regions" in keys and file is not None:
        found["regions"] = str((base / file).resolve())
    return scenario.model_copy(update=found)


def faults_at(faults: Sequence[Fault], interval: int) -> list[Fault]:
    """Those that begin with an interval."""
    return [fault for fault in faults if fault.interval == interval]
