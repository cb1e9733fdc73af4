"""What hub validators say in a step: a message of the coupling, whom to go on without, or what a round ended with."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.consensus.errors import DecodeError
from coordinator.ledger.codec import BYTES_MAX, Reader, Writer
from coordinator.settlement.interval.topics import encode_numbers, read_count, read_numbers

_COLD, _WARM = b"\x01", b"\x00"
_TOPOLOGY_BYTES = 32
_SAID, _BLAMED, _AGREED, _OPENED = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Committed:
    """COMMIT: under which topology, whether the region's validators remember the session, and the coupling's message.

    One that does not makes all begin anew: flowgates, factors and prices of the session are of no use where one side
    has forgotten them. So does one that committed before it knew of an outage.
    """

    remembers: bool
    topology: bytes
    message: bytes

    def encode(self) -> bytes:
        """One byte form."""
        return (_WARM if self.remembers else _COLD) + self.topology + self.message


def decode_commitment(data: bytes) -> Committed:
    """Raises DecodeError."""
    reader = Reader(data)
    remembers = reader.raw(1) == _WARM
    return Committed(remembers, reader.raw(_TOPOLOGY_BYTES), reader.rest())


@dataclass(frozen=True, slots=True)
class Said:
    """RESULT or STATE: the coupling's message."""

    message: bytes

    def encode(self) -> bytes:
        """One byte form."""
        return bytes([_SAID]) + self.message


@dataclass(frozen=True, slots=True)
class Blamed:
    """Any hub step: these regions sent what nobody can go on with; the next attempt is without them."""

    regions: tuple[int, ...]
    reason: str

    def encode(self) -> bytes:
        """One byte form."""
        head = Writer().raw(bytes([_BLAMED])).text(self.reason[:1000])
        return head.raw(encode_numbers(self.regions)).encoded


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a region (or, for a link's owner, an account on the hub) receives for the interval, in micro-units."""

    name: str
    amount: int


@dataclass(frozen=True, slots=True)
class TieSchedule:
    """What a tie-line carries by schedule, in W, positive from its from-end; and what a deviation is worth: the mean
    of the prices at its ends, in 2**-20 micro-units per MWh."""

    power_w: int
    price: int


@dataclass(frozen=True, slots=True)
class Agreed:
    """DECISION: nobody objects. Objective and certified gap in micro-units per hour; `opening` as in `Opened`.

    `ties` in the order of genesis, none where it names none.
    """

    objective_micro_per_h: int
    gap_micro_per_h: int
    regions: tuple[Transfer, ...]
    owners: tuple[Transfer, ...]
    opening: bytes
    ties: tuple[TieSchedule, ...] = ()

    def encode(self) -> bytes:
        """One byte form."""
        writer = Writer().raw(bytes([_AGREED])).int64(self.objective_micro_per_h).int64(self.gap_micro_per_h)
        for transfers in (self.regions, self.owners):
            writer.uint32(len(transfers))
            for item in transfers:
                writer.text(item.name).int64(item.amount)
        return writer.raw(encode_ties(self.ties)).raw(self.opening).encoded


@dataclass(frozen=True, slots=True)
class Opened:
    """DECISION: another round, with these flowgates in force; `objecting` are the regions that objected."""

    objecting: tuple[int, ...]
    opening: bytes

    def encode(self) -> bytes:
        """One byte form."""
        return Writer().raw(bytes([_OPENED]) + encode_numbers(self.objecting)).raw(self.opening).encoded


HubMessage = Said | Blamed | Agreed | Opened


def decode_hub_message(data: bytes) -> HubMessage:
    """Raises DecodeError."""
    reader = Reader(data)
    kind = reader.raw(1)[0]
    if kind == _SAID:
        return Said(reader.rest())
    if kind == _BLAMED:
        reason, regions = reader.text(), read_numbers(reader)
        reader.end()
        return Blamed(regions, reason)
    if kind == _AGREED:
        objective, gap = reader.int64(), reader.int64()
        transfers = _read_transfers(reader)
        owners, ties = _read_transfers(reader), read_ties(reader)
        return Agreed(objective, gap, transfers, owners, reader.rest(), ties)
    if kind == _OPENED:
        return Opened(read_numbers(reader), reader.rest())
    raise DecodeError(f"a hub message of kind {kind}, which does not exist")


def _read_transfers(reader: Reader) -> tuple[Transfer, ...]:
    return tuple(Transfer(reader.text(), reader.int64()) for _ in range(read_count(reader)))


def encode_ties(ties: tuple[TieSchedule, ...]) -> bytes:
    """Behind their count."""
    writer = Writer().uint32(len(ties))
    for tie in ties:
        writer.int64(tie.power_w).int64(tie.price)
    return writer.encoded


def read_ties(reader: Reader) -> tuple[TieSchedule, ...]:
    """Raises DecodeError."""
    return tuple(TieSchedule(reader.int64(), reader.int64()) for _ in range(read_count(reader)))


assert BYTES_MAX >= 4 * 1000, "a reason of a thousand characters fits"
