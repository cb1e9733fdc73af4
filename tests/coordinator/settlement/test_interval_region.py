"""A region's rules for intervals on a real ledger: offers, gates, schedules, bills in versions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.ledger.accounts import balance
from coordinator.ledger.errors import GenesisError
from coordinator.ledger.handlers import CORE
from coordinator.ledger.invariants import check_books
from coordinator.market.offers import Step as OfferStep
from coordinator.settlement.escrow.handlers import ESCROW_REGION
from coordinator.settlement.interval.confirmations import CONFIRM_REGION, Confirmation, digest_of, proposal
from coordinator.settlement.interval.region import (
    DISPATCH_EVENT,
    INTERVAL_REGION,
    OFFERS,
    TARGET,
    RegionIntervals,
)
from coordinator.settlement.interval.schedules import (
    Curve,
    Metered,
    Offers,
    Schedule,
    Scheduled,
    credit,
    encode_metered,
    scheduled_wh,
)
from coordinator.settlement.interval.topics import ALONE, Interval, Step, Topic
from protos.gridaccord.v1 import ledger_pb2 as pb
from tests.coordinator.ledger.support import MILLION, VALIDATORS
from tests.coordinator.settlement.interval_chain import CREDIT, IntervalChain

FIRST, SECOND = Interval(3600, 3600), Interval(7200, 3600)
PRICE = 40 * MILLION << 20
UNIT = Curve(0, (OfferStep(5 * MILLION, 30 * MILLION), OfferStep(5 * MILLION, 50 * MILLION)))
LOAD = Curve(-8 * MILLION, ())


def region(**changes: object) -> IntervalChain:
    """A region with a unit of alice and a load of bob."""
    escrow = {"region": "A", "hub_chain_id": "11" * 32, "hub_epoch_length": 10, "hub_validators": ["22" * 32]}
    resources = [{"name": "load", "bus": "1", "owner": "bob"}, {"name": "unit", "bus": "2", "owner": "alice"}]
    section: dict[str, object] = {
        "asset": "EUR",
        "topology": "00" * 32,
        "stepper": "carol",
        "opens_s": 3600,
        "duration_s": 3600,
        "gate_closure_s": 600,
        "horizon": 3,
        "imbalance_spread": 0,
        "resources": resources,
        **changes,
    }
    sections = {"escrow_region": {**escrow, "limits": {"EUR": CREDIT}}, "interval_region": section}
    return IntervalChain(modules=(CORE, ESCROW_REGION, INTERVAL_REGION), name="A", sections=sections)


def books(chain: IntervalChain) -> RegionIntervals:
    return RegionIntervals.of(chain.state.view)


def offer(chain: IntervalChain, signer: str, interval: Interval, **curves: Curve) -> str:
    content = Offers(interval, tuple(sorted(curves.items()))).encode()
    return chain.block((OFFERS, content), signer=signer)[0]


def state(chain: IntervalChain, topic: Topic, message: bytes, count: int = 3) -> str:
    """Validators confirm a message; what became of the last one's word."""
    code = ""
    for validator in VALIDATORS[:count]:
        code = chain.block((CONFIRM_REGION, proposal(topic, message).encode()), signer=validator)[0]
    return code


def scheduled_region(**changes: object) -> IntervalChain:
    chain = region(**changes)
    assert offer(chain, "alice", FIRST, unit=UNIT) == ""
    assert offer(chain, "bob", FIRST, load=LOAD) == ""
    assert state(chain, Topic(FIRST, Step.GATE), b"") == ""
    rows = (Scheduled("load", -8 * MILLION, PRICE), Scheduled("unit", 8 * MILLION, PRICE))
    assert state(chain, Topic(FIRST, Step.SCHEDULE, 0, 1), Schedule(0, rows).encode()) == ""
    return chain


def bill(chain: IntervalChain, version: int, *rows: Metered) -> str:
    return state(chain, Topic(FIRST, Step.METERED, 0, version), encode_metered(rows))


def test_only_owners_offer_and_only_while_the_gate_is_open() -> None:
    chain = region()
    assert offer(chain, "bob", FIRST, unit=UNIT) == "not_owner"
    assert offer(chain, "alice", FIRST, other=UNIT) == "not_owner"
    falling = Curve(0, (OfferStep(5, 50), OfferStep(5, 30)))
    assert offer(chain, "alice", FIRST, unit=falling) == "bad_offer"
    assert offer(chain, "alice", Interval(0, 3600), unit=UNIT) == "gate_closed"
    assert offer(chain, "alice", Interval(4 * 3600, 3600), unit=UNIT) == "too_early"
    assert offer(chain, "alice", Interval(5400, 3600), unit=UNIT) == "no_such_interval"
    assert offer(chain, "alice", Interval(7200, 900), unit=UNIT) == "no_such_interval"
    assert offer(chain, "alice", FIRST, unit=UNIT) == ""
    assert state(chain, Topic(FIRST, Step.GATE), b"") == ""
    assert offer(chain, "alice", FIRST, unit=UNIT) == "gate_closed"
    assert books(chain).offers(FIRST) == {"unit": UNIT}
    assert offer(chain, "alice", SECOND, unit=UNIT) == ""


def test_a_statement_takes_a_quorum_of_validators_and_stands_once_it_is_made() -> None:
    chain = region()
    gate = Topic(FIRST, Step.GATE)
    assert chain.block((CONFIRM_REGION, proposal(gate, b"").encode()), signer="alice") == ["not_validator"]
    assert state(chain, gate, b"", count=2) == ""
    assert books(chain).gate is None
    assert state(chain, gate, b"") == ""
    commit = Topic(FIRST, Step.COMMIT)
    digest_only = Confirmation(commit, digest_of(b"m")).encode()
    for validator in VALIDATORS:
        assert chain.block((CONFIRM_REGION, digest_only), signer=validator) == [""]
    assert books(chain).stated(commit) is None, "nobody has given the message"
    assert chain.block((CONFIRM_REGION, proposal(commit, b"m").encode()), signer="v0") == [""]
    assert books(chain).stated(commit) == digest_of(b"m")
    assert state(chain, commit, b"other", count=1) == "stated"
    assert state(chain, Topic(SECOND, Step.COMMIT), b"m", count=1) == "unexpected"
    assert state(chain, Topic(FIRST, Step.RESULT), b"m", count=1) == "unexpected"


def test_a_schedule_covers_what_was_offered_and_stays_within_it() -> None:
    chain = region()
    offer(chain, "alice", FIRST, unit=UNIT)
    offer(chain, "bob", FIRST, load=LOAD)
    state(chain, Topic(FIRST, Step.GATE), b"")
    topic = Topic(FIRST, Step.SCHEDULE, 0, 1)
    unit, load = Scheduled("unit", 8 * MILLION, PRICE), Scheduled("load", -8 * MILLION, PRICE)
    too_much = Scheduled("unit", 10 * MILLION + 1, PRICE)
    assert state(chain, topic, Schedule(0, (unit,)).encode()) == "other_resources"
    assert state(chain, topic, Schedule(0, (load, too_much)).encode()) == "beyond_offer"
    assert books(chain).positions(FIRST) == {}
    assert state(chain, topic, Schedule(-5, (load, unit)).encode()) == ""
    assert books(chain).escrow.mandate(books(chain).nonce(FIRST), b"neutral", "EUR") == -5
    assert books(chain).offers(FIRST) == {}
    kinds = [event.kind for block in chain.blocks for receipt in block.applied.receipts for event in receipt.events]
    assert kinds.count(DISPATCH_EVENT) == 1
    assert state(chain, Topic(FIRST, Step.SCHEDULE, ALONE), Schedule(0, (load, unit)).encode()) == "other_resources"


def test_bills_have_versions_and_pay_differences_to_the_micro_unit() -> None:
    chain = scheduled_region()
    rows = (Metered("load", -8 * MILLION), Metered("unit", 8 * MILLION, substituted=True))
    assert bill(chain, 2, *rows) == "bad_version"
    assert bill(chain, 1, *rows) == ""
    worth = 8 * 40 * MILLION
    assert (balance(chain.state.view, "alice", "EUR"), balance(chain.state.view, "bob", "EUR")) == (worth, -worth)
    assert bill(chain, 1, *rows) == "bad_version"
    assert bill(chain, 2, Metered("unit", 7 * MILLION)) == ""
    assert balance(chain.state.view, "alice", "EUR") == 7 * 40 * MILLION
    position = books(chain).position(FIRST, "unit")
    assert position is not None
    assert (position.version, position.metered_wh, position.substituted) == (2, 7 * MILLION, False)
    assert balance(chain.state.view, "neutral", "EUR") == 40 * MILLION
    assert bill(chain, 1, Metered("nobody", 1)) == "not_scheduled"
    check_books(chain.state.tree)


def test_what_an_account_cannot_pay_stays_owed_and_goes_first_when_there_is_money() -> None:
    chain = scheduled_region()
    poor = chain.block(("credit_limit", _limit("bob", 0)), signer="carol")
    assert poor == [""]
    assert bill(chain, 1, Metered("load", -8 * MILLION), Metered("unit", 8 * MILLION)) == ""
    assert books(chain).owed("bob") == -8 * 40 * MILLION
    assert balance(chain.state.view, "bob", "EUR") == 0
    assert chain.block(("credit_limit", _limit("bob", CREDIT)), signer="carol") == [""]
    assert bill(chain, 2, Metered("load", -9 * MILLION)) == ""
    assert books(chain).owed("bob") == 0
    assert balance(chain.state.view, "bob", "EUR") == -9 * 40 * MILLION


def _limit(owner: str, limit: int) -> bytes:
    return pb.CreditLimit(asset="EUR", owner=owner, limit=limit).SerializeToString()


def test_gates_close_by_the_clock_or_by_the_stepper_alone() -> None:
    clock = books(region(stepper=""))
    assert clock.due(2_999_000) is None
    assert clock.due(3_000_000) == FIRST
    assert clock.due(6_600_000) == SECOND
    stepped = region()
    assert books(stepped).due(10**9) is None
    assert stepped.block((TARGET, FIRST.encode()), signer="alice") == ["not_stepper"]
    assert stepped.block((TARGET, FIRST.encode()), signer="carol") == [""]
    assert books(stepped).due(0) == FIRST


@given(
    power_w=st.integers(-(10**12), 10**12),
    price=st.integers(-(10**16), 10**16),
    metered_wh=st.integers(-(10**12), 10**12),
    duration_s=st.sampled_from([900, 3600]),
    spread=st.integers(0, 10**14),
)
def test_a_credit_is_the_rule_rounded_once(
    power_w: int, price: int, metered_wh: int, duration_s: int, spread: int
) -> None:
    scheduled = Fraction(power_w * duration_s, 3600 * 10**6)
    deviation = Fraction(metered_wh, 10**6) - scheduled
    rate = Fraction(price - spread if deviation > 0 else price + spread, 1 << 20)
    exact = scheduled * Fraction(price, 1 << 20) + deviation * rate
    assert abs(credit(power_w, price, metered_wh, duration_s, spread) - exact) <= Fraction(1, 2)


@given(power_w=st.integers(-(10**12), 10**12), spread=st.integers(0, 10**14), metered_wh=st.integers(-(10**9), 10**9))
def test_a_deviation_never_pays(power_w: int, spread: int, metered_wh: int) -> None:
    on_schedule = credit(power_w, PRICE, metered_wh, 3600, 0)
    assert credit(power_w, PRICE, metered_wh, 3600, spread) <= on_schedule


def test_a_schedule_as_a_meter_would_show_it() -> None:
    assert [scheduled_wh(power, 900) for power in (4, -4, 2, 6)] == [1, -1, 0, 2]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"resources": [{"name": "x", "bus": "1", "owner": "nobody"}]}, "owner nobody is unknown"),
        ({"resources": "many"}, "resources"),
        ({"topology": "00"}, "topology"),
        ({"horizon": 0}, "horizon"),
        ({"stepper": "nobody"}, "stepper nobody is no participant"),
        ({"asset": "USD"}, "asset USD is none of this chain's"),
        ({"ties": [{"name": "tie-1", "owner": "nobody"}]}, "owner nobody is unknown"),
        ({"ties": [{"name": "unit", "owner": "bob"}]}, "unit is a resource and a tie-line"),
    ],
)
def test_a_genesis_that_cannot_be_is_refused_by_name(changes: dict[str, object], said: str) -> None:
    with pytest.raises(GenesisError, match=said):
        region(**changes)
