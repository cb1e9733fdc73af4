"""What the hub keeps about intervals.

Key                  entry
parameters           Parameters
running              Running; absent between intervals
slot/<number>        digest of a region's message in the step at hand
ready/<number>       the interval and message that a region has committed to while none is under way
transfers            the agreement, while regions set their schedules
last                 the last interval that ended
absent               numbers of regions that were gone on without in it
session              Session; absent after an interval that was not coupled
forgetful            there if a region that committed does not remember the session
injected/<number>    a region's INJECT message in the attempt at hand, where the fallback is to hold it
held/<number>        that of the last agreement that the region took part in, while it may be held at it

What stands there about tie-lines out of service, `hub_outages` lists.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from coordinator.ledger.codec import Reader, Writer
from coordinator.ledger.view import Context, Records, View, reading_context
from coordinator.market.coupling.public import topology_without
from coordinator.settlement.escrow.handlers import ESCROW_HUB
from coordinator.settlement.escrow.ledger_books import HubLedger
from coordinator.settlement.interval.decisions import Agreed, decode_hub_message
from coordinator.settlement.interval.hub_outages import HubOutages
from coordinator.settlement.interval.hub_state import Running, Session, decode_running, decode_session
from coordinator.settlement.interval.topics import Interval, netting_nonce, read_interval

NAME = "interval_hub"
PREFIX = NAME.encode() + b"/"
"""Of the module's entries in the state."""
_INJECTED, _HELD = b"injected/", b"held/"
_PARAMETERS, _RUNNING, _SLOT, _TRANSFERS, _LAST, _ABSENT, _SESSION, _FORGETFUL, _READY = (
    b"parameters",
    b"running",
    b"slot/",
    b"transfers",
    b"last",
    b"absent",
    b"session",
    b"forgetful",
    b"ready/",
)


@dataclass(frozen=True, slots=True)
class Parameters:
    """From the hub's genesis. Regions in the order of the interconnection; heights are the hub's.

    A region that is missing in a step for `step_blocks` is gone on without; one that was absent in the last interval
    is waited for `absent_blocks` only. `collateral` is set aside for each region before it is coupled, in micro-units.
    Who is gone on without exchanges nothing, or with `holds` what its last agreement says.
    """

    asset: str
    topology: bytes
    regions: tuple[str, ...]
    opens_s: int
    duration_s: int
    step_blocks: int
    absent_blocks: int
    round_limit: int
    session_intervals: int
    collateral: int
    holds: bool = False

    def encode(self) -> bytes:
        """One byte form."""
        writer = Writer().text(self.asset).raw(self.topology).uint64(self.opens_s).uint32(self.duration_s)
        writer.uint32(self.step_blocks)
        writer.uint32(self.absent_blocks).uint32(self.round_limit).uint32(self.session_intervals).int64(
            self.collateral
        ).uint32(len(self.regions))
        for name in self.regions:
            writer.text(name)
        return writer.flag(self.holds).encoded


def _decode_parameters(data: bytes) -> Parameters:
    reader = Reader(data)
    asset, topology, opens_s = reader.text(), reader.raw(32), reader.uint64()
    times = (reader.uint32(), reader.uint32(), reader.uint32())
    limits = (reader.uint32(), reader.uint32(), reader.int64())
    names = tuple(reader.text() for _ in range(reader.uint32()))
    holds = reader.flag()
    reader.end()
    return Parameters(asset, topology, names, opens_s, *times, *limits, holds=holds)


@dataclass(frozen=True, slots=True)
class Ready:
    """A region's commitment to the interval that it would have next."""

    interval: Interval
    digest: bytes
    forgetful: bool
    topology: bytes


@dataclass(frozen=True, slots=True)
class HubIntervals:
    """The hub's entries about intervals; to read by anyone, to write by the handlers below."""

    context: Context

    @staticmethod
    def of(view: View) -> HubIntervals:
        """To read a state."""
        return HubIntervals(reading_context(view))

    @property
    def records(self) -> Records:
        """Its entries."""
        return Records(self.context.view, PREFIX)

    @property
    def escrow(self) -> HubLedger:
        """The books of the escrow protocol on the same chain."""
        records = Records(self.context.view, ESCROW_HUB.prefix)
        return HubLedger(replace(self.context, records=records))

    @property
    def parameters(self) -> Parameters:
        """From genesis."""
        data = self.records.get(_PARAMETERS)
        assert data is not None, "genesis writes the parameters of intervals"
        return _decode_parameters(data)

    @property
    def running(self) -> Running | None:
        """The interval under way."""
        data = self.records.get(_RUNNING)
        return None if data is None else decode_running(data)

    @property
    def last(self) -> Interval | None:
        """The last interval that ended."""
        data = self.records.get(_LAST)
        return None if data is None else read_interval(Reader(data))

    @property
    def absent(self) -> tuple[int, ...]:
        """Regions that the last interval went on without."""
        return _read_numbers(self.records.get(_ABSENT))

    @property
    def session(self) -> Session | None:
        """The session in which the next first attempt stands; without one an attempt starts cold, as later ones do."""
        data = self.records.get(_SESSION)
        return None if data is None else decode_session(data)

    @property
    def outages(self) -> HubOutages:
        """What regions said of their ends of tie-lines."""
        return HubOutages(self.records)

    def ties_out(self, interval: Interval) -> tuple[str, ...]:
        """Tie-lines that are out of service in it. It does not change once the interval is under way."""
        return self.outages.out(interval.start_s)

    def topology(self, interval: Interval) -> bytes:
        """The id of the topology in force in it."""
        return topology_without(self.parameters.topology, self.ties_out(interval))

    @property
    def first_open_s(self) -> int:
        """When the first interval starts that is not under way, nor over."""
        begun = self.last if self.running is None else self.running.interval
        return self.parameters.opens_s if begun is None else begun.end_s

    def is_cold(self, running: Running) -> bool:
        """Whether this attempt begins with nothing remembered of earlier intervals."""
        return running.attempt > 0 or self.is_out_of_session(running.interval)

    def is_out_of_session(self, interval: Interval) -> bool:
        """Whether an interval has no session to go on with: its topology is another one, too."""
        session = self.session
        if session is None or session.began == interval:
            return True
        return session.topology != self.topology(interval)

    @property
    def is_forgetful(self) -> bool:
        """Whether a region that has committed does not remember the session."""
        return self.records.get(_FORGETFUL) is not None

    @property
    def agreement(self) -> Agreed | None:
        """What was agreed, while regions set their schedules."""
        data = self.records.get(_TRANSFERS)
        if data is None:
            return None
        agreed = decode_hub_message(data)
        assert isinstance(agreed, Agreed), "only agreements are kept"
        return agreed

    def slots(self) -> dict[int, bytes]:
        """The digest of each region's message in the step at hand."""
        return {int.from_bytes(key[len(_SLOT) :], "big"): value for key, value in self.records.items(_SLOT)}

    def chains(self) -> tuple[bytes, ...]:
        """The chain of each region, empty for one that is not registered."""
        entries = [self.escrow.region(name) for name in self.parameters.regions]
        return tuple(b"" if entry is None else entry.chain_id for entry in entries)

    def ready(self) -> dict[int, Ready]:
        """What regions have committed to while no interval is under way."""
        found = {}
        for key, value in self.records.items(_READY):
            reader = Reader(value)
            number, interval = int.from_bytes(key[len(_READY) :], "big"), read_interval(reader)
            found[number] = Ready(interval, reader.raw(32), reader.flag(), reader.raw(32))
        return found

    def put_ready(self, number: int, ready: Ready | None) -> None:
        """A region would begin an interval; None: it has begun."""
        key = _READY + number.to_bytes(4, "big")
        if ready is None:
            self.records.delete(key)
        else:
            value = Writer().raw(ready.interval.encode()).raw(ready.digest).flag(ready.forgetful).raw(ready.topology)
            self.records.put(key, value.encoded)

    def held(self) -> dict[int, bytes]:
        """What regions can be held at that are gone on without: their accepted INJECT messages, by their numbers."""
        return {int.from_bytes(key[len(_HELD) :], "big"): value for key, value in self.records.items(_HELD)}

    def taking_part(self, running: Running) -> tuple[int, ...]:
        """Regions that are not gone on without."""
        return tuple(k for k in range(len(self.parameters.regions)) if k not in running.excluded)

    def nonce(self, interval: Interval) -> bytes:
        """Of the interval's netting."""
        return netting_nonce(interval, self.parameters.topology, self.parameters.asset)

    # Writing.

    def put_running(self, running: Running) -> None:
        """The next step: what was said in the one before is over."""
        for key in (_FORGETFUL, *(key for key, _ in tuple(self.records.items(_SLOT)))):
            self.records.delete(key)
        self.records.put(_RUNNING, running.encode())

    def put_parameters(self, parameters: Parameters) -> None:
        """At genesis."""
        self.records.put(_PARAMETERS, parameters.encode())

    def put_agreement(self, agreed: Agreed) -> None:
        """Until schedules are set."""
        self.records.put(_TRANSFERS, replace(agreed, opening=b"").encode())

    def put_session(self, session: Session | None) -> None:
        """None: the next interval begins cold."""
        if session is None:
            self.records.delete(_SESSION)
        else:
            self.records.put(_SESSION, session.encode())

    def put_end(self, running: Running) -> None:
        """The interval is over."""
        self.put_running(running)
        for key in (_RUNNING, _TRANSFERS, *(key for key, _ in tuple(self.records.items(_INJECTED)))):
            self.records.delete(key)
        self.records.put(_LAST, running.interval.encode())
        self.records.put(_ABSENT, numbers_of(running.excluded))

    def put_injected(self, number: int, message: bytes) -> None:
        """What a region injects at its boundary, if it comes to an agreement."""
        self.records.put(_INJECTED + number.to_bytes(4, "big"), message)

    def hold(self, numbers: Iterable[int]) -> None:
        """These regions have come to an agreement."""
        for key in (number.to_bytes(4, "big") for number in numbers):
            message = self.records.get(_INJECTED + key)
            if message is not None:
                self.records.put(_HELD + key, message)

    def let_go(self, numbers: Iterable[int]) -> None:
        """Until their next agreement these regions are at zero exchange when they are gone on without."""
        for number in numbers:
            self.records.delete(_HELD + number.to_bytes(4, "big"))

    def put_forgetful(self) -> None:
        """A region does not remember the session; until the next step."""
        self.records.put(_FORGETFUL, b"\x01")

    def put_slot(self, number: int, digest: bytes) -> None:
        """A region has spoken in the step at hand."""
        self.records.put(_SLOT + number.to_bytes(4, "big"), digest)


def numbers_of(values: tuple[int, ...]) -> bytes:
    """Numbers of regions as an entry."""
    return b"".join(value.to_bytes(4, "big") for value in values)


def _read_numbers(data: bytes | None) -> tuple[int, ...]:
    data = data or b""
    return tuple(int.from_bytes(data[place : place + 4], "big") for place in range(0, len(data), 4))
