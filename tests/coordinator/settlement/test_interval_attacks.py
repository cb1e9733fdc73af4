"""Hostile participants, regions and validators in an interval: nobody stops a chain, and nobody blocks the others."""

from __future__ import annotations

import pickle

import pytest

from coordinator.ledger.codec import INT64_MAX
from coordinator.ledger.errors import GenesisError
from coordinator.settlement.interval.confirmations import (
    CONFIRM_HUB,
    CONFIRM_REGION,
    Confirmation,
    digest_of,
    event_payload,
    proposal,
)
from coordinator.settlement.interval.decisions import Agreed, Said, Transfer
from coordinator.settlement.interval.hub import MESSAGE, encode_message
from coordinator.settlement.interval.region import OFFERS, RegionIntervals
from coordinator.settlement.interval.schedules import (
    RESOURCE_MAX_W,
    Curve,
    Metered,
    Offers,
    Schedule,
    Scheduled,
    encode_metered,
)
from coordinator.settlement.interval.topics import ALONE, Interval, Step, Topic
from coordinator.settlement.interval.transcript import Transcript
from tests.coordinator.ledger.support import VALIDATORS
from tests.coordinator.settlement.interval_chain import event_proof
from tests.coordinator.settlement.test_interval_hub import HOUR, PRICE, Net


def said(net: Net, topic: Topic, message: bytes) -> str:
    """What became of the word of the last of a quorum of region A's validators."""
    given = proposal(topic, message).encode()
    return [net.regions["A"].block((CONFIRM_REGION, given), signer=name)[0] for name in VALIDATORS[:3]][-1]


def offer(net: Net, interval: Interval, curve: Curve) -> str:
    """What became of an offer in region A."""
    content = Offers(interval, (("unit-A", curve),)).encode()
    return net.regions["A"].block((OFFERS, content), signer="alice")[0]


def test_a_meter_that_shows_more_than_can_be_paid_does_not_stop_the_chain() -> None:
    net = Net()
    net.close_gates()
    schedule = Schedule(0, (Scheduled("unit-A", 5, PRICE),)).encode()
    assert said(net, Topic(HOUR, Step.SCHEDULE, ALONE), schedule) == ""
    assert RegionIntervals.of(net.regions["A"].state.view).scheduled() == [HOUR]
    topic = Topic(HOUR, Step.METERED, 0, 1)
    assert said(net, topic, encode_metered([Metered("unit-A", INT64_MAX)])) == "bad_amount"
    assert said(net, topic, encode_metered([Metered("unit-A", 5)])) == ""
    position = RegionIntervals.of(net.regions["A"].state.view).position(HOUR, "unit-A")
    assert position is not None
    assert (position.version, position.metered_wh) == (1, 5)


def test_an_offer_that_no_resource_can_deliver_is_refused() -> None:
    net = Net()
    assert offer(net, HOUR, Curve(RESOURCE_MAX_W + 1, ())) == "bad_offer"
    assert offer(net, HOUR, Curve(-RESOURCE_MAX_W - 1, ())) == "bad_offer"
    assert offer(net, HOUR, Curve(RESOURCE_MAX_W, ())) == ""


def test_only_intervals_of_the_region_are_offered_for() -> None:
    net = Net()
    curve = Curve(5, ())
    assert offer(net, Interval(HOUR.start_s, 2**32 - 1), curve) == "no_such_interval"
    assert offer(net, Interval(HOUR.start_s + 1, HOUR.duration_s), curve) == "no_such_interval"
    assert offer(net, HOUR, curve) == ""


def test_after_a_standstill_longer_than_the_horizon_gates_close_again() -> None:
    net = Net()
    region = net.regions["A"]
    due = RegionIntervals.of(region.state.view).due(region.state.header.time_ms)
    assert due is not None
    assert due.start_s > HOUR.start_s + 4 * HOUR.duration_s
    assert offer(net, Interval(due.end_s, due.duration_s), Curve(5, ())) == ""
    assert said(net, Topic(due, Step.GATE), b"") == ""
    assert RegionIntervals.of(region.state.view).gate == due


@pytest.mark.parametrize("name", ["x" * 59, "twice"])
def test_an_agreement_that_no_settlement_can_hold_is_refused_before_the_end_of_a_block(name: str) -> None:
    net = Net(step_blocks=30)
    net.close_gates()
    net.say(Step.COMMIT)
    net.to_decision()
    transfers = tuple(Transfer(region, 0) for region in net.names)
    owners = (Transfer(name, 7), Transfer(name, -7))[: 2 if name == "twice" else 1]
    assert net.decide(Agreed(10, 0, transfers, owners, b"")) == "malformed"
    assert net.agree(-7, 3, 4) == ""


def test_names_that_no_settlement_can_hold_are_refused_at_genesis() -> None:
    with pytest.raises(GenesisError, match="shorten"):
        Net(names=("A", "B", "C" * 33))


def test_a_validator_that_proposes_again_and_again_takes_no_text_away_and_fills_no_memory() -> None:
    net = Net(step_blocks=100)
    net.close_gates()
    net.say(Step.COMMIT)
    net.say(Step.SUBMIT, number=1)
    topic, transcript = net.waits_for, Transcript()
    assert topic is not None
    codes = []
    for number in range(40):
        given = proposal(topic, Said(bytes([number]) * 10_000).encode()).encode()
        codes += net.hub.block((CONFIRM_HUB, given), signer="v3")
    assert codes == ["", *["again"] * 39]
    first = Confirmation(topic, digest_of(Said(bytes(10_000)).encode())).encode()
    for validator in VALIDATORS[:2]:
        assert net.hub.block((CONFIRM_HUB, first), signer=validator) == [""]
    assert net.waits_for == Topic(HOUR, Step.INJECT, 0, 1)
    for block in net.hub.blocks:
        transcript.add(block.block, block.applied.receipts)
    assert transcript.of_hub[topic] == Said(bytes(10_000))
    assert len(pickle.dumps(transcript)) < 5 * 10_000


def test_nobody_hangs_anything_on_a_schedule_that_is_proved_to_the_hub() -> None:
    net = Net()
    net.close_gates()
    net.say(Step.COMMIT)
    net.to_decision()
    assert net.agree(-7, 3, 4) == ""
    message, topic = Schedule(-7, (Scheduled("unit-A", 5, PRICE),)).encode(), Topic(HOUR, Step.SCHEDULE, 0, 1)
    net.state("A", topic, message)
    proof = event_proof(net.regions["A"], event_payload(topic, digest_of(message)))
    assert net.hub.block((MESSAGE, encode_message(proof, b"anything"))) == ["other_message"]
    assert net.relay("A", topic, message) == ""
