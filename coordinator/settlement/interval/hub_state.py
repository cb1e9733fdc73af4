"""Where the hub stands with the interval under way, and how its steps follow each other: pure, no ledger here."""

from __future__ import annotations

from dataclasses import dataclass, replace

from coordinator.ledger.codec import Reader, Writer
from coordinator.settlement.interval.topics import (
    ATTESTED_STEPS,
    Interval,
    Step,
    Topic,
    encode_numbers,
    read_interval,
    read_numbers,
)


@dataclass(frozen=True, slots=True)
class Running:
    """The interval under way. Heights are the hub's.

    `excluded` regions are gone on without, by their numbers. `waiting_for` is the step at hand; `since_height` when it
    began. `gate_height` is the block in which the last commitment of the first attempt came: its digest seeds the
    price rule.
    """

    interval: Interval
    attempt: int
    round: int
    waiting_for: Step
    since_height: int
    gate_height: int
    excluded: tuple[int, ...]

    @property
    def topic(self) -> Topic:
        """What is waited for."""
        return Topic(self.interval, self.waiting_for, self.attempt, self.round)

    @property
    def waits_for_regions(self) -> bool:
        """Rather than for the hub's validators."""
        return self.waiting_for in ATTESTED_STEPS

    def next(self, step: Step, height: int) -> Running:
        """The next step of the round."""
        return replace(self, waiting_for=step, since_height=height)

    def next_round(self, height: int) -> Running:
        """Submissions again, with more flowgates or offers."""
        return replace(self, waiting_for=Step.SUBMIT, round=self.round + 1, since_height=height)

    def next_attempt(self, without: tuple[int, ...], height: int) -> Running:
        """From the commitments again, without some regions."""
        excluded = tuple(sorted({*self.excluded, *without}))
        return replace(
            self,
            attempt=self.attempt + 1,
            round=0,
            waiting_for=Step.COMMIT,
            since_height=height,
            excluded=excluded,
        )

    def encode(self) -> bytes:
        """One byte form."""
        writer = Writer().raw(self.interval.encode()).uint32(self.attempt).uint32(self.round).uint32(self.waiting_for)
        return writer.uint64(self.since_height).uint64(self.gate_height).raw(encode_numbers(self.excluded)).encoded


@dataclass(frozen=True, slots=True)
class Session:
    """Consecutive coupled intervals of the same regions and topology, in which flowgates, factors and prices are kept.

    What a party remembers of it is nowhere on the chain: whoever lost it sits out until the next session begins.
    """

    began: Interval
    age: int
    excluded: tuple[int, ...]
    topology: bytes

    def encode(self) -> bytes:
        """One byte form."""
        writer = Writer().raw(self.began.encode()).uint32(self.age).raw(self.topology)
        return writer.raw(encode_numbers(self.excluded)).encoded


def decode_session(data: bytes) -> Session:
    """The inverse of `Session.encode`."""
    reader = Reader(data)
    began, age, topology = read_interval(reader), reader.uint32(), reader.raw(32)
    excluded = read_numbers(reader)
    reader.end()
    return Session(began, age, excluded, topology)


def decode_running(data: bytes) -> Running:
    """The inverse of `Running.encode`."""
    reader = Reader(data)
    interval = read_interval(reader)
    attempt, number, step = reader.uint32(), reader.uint32(), Step(reader.uint32())
    since, gate = reader.uint64(), reader.uint64()
    excluded = read_numbers(reader)
    reader.end()
    return Running(interval, attempt, number, step, since, gate, excluded)


FOLLOWING = {
    Step.SUBMIT: Step.RESULT,
    Step.RESULT: Step.INJECT,
    Step.INJECT: Step.STATE,
    Step.STATE: Step.VOTE,
    Step.VOTE: Step.DECISION,
}
"""Within a round."""
