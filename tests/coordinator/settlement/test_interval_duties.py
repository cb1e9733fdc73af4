"""Validators' duties under attack and bad luck: what was right once is not right again, and a slow attempt goes on."""

from __future__ import annotations

from coordinator.ledger.block import decode_payload
from coordinator.market.coupling.interval_state import PublicationWindow
from coordinator.settlement.interval.confirmations import CONFIRM_HUB, decode_confirmation, proposal
from coordinator.settlement.interval.decisions import Committed, Said
from coordinator.settlement.interval.hub_books import HubIntervals
from coordinator.settlement.interval.hub_party import GateClosure, HubKnowledge, HubParty
from coordinator.settlement.interval.hub_state import Running
from coordinator.settlement.interval.region_party import RegionKnowledge, RegionParty
from coordinator.settlement.interval.schedules import Curve
from coordinator.settlement.interval.topics import Step, Topic
from tests.coordinator.settlement.interval_chain import COLLATERAL
from tests.coordinator.settlement.interval_support import RULES, IntervalNet
from tests.coordinator.settlement.test_intervals import net_of, objective, offer_all


def step_until(net: IntervalNet, step: Step, attempt: int, number: int) -> Running:
    """Until the hub waits for this."""
    for _ in range(200):
        running = HubIntervals.of(net.hub.state.view).running
        if running is not None and (running.waiting_for, running.attempt, running.round) == (step, attempt, number):
            return running
        net.step()
    raise AssertionError(f"the hub never waits for {step.name} {attempt}.{number}")


def proposed(net: IntervalNet, topic: Topic) -> bytes:
    """The message that was proposed first on a topic."""
    for finalized in net.hub.blocks:
        for signed in decode_payload(finalized.block.payload):
            if signed.transaction.kind == CONFIRM_HUB:
                given = decode_confirmation(signed.transaction.content)
                if given.topic == topic and given.message is not None:
                    return given.message
    raise AssertionError(f"nobody proposed anything on {topic}")


def test_the_result_of_an_earlier_round_is_not_confirmed_again() -> None:
    net, day = net_of(1)
    offer_all(net, day[0])
    net.target, interval = day[0][0], day[0][0]
    net.idle_validators = {(-1, "v0")}
    running = step_until(net, Step.RESULT, 0, 2)
    old = proposed(net, Topic(interval, Step.RESULT, 0, 1))
    block = net.hub.grow([("v0", (CONFIRM_HUB, proposal(running.topic, old).encode()))])
    for duty in net.hub_duties.values():
        duty.on_block(block.block, block.applied.receipts, net.hub.state.view)
    net.run(interval)
    assert abs(objective(net)[-1] - day[0][2]) <= 1e-6 * day[0][2]
    assert all(not duty.fault for duty in net.hub_duties.values())


def test_who_is_no_validator_of_the_hub_any_more_owes_nothing() -> None:
    net, day = net_of(1)
    net.hub_duties["alice"] = net.new_hub_duty("alice")
    offer_all(net, day[0])
    net.target = day[0][0]
    step_until(net, Step.RESULT, 0, 1)
    assert net.hub_duties["alice"].owed(net.hub.state.view) == []


def test_an_attempt_may_take_longer_than_digests_of_blocks_are_kept() -> None:
    net, day = net_of(2, step_blocks=60)
    offer_all(net, day[0])
    net.run(day[0][0])
    net.forget(0)
    offer_all(net, day[1])
    net.target = day[1][0]
    step_until(net, Step.COMMIT, 1, 0)
    net.unheard = {1}
    for _ in range(20):
        net.step()
    net.unheard = set()
    net.run(day[1][0])
    assert abs(objective(net)[-1] - day[1][2]) <= 1e-6 * day[1][2]
    assert HubIntervals.of(net.hub.state.view).absent == ()


def test_where_a_commitment_cannot_be_used_blame_is_all_that_is_confirmed() -> None:
    net, day = net_of(1)
    party = HubParty(HubKnowledge(net.public, RULES, "EUR", COLLATERAL))
    commit, submit = Topic(day[0][0], Step.COMMIT), Topic(day[0][0], Step.SUBMIT, 0, 1)
    party.begin(commit, cold=True)
    unusable = Committed(False, net.public.topology_id, b"\xff").encode()
    party.close_gate(commit, dict.fromkeys(range(3), unusable), GateClosure((), bytes(32)))
    party.hear_regions(submit, dict.fromkeys(range(3), b""))
    result = Topic(day[0][0], Step.RESULT, 0, 1)
    assert not party.agrees(result, Said(b"anything").encode())
    blame = party.propose(result)
    assert blame is not None
    assert party.agrees(result, blame)


def test_a_region_whose_offers_do_not_clear_stops_nobody_and_closes_its_next_gate() -> None:
    net, day = net_of(2, ghost="nowhere")
    offer_all(net, day[0])
    net.offer(0, day[0][0], {"ghost": Curve(5, ())})
    net.run(day[0][0])
    assert HubIntervals.of(net.hub.state.view).absent == (0,)
    assert all("nowhere" in duty.fault for duty in net.region_duties[0].values())
    offer_all(net, day[1])
    net.run(day[1][0])
    assert HubIntervals.of(net.hub.state.view).absent == ()
    assert abs(objective(net)[-1] - day[1][2]) <= 1e-6 * day[1][2]


def test_a_topology_that_nobody_can_compute_with_is_sat_out() -> None:
    net, day = net_of(1)
    commit, unknown = Topic(day[0][0], Step.COMMIT), ("tie-none",)
    hub = HubParty(HubKnowledge(net.public, RULES, "EUR", COLLATERAL))
    hub.begin(commit, cold=True, ties_out=unknown)
    known = RegionKnowledge(net.cut.regions[1], net.public, RULES, bytes(32), "EUR", PublicationWindow())
    region = RegionParty(known)
    region.begin(commit, True, {}, {}, unknown)
    for party in (hub, region):
        assert party.awaits is None
        assert "tie-none" in party.fault
    assert region.message(commit) is None
