"""What a statement is about: an interval, a step of its coupling, and which try and round of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum

from coordinator.consensus.errors import DecodeError
from coordinator.ledger.codec import INT64_MAX, Reader, Writer
from coordinator.settlement.escrow.netting import interval_nonce

DAY_AHEAD, INTRADAY, REAL_TIME = 1, 2, 3
_RUNS = (DAY_AHEAD, INTRADAY, REAL_TIME)


class Step(IntEnum):
    """The steps of an interval, in their order; those from SUBMIT to DECISION make a round."""

    GATE = 1
    """Region, for itself: no more offers."""
    COMMIT = 2
    """Region: the root of its offers."""
    SUBMIT = 3
    """Region: sums, and steps near the margin."""
    RESULT = 4
    """Hub: prices and acceptances."""
    INJECT = 5
    """Region: what its injections are worth at its boundary."""
    STATE = 6
    """Hub: angles and prices at boundary buses."""
    VOTE = 7
    """Region: accepts or objects."""
    DECISION = 8
    """Hub: an agreement and its transfers, or the next round."""
    SCHEDULE = 9
    """Region: its schedule is set and it will agree to its part of the netting."""
    METERED = 10
    """Region, for itself: metered energy; the round is the version of the bill."""
    TIES = 11
    """Region, after the interval: what its meters show at its ends of tie-lines."""
    ACCEPT = 12
    """Region: it will agree to its part of the settlement of metered exchange."""
    REPAY = 13
    """Region: it will agree to pay or take what stands on its collateral account at the hub."""
    OUTAGE = 14
    """Region: its end of a tie-line is open, or closed again, from this interval on; the round counts what it said."""


_STEPS = tuple(Step)
HUB_STEPS = (Step.RESULT, Step.STATE, Step.DECISION)
"""What hub validators confirm."""
ATTESTED_STEPS = (Step.COMMIT, Step.SUBMIT, Step.INJECT, Step.VOTE, Step.SCHEDULE)
"""What regions confirm and the hub waits for."""
LATER_STEPS = (Step.TIES, Step.ACCEPT, Step.REPAY)
"""What regions confirm about intervals that are over, whatever interval is under way."""


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """A market time unit: UTC start and length in seconds, and the market run."""

    start_s: int
    duration_s: int
    run: int = DAY_AHEAD

    @property
    def end_s(self) -> int:
        """When the next one may start."""
        return self.start_s + self.duration_s

    def encode(self) -> bytes:
        """16 bytes, in the order of time."""
        return Writer().uint64(self.start_s).uint32(self.duration_s).uint32(self.run).encoded


INTERVAL_BYTES = 16
_EXCHANGE, _CLAIM = b"gridaccord/v1/escrow/exchange\x00", b"gridaccord/v1/escrow/claim\x00"


def read_interval(reader: Reader) -> Interval:
    """Raises DecodeError for what cannot be an interval."""
    start_s, duration_s, run = reader.uint64(), reader.uint32(), reader.uint32()
    if duration_s == 0 or start_s + duration_s > INT64_MAX or run not in _RUNS:
        raise DecodeError(f"an interval from {start_s} s of {duration_s} s in market run {run}")
    return Interval(start_s, duration_s, run)


def netting_nonce(interval: Interval, topology: bytes, asset: str) -> bytes:
    """Of an interval's netting: the hub and each region find it by the same."""
    return interval_nonce(interval.start_s, interval.duration_s, interval.run, topology, asset)


def exchange_nonce(interval: Interval, topology: bytes, asset: str) -> bytes:
    """Of the netting of its metered exchange."""
    return hashlib.sha256(_EXCHANGE + netting_nonce(interval, topology, asset)).digest()


def claim_nonce(interval: Interval, topology: bytes, asset: str, region: str) -> bytes:
    """Of the netting by which a region pays or takes, in an interval, what stands on its collateral account."""
    return hashlib.sha256(_CLAIM + netting_nonce(interval, topology, asset) + region.encode()).digest()


def agreed_nonce(topic: Topic, topology: bytes, asset: str, region: str) -> bytes:
    """Of the netting that a region agrees to by an ACCEPT or REPAY."""
    if topic.step is Step.ACCEPT:
        return exchange_nonce(topic.interval, topology, asset)
    return claim_nonce(topic.interval, topology, asset, region)


def encode_amount(amount: int) -> bytes:
    """ACCEPT and REPAY: what the region receives, in micro-units."""
    return Writer().int64(amount).encoded


ALONE = 2**32 - 1
"""The attempt of a schedule that a region sets by itself."""


@dataclass(frozen=True, slots=True, order=True)
class Topic:
    """One statement's place. An attempt begins anew without regions that kept the one before from an agreement."""

    interval: Interval
    step: Step
    attempt: int = 0
    round: int = 0

    def encode(self) -> bytes:
        """28 bytes."""
        return self.interval.encode() + Writer().uint32(self.step).uint32(self.attempt).uint32(self.round).encoded

    def __str__(self) -> str:
        return f"{self.step.name} {self.attempt}.{self.round} of {self.interval.start_s} s"


TOPIC_BYTES = INTERVAL_BYTES + 12


def read_topic(reader: Reader) -> Topic:
    """Raises DecodeError."""
    interval, step = read_interval(reader), reader.uint32()
    if step not in _STEPS:
        raise DecodeError(f"a topic of step {step}, which does not exist")
    return Topic(interval, Step(step), reader.uint32(), reader.uint32())


_NUMBERS_MAX = 4096


def encode_numbers(values: tuple[int, ...]) -> bytes:
    """Numbers of regions, behind their count."""
    writer = Writer().uint32(len(values))
    for value in values:
        writer.uint32(value)
    return writer.encoded


def read_numbers(reader: Reader) -> tuple[int, ...]:
    """Raises DecodeError for numbers that do not ascend."""
    values = tuple(reader.uint32() for _ in range(read_count(reader)))
    if list(values) != sorted(set(values)):
        raise DecodeError("numbers of regions ascend, each once")
    return values


def read_count(reader: Reader) -> int:
    """How many entries follow. Raises DecodeError for too many."""
    count = reader.uint32()
    if count > _NUMBERS_MAX:
        raise DecodeError(f"{count} entries; at most {_NUMBERS_MAX}")
    return count
