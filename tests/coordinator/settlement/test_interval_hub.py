"""The hub's rules for intervals on real ledgers: whose word counts, in what order, until when, and what follows.

The messages of the coupling are any bytes here: the state machine never looks into them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from coordinator.consensus.header import Header
from coordinator.ledger.codec import Reader
from coordinator.ledger.handlers import CORE
from coordinator.ledger.invariants import check_books
from coordinator.ledger.state import Module
from coordinator.settlement.escrow.handlers import ESCROW_HUB, ESCROW_REGION, encode_region
from coordinator.settlement.escrow.types import HUB, Decided, Opened, Outcome, Receipt
from coordinator.settlement.interval import region as region_module
from coordinator.settlement.interval.confirmations import (
    CONFIRM_HUB,
    CONFIRM_REGION,
    Confirmation,
    digest_of,
    event_payload,
    proposal,
)
from coordinator.settlement.interval.decisions import Agreed, Blamed, Committed, HubMessage, Said, TieSchedule, Transfer
from coordinator.settlement.interval.decisions import Opened as NextRound
from coordinator.settlement.interval.hub import END_EVENT, INTERVAL_HUB, MESSAGE, encode_message
from coordinator.settlement.interval.hub_books import HubIntervals
from coordinator.settlement.interval.region import INTERVAL_REGION, OFFERS, RegionIntervals
from coordinator.settlement.interval.schedules import Curve, Offers, Schedule, Scheduled
from coordinator.settlement.interval.topics import Interval, Step, Topic
from tests.coordinator.ledger.support import MILLION, VALIDATORS
from tests.coordinator.settlement.interval_chain import COLLATERAL, CREDIT, IntervalChain, event_proof

HOUR = Interval(3600, 3600)
NEXT = Interval(7200, 3600)
NAMES = ("A", "B", "C")
PRICE = 30 * MILLION << 20
TIE_LIMIT_W, TIE_COLLATERAL = 500 * MILLION, 10**9
TOPOLOGY = bytes(32)
ROOT = Committed(True, TOPOLOGY, b"root").encode()
"""A commitment of a region that remembers the session; in other steps any message does."""


@dataclass
class Net:
    """A hub and three regions with a resource each."""

    step_blocks: int = 6
    round_limit: int = 2
    names: tuple[str, ...] = NAMES
    regions: dict[str, IntervalChain] = field(default_factory=dict)
    ties: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Regions at the ends of each tie-line."""
    meters_ties: bool = True
    """Whether metered exchange over them is settled."""
    disagreement: str = "mean"
    fallback: str = "zero_exchange"

    def __post_init__(self) -> None:
        section: dict[str, object] = {"asset": "EUR", "topology": TOPOLOGY.hex(), "opens_s": HOUR.start_s}
        limits = {
            "duration_s": 3600,
            "step_blocks": self.step_blocks,
            "absent_blocks": 2,
            "round_limit": self.round_limit,
        }
        on_hub = {**section, **limits, "session_intervals": 2, "collateral": COLLATERAL, "regions": list(self.names)}
        on_hub["fallback"] = self.fallback
        if self.ties:
            lines = self.ties.items()
            on_hub["ties"] = [{"name": n, "from": a, "to": b, "limit_w": TIE_LIMIT_W} for n, (a, b) in lines]
        if self.ties and self.meters_ties:
            rules = {"tolerance_wh": 10, "disagreement": self.disagreement, "blocks": 5}
            on_hub["tie_meters"] = {**rules, "collateral": TIE_COLLATERAL}
        windows = {"window_min": 1, "window_max": 20, "netting_window": 4}
        self.hub = IntervalChain(
            modules=(CORE, ESCROW_HUB, INTERVAL_HUB), sections={"escrow_hub": windows, "interval_hub": on_hub}
        )
        for name in self.names:
            self.regions[name] = region = self._region(name, section)
            keys = tuple(map(region.key, VALIDATORS))
            content = encode_region(name, region.chain_id, region.epoch_length, keys, {"EUR": 3 * COLLATERAL})
            for validator in VALIDATORS[:3]:
                assert self.hub.block(("escrow_region", content), signer=validator) == [""]

    def _region(self, name: str, section: dict[str, object]) -> IntervalChain:
        keys = [self.hub.key(validator).hex() for validator in VALIDATORS]
        escrow = {
            "region": name,
            "hub_chain_id": self.hub.chain_id.hex(),
            "hub_epoch_length": 1000,
            "limits": {"EUR": CREDIT},
        }
        resource = {"name": f"unit-{name}", "bus": "1", "owner": "alice"}
        times = {"duration_s": 3600, "gate_closure_s": 0}
        own = {**section, **times, "horizon": 4, "imbalance_spread": 0, "resources": [resource]}
        own["ties"] = [{"name": tie, "owner": "bob"} for tie, ends in self.ties.items() if name in ends]
        modules: tuple[Module, ...] = (CORE, ESCROW_REGION, INTERVAL_REGION)
        sections = {"escrow_region": {**escrow, "hub_validators": keys}, "interval_region": own}
        return IntervalChain(modules=modules, name=name, sections=sections)

    @property
    def books(self) -> HubIntervals:
        return HubIntervals.of(self.hub.state.view)

    @property
    def waits_for(self) -> Topic | None:
        running = self.books.running
        return None if running is None else running.topic

    def state(self, name: str, topic: Topic, message: bytes) -> None:
        """A quorum of a region's validators says something."""
        given = proposal(topic, message).encode()
        for validator in VALIDATORS[:3]:
            assert self.regions[name].block((CONFIRM_REGION, given), signer=validator) == [""]

    def relay(self, name: str, topic: Topic, message: bytes) -> str:
        """Its statement comes to the hub; what became of it."""
        proof = event_proof(self.regions[name], event_payload(topic, digest_of(message)))
        said = b"" if topic.step is Step.SCHEDULE else message
        return self.hub.block((MESSAGE, encode_message(proof, said)))[0]

    def state_of_a_byzantine_region(self, name: str, topic: Topic) -> str:
        """Its validators state what its own rules forbid; what becomes of that on the hub."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(region_module, "_check_expected", lambda books, topic: None)
            self.state(name, topic, ROOT)
        return self.relay(name, topic, ROOT)

    def say(self, step: Step, *names: str, message: bytes = ROOT, attempt: int = 0, number: int = 0) -> list[str]:
        """Regions say the same in a step, and it is relayed; what became of each."""
        codes = []
        for name in names or self.names:
            topic = Topic(HOUR, step, attempt, number)
            self.state(name, topic, message)
            codes.append(self.relay(name, topic, message))
        return codes

    def decide(self, said: HubMessage, count: int = 3) -> str:
        """Hub validators confirm what it waits for; what became of the last one's word."""
        topic = self.waits_for
        assert topic is not None
        code = ""
        for validator in VALIDATORS[:count]:
            code = self.hub.block((CONFIRM_HUB, proposal(topic, said.encode()).encode()), signer=validator)[0]
        return code

    def close_gates(self, interval: Interval = HOUR) -> None:
        for name, region in self.regions.items():
            content = Offers(interval, ((f"unit-{name}", Curve(5, ())),)).encode()
            assert region.block((OFFERS, content), signer="alice") == [""]
            self.state(name, Topic(interval, Step.GATE), b"")

    def to_decision(self, *names: str, attempt: int = 0) -> None:
        """Through one round."""
        number = self.books.running.round if self.books.running is not None else 1
        for step, said in ((Step.SUBMIT, Step.RESULT), (Step.INJECT, Step.STATE), (Step.VOTE, None)):
            assert set(self.say(step, *names, attempt=attempt, number=number)) == {""}
            if said is not None:
                assert self.decide(Said(b"hub")) == ""

    def agree(self, *amounts: int, ties: tuple[TieSchedule, ...] = ()) -> str:
        transfers = tuple(Transfer(name, amount) for name, amount in zip(self.names, amounts, strict=True))
        return self.decide(Agreed(10, 0, transfers, (), b"", ties))

    def set_schedules(self, *amounts: int, names: tuple[str, ...] = (), number: int = 1, attempt: int = 0) -> None:
        for name, amount in zip(names or self.names, amounts, strict=True):
            message = Schedule(amount, (Scheduled(f"unit-{name}", 5, PRICE),)).encode()
            topic = Topic(HOUR, Step.SCHEDULE, attempt, number)
            self.state(name, topic, message)
            assert self.relay(name, topic, message) == ""

    def settle(self) -> None:
        """Escrow events to and fro until nothing changes."""
        for _ in range(3):
            for region in self.regions.values():
                region.block(*(("escrow_event", proof) for proof in self.hub.proofs(Opened, Decided)))
                self.hub.block(*(("escrow_receipt", proof) for proof in region.proofs(Receipt)))

    def ends(self) -> list[tuple[Interval, bool]]:
        """Intervals that ended, and whether they were coupled."""
        found = []
        for block in self.hub.blocks:
            for receipt in block.applied.receipts:
                for event in receipt.events:
                    if event.kind == END_EVENT:
                        reader = Reader(event.payload)
                        start, duration, run = reader.uint64(), reader.uint32(), reader.uint32()
                        found.append((Interval(start, duration, run), reader.flag()))
        return found


def test_an_interval_from_commitments_to_money() -> None:
    net = Net()
    net.close_gates()
    assert net.say(Step.COMMIT) == ["", "", ""]
    assert net.waits_for == Topic(HOUR, Step.SUBMIT, 0, 1)
    net.to_decision()
    assert net.decide(NextRound((1,), b"more")) == ""
    net.to_decision()
    assert net.agree(-7, 3, 5) == ""
    assert net.waits_for == Topic(HOUR, Step.SCHEDULE, 0, 2)
    net.set_schedules(-7, 3, 5, number=2)
    assert net.ends() == [(HOUR, True)]
    net.settle()
    escrow = net.books.escrow
    assert [escrow.position(name, "EUR") for name in NAMES] == [-7, 3, 5]
    assert escrow.coupling_exposure("A", "EUR") == 0
    assert escrow.position(HUB, "EUR") == -1
    dispatched = RegionIntervals.of(net.regions["A"].state.view).position(HOUR, "unit-A")
    assert dispatched is not None
    assert (dispatched.power_w, dispatched.price) == (5, PRICE)
    for chain in (net.hub, *net.regions.values()):
        check_books(chain.state.tree)


def test_nothing_counts_out_of_its_place() -> None:
    net = Net()
    net.close_gates()
    submit, commit = Topic(HOUR, Step.SUBMIT, 0, 1), Topic(HOUR, Step.COMMIT)
    for name in NAMES:
        net.state(name, submit, b"early")
        net.state(name, commit, ROOT)
    assert net.relay("A", submit, b"early") == "unexpected"
    assert net.relay("A", commit, ROOT) == ""
    assert net.relay("A", commit, ROOT) == "again"
    assert net.relay("B", submit, b"early") == "unexpected"
    other = net.regions["B"].blocks[-1]
    assert isinstance(other.block.header, Header)
    proof = event_proof(net.regions["B"], event_payload(commit, digest_of(ROOT)))
    assert net.hub.block((MESSAGE, encode_message(proof, b"another message"))) == ["other_message"]
    assert net.hub.block((CONFIRM_HUB, proposal(submit, b"x").encode()), signer="v0") == ["unexpected"]
    assert net.hub.block((CONFIRM_HUB, Confirmation(commit, bytes(32)).encode()), signer="alice") == ["unexpected"]


def test_a_silent_region_is_gone_on_without_and_waited_for_more_briefly_until_it_is_back() -> None:
    net = Net()
    net.close_gates()
    net.say(Step.COMMIT, "A", "B")
    for _ in range(net.step_blocks):
        net.hub.block()
    running = net.books.running
    assert running is not None
    assert (running.waiting_for, running.attempt, running.excluded) == (Step.SUBMIT, 0, (2,))
    assert net.say(Step.SUBMIT, "C", number=1) == ["excluded"]
    net.to_decision("A", "B")
    assert net.agree(-1, 1, 0) == ""
    net.set_schedules(-1, 1, names=("A", "B"))
    assert net.books.absent == (2,)
    net.close_gates(NEXT)
    for name in ("A", "B"):
        net.state(name, Topic(NEXT, Step.COMMIT), ROOT)
        assert net.relay(name, Topic(NEXT, Step.COMMIT), ROOT) == ""
    for _ in range(2):
        net.hub.block()
    assert net.waits_for is not None
    assert net.waits_for.step is Step.SUBMIT
    assert not net.books.is_cold(net.books.running)


def test_a_region_that_is_back_begins_a_new_attempt_in_which_nothing_is_remembered() -> None:
    net = Net()
    net.close_gates()
    net.say(Step.COMMIT, "A", "B")
    for _ in range(net.step_blocks):
        net.hub.block()
    net.to_decision("A", "B")
    net.agree(0, 0, 0)
    net.set_schedules(0, 0, names=("A", "B"))
    net.close_gates(NEXT)
    for name in ("C", "A", "B"):
        net.state(name, Topic(NEXT, Step.COMMIT), ROOT)
        assert net.relay(name, Topic(NEXT, Step.COMMIT), ROOT) == ""
    running = net.books.running
    assert running is not None
    assert (running.topic, running.excluded) == (Topic(NEXT, Step.COMMIT, 1), ())
    assert net.books.is_cold(running)


def test_a_region_that_stops_in_the_middle_costs_an_attempt_and_nobody_else_anything() -> None:
    net = Net()
    net.close_gates()
    net.say(Step.COMMIT)
    net.say(Step.SUBMIT, "A", "C", number=1)
    for _ in range(net.step_blocks):
        net.hub.block()
    running = net.books.running
    assert running is not None
    assert (running.topic, running.excluded) == (Topic(HOUR, Step.COMMIT, 1), (1,))
    assert net.say(Step.COMMIT, "A", "C", attempt=1) == ["", ""]
    net.to_decision("A", "C", attempt=1)
    net.agree(-4, 0, 4)
    net.set_schedules(-4, 4, names=("A", "C"), attempt=1)
    net.settle()
    assert [net.books.escrow.position(name, "EUR") for name in NAMES] == [-4, 0, 4]


def test_blame_needs_a_quorum_and_a_region_that_takes_part() -> None:
    net = Net(step_blocks=30)
    net.close_gates()
    net.say(Step.COMMIT)
    net.say(Step.SUBMIT, number=1)
    assert net.decide(Blamed((5,), "no such region")) == "malformed"
    assert net.decide(Blamed((1,), "nonsense"), count=2) == ""
    assert net.waits_for == Topic(HOUR, Step.RESULT, 0, 1)
    assert net.decide(Blamed((1,), "nonsense")) == ""
    running = net.books.running
    assert running is not None
    assert (running.topic, running.excluded) == (Topic(HOUR, Step.COMMIT, 1), (1,))


def test_whoever_objects_at_the_round_limit_is_gone_on_without() -> None:
    net = Net(round_limit=2)
    net.close_gates()
    net.say(Step.COMMIT)
    for _ in range(2):
        net.to_decision()
        assert net.decide(NextRound((0,), b"more")) == ""
    running = net.books.running
    assert running is not None
    assert (running.topic, running.excluded) == (Topic(HOUR, Step.COMMIT, 1), (0,))


def test_validators_who_cannot_decide_begin_anew_and_in_the_end_the_interval_is_not_coupled() -> None:
    net = Net()
    net.close_gates()
    net.say(Step.COMMIT)
    net.say(Step.SUBMIT, number=1)
    attempt = 0
    while net.books.running is not None:
        for _ in range(net.step_blocks):
            net.hub.block()
        attempt += 1
        assert attempt < 10, "the interval never ends"
        if net.books.running is not None:
            assert net.waits_for == Topic(HOUR, Step.COMMIT, attempt)
            assert set(net.say(Step.COMMIT, attempt=attempt)) == {""}
            assert set(net.say(Step.SUBMIT, attempt=attempt, number=1)) == {""}
    assert net.ends() == [(HOUR, False)]
    assert [net.books.escrow.coupling_exposure(name, "EUR") for name in NAMES] == [0, 0, 0]


def test_who_sets_no_schedule_has_its_debit_on_its_collateral_and_the_others_are_paid() -> None:
    net = Net()
    net.close_gates()
    net.say(Step.COMMIT)
    net.to_decision()
    net.agree(-7, 3, 4)
    net.set_schedules(3, 4, names=("B", "C"))
    for _ in range(net.step_blocks):
        net.hub.block()
    assert net.ends() == [(HOUR, True)]
    net.settle()
    escrow = net.books.escrow
    assert [escrow.position(name, "EUR") for name in NAMES] == [-7, 3, 4]
    decided = [escrow.record(sid) for sid in escrow.unclosed()]
    assert all(record is None or record.outcome is Outcome.COMMIT for record in decided)


def test_an_agreement_that_does_not_add_up_or_exceeds_collateral_is_refused() -> None:
    net = Net(step_blocks=30)
    net.close_gates()
    net.say(Step.COMMIT)
    net.to_decision()
    assert net.agree(-1000, 0, 0) == "unbalanced"
    assert net.agree(-COLLATERAL - 1, COLLATERAL + 1, 0) == "no_collateral"
    assert net.decide(Said(b"not a decision")) == "malformed"
    assert net.agree(-COLLATERAL, COLLATERAL, 0) == ""


def test_a_split_over_two_proposals_heals_because_the_latest_word_counts() -> None:
    net = Net()
    net.close_gates()
    net.say(Step.COMMIT)
    net.say(Step.SUBMIT, number=1)
    topic = net.waits_for
    assert topic is not None
    for validator, text in zip(VALIDATORS, (b"x", b"x", b"y", b"y"), strict=True):
        given = proposal(topic, Said(text).encode()).encode()
        assert net.hub.block((CONFIRM_HUB, given), signer=validator) == [""]
    assert net.waits_for == topic
    over = Confirmation(topic, digest_of(Said(b"x").encode())).encode()
    assert net.hub.block((CONFIRM_HUB, over), signer="v3") == [""]
    assert net.waits_for == Topic(HOUR, Step.INJECT, 0, 1)


def test_one_region_alone_begins_nothing_and_none_begins_what_is_off_the_grid() -> None:
    net = Net()
    far = Interval(3600 * 10**9, 3600)
    for interval in (far, Interval(5400, 3600), Interval(3600, 60)):
        topic = Topic(interval, Step.COMMIT)
        assert net.state_of_a_byzantine_region("A", topic) == ("" if interval == far else "no_such_interval")
    assert net.books.running is None
    net.close_gates()
    assert net.say(Step.COMMIT, "B", "C") == ["", ""]
    assert net.waits_for == Topic(HOUR, Step.COMMIT)
    assert net.books.ready() == {}
