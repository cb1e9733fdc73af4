"""What a region keeps about intervals, one byte form each: parameters, resources, schedules with their bills."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coordinator.ledger.codec import Reader, Writer
from coordinator.ledger.errors import GenesisError
from coordinator.settlement.genesis_section import SMALL, hash_of, number_of, text_of


@dataclass(frozen=True, slots=True)
class Parameters:
    """From the region's genesis. `horizon` is for how many intervals ahead offers are taken.

    Gates close `gate_closure_s` before their interval by the time of the region's blocks, or when `stepper`, a
    participant, says so. `imbalance_spread` in 2**-20 micro-units per MWh: see `schedules.credit`.
    """

    asset: str
    topology: bytes
    stepper: str
    opens_s: int
    duration_s: int
    gate_closure_s: int
    horizon: int
    imbalance_spread: int

    def encode(self) -> bytes:
        """One byte form."""
        writer = Writer().text(self.asset).raw(self.topology).text(self.stepper).uint64(self.opens_s)
        writer.uint32(self.duration_s).uint32(self.gate_closure_s).uint32(self.horizon)
        return writer.int64(self.imbalance_spread).encoded


def decode_parameters(data: bytes) -> Parameters:
    """The inverse of `Parameters.encode`."""
    reader = Reader(data)
    names = (reader.text(), reader.raw(32), reader.text())
    times = (reader.uint64(), reader.uint32(), reader.uint32(), reader.uint32())
    return Parameters(*names, *times, reader.int64())


def read_parameters(section: Mapping[str, object], module: str) -> Parameters:
    """What the region's genesis says. Raises GenesisError."""
    return Parameters(
        text_of(section, "asset", module),
        hash_of(section.get("topology"), "topology", module),
        text_of(section, "stepper", module) if section.get("stepper") else "",
        number_of(section, "opens_s", module, least=0),
        number_of(section, "duration_s", module, most=SMALL),
        number_of(section, "gate_closure_s", module, least=0, most=SMALL),
        number_of(section, "horizon", module, most=SMALL),
        number_of(section, "imbalance_spread", module, least=0),
    )


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that injects or withdraws at a bus, for the account of its owner."""

    bus: str
    owner: str

    def encode(self) -> bytes:
        """One byte form."""
        return Writer().text(self.bus).text(self.owner).encoded


def decode_resource(data: bytes) -> Resource:
    """The inverse of `Resource.encode`."""
    reader = Reader(data)
    resource = Resource(reader.text(), reader.text())
    reader.end()
    return resource


def read_resources(section: Mapping[str, object], module: str) -> list[tuple[str, Resource]]:
    """What the region's genesis says, with the names. Raises GenesisError."""
    entries = section.get("resources")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise GenesisError(f"{module}: resources is a list of name, bus and owner")
    texts = [[text_of(entry, key, module) for key in ("name", "bus", "owner")] for entry in entries]
    return [(name, Resource(bus, owner)) for name, bus, owner in texts]


@dataclass(frozen=True, slots=True)
class Position:
    """A resource's schedule of an interval, and its latest bill: `credited` so far, version 0 where there is none."""

    power_w: int
    price: int
    version: int = 0
    metered_wh: int = 0
    substituted: bool = False
    credited: int = 0

    def encode(self) -> bytes:
        """One byte form."""
        writer = Writer().int64(self.power_w).int64(self.price).uint32(self.version).int64(self.metered_wh)
        return writer.flag(self.substituted).int64(self.credited).encoded


def decode_position(data: bytes) -> Position:
    """The inverse of `Position.encode`."""
    reader = Reader(data)
    power, price, version, metered = reader.int64(), reader.int64(), reader.uint32(), reader.int64()
    position = Position(power, price, version, metered, reader.flag(), reader.int64())
    reader.end()
    return position
