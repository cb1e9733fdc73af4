"""Devices obey what their region's chain has finally decided for the coming interval, once, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.fleet.fleet import Fleet
from actors.fleet.orders import DispatchOrder, Instruction, Reason
from actors.fleet.plan import FleetPlan, shards
from coordinator.ledger.codec import Writer
from coordinator.ledger.proofs import decode_event_proof
from coordinator.settlement.interval.region import DISPATCH_EVENT
from coordinator.settlement.interval.schedules import Scheduled, instructions
from coordinator.settlement.interval.topics import Interval
from protos.gridaccord.v1 import ledger_pb2 as pb
from tests.actors.fleet.support import Region, plan
from tests.coordinator.ledger.support import MILLION
from tests.coordinator.settlement.interval_chain import event_proof

POWERS = {"unit-1": 6 * MILLION, "load-1": -7_700_000, "battery": 1 * MILLION}


class Site:
    """A region with one fleet, and an order for its first interval."""

    def __init__(self, made: FleetPlan | None = None) -> None:
        self.plan = plan() if made is None else made
        self.region = Region(self.plan)
        self.fleet = Fleet.make(self.plan, self.region.chain.genesis)
        self.order = self.region.schedule([self.fleet], POWERS)

    def fresh(self) -> Fleet:
        return Fleet.make(self.plan, self.region.chain.genesis)


@pytest.fixture(scope="module")
def site() -> Site:
    return Site()


def energy_wh(fleet: Fleet, interval: Interval, resource: str) -> int:
    """What a resource's meters show, injection positive. The fleet is new."""
    batch = fleet.operate(interval)
    assert batch is not None
    energy = 0
    for column in (signed.column for signed in batch.columns):
        name, _, direction = column.device.partition(".")
        if name == resource:
            grown = column.registers_wh[-1] - column.registers_wh[-2]
            energy += grown if direction == "injected" else -grown
    return energy


def reasons(fleet: Fleet, order: DispatchOrder) -> set[Reason]:
    return {refusal.reason for refusal in fleet.instruct(order)}


def only(order: DispatchOrder, resource: str) -> Instruction:
    return next(row for row in order.instructions if row.resource == resource)


def test_what_is_ordered_is_done_and_metered(site: Site) -> None:
    for resource, power_w in POWERS.items():
        fleet = site.fresh()
        assert fleet.instruct(site.order) == []
        assert energy_wh(fleet, site.plan.intervals[0], resource) == power_w


def test_without_an_order_controlled_devices_go_to_what_is_fixed(site: Site) -> None:
    for resource, power_w in (("unit-1", 1_000_003), ("load-1", -8_000_001), ("load-2", -700_017), ("battery", 0)):
        assert energy_wh(site.fresh(), site.plan.intervals[0], resource) == power_w


def test_an_order_is_obeyed_once(site: Site) -> None:
    fleet = site.fresh()
    assert fleet.instruct(site.order) == []
    before = fleet.snapshot()
    assert reasons(fleet, site.order) == {Reason.REPLAYED}
    assert fleet.snapshot() == before
    fleet.operate(site.plan.intervals[0])
    assert reasons(fleet, site.order) == {Reason.REPLAYED}
    resumed = Fleet.restore(site.plan, site.region.chain.genesis, fleet.snapshot())
    assert reasons(resumed, site.order) == {Reason.REPLAYED}


def test_an_order_for_an_interval_that_is_over_has_expired(site: Site) -> None:
    fleet = site.fresh()
    fleet.operate(site.plan.intervals[0])
    assert reasons(fleet, site.order) == {Reason.EXPIRED}
    for interval in site.plan.intervals[1:]:
        fleet.operate(interval)
    assert reasons(fleet, site.order) == {Reason.EXPIRED}


def test_an_order_for_a_later_interval_waits_its_turn() -> None:
    site = Site()
    ahead = site.fresh()
    ahead.operate(site.plan.intervals[0])
    order = site.region.schedule([ahead], POWERS)
    behind = site.fresh()
    assert reasons(behind, order) == {Reason.EARLY}
    assert ahead.instruct(order) == []


def test_a_restored_fleet_does_what_it_was_told_before(site: Site) -> None:
    fleet = site.fresh()
    fleet.instruct(site.order)
    resumed = Fleet.restore(site.plan, site.region.chain.genesis, fleet.snapshot())
    assert resumed.operate(site.plan.intervals[0]) == fleet.operate(site.plan.intervals[0])
    assert resumed.stored_wh == fleet.stored_wh != site.fresh().stored_wh


def test_an_order_of_another_chain_is_refused(site: Site) -> None:
    other = Region(site.plan, "B")
    order = other.schedule([Fleet.make(site.plan, other.chain.genesis)], POWERS)
    assert order.instructions == site.order.instructions
    refused = site.fresh().instruct(order)
    assert {refusal.reason for refusal in refused} == {Reason.NOT_FINAL}
    assert len(refused) == len(order.instructions)
    assert "another chain" in refused[0].detail


def test_an_event_that_is_no_dispatch_orders_nothing(site: Site) -> None:
    statement = event_proof(site.region.chain, None)
    refused = site.fresh().instruct(replace(site.order, proof=statement))
    assert {refusal.reason for refusal in refused} == {Reason.NOT_FINAL}
    assert "is no dispatch" in refused[0].detail


def test_a_power_that_the_chain_did_not_decide_is_refused(site: Site) -> None:
    real = only(site.order, "battery")
    rows = [Scheduled("battery", 2 * MILLION, 0)]
    forged = replace(real, leaf=next(iter(instructions(site.plan.intervals[0], rows))))
    fleet = site.fresh()
    refused = fleet.instruct(replace(site.order, instructions=(forged, only(site.order, "unit-1"))))
    assert [(refusal.resource, refusal.reason) for refusal in refused] == [("battery", Reason.NOT_IN_ROOT)]
    assert energy_wh(fleet, site.plan.intervals[0], "battery") == 0, "the unit obeys, the battery rests"


def test_another_resource_s_instruction_is_refused(site: Site) -> None:
    taken = replace(only(site.order, "unit-1"), resource="battery")
    unknown = replace(only(site.order, "unit-1"), resource="unit-9")
    refused = site.fresh().instruct(replace(site.order, instructions=(taken, unknown)))
    assert [refusal.reason for refusal in refused] == [Reason.NOT_IN_ROOT, Reason.UNKNOWN]


def test_a_device_does_not_do_what_it_has_not_offered(site: Site) -> None:
    """The chain's validators were told of another offer, by whoever speaks for the owner."""
    smaller = replace(site.plan.batteries[0], discharge_w=MILLION // 2)
    fleet = Fleet.make(replace(site.plan, batteries=(smaller,)), site.region.chain.genesis)
    refused = fleet.instruct(site.order)
    assert [(refusal.resource, refusal.reason) for refusal in refused] == [("battery", Reason.BEYOND_OFFER)]


def test_shards_verify_and_do_their_part(site: Site) -> None:
    for part in shards(site.plan, 3):
        fleet = Fleet.make(part, site.region.chain.genesis)
        names = {entry.name for entry in part.entries}
        own = tuple(row for row in site.order.instructions if row.resource in names)
        assert fleet.instruct(replace(site.order, instructions=own)) == []
        batch = fleet.operate(site.plan.intervals[0])
        assert batch is not None
        assert len(batch.columns) == part.meters


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_an_order_with_any_byte_changed_is_refused(site: Site, data: st.DataObject) -> None:
    fleet, real = site.fresh(), only(site.order, "unit-1")

    def changed(value: bytes) -> bytes:
        place, bit = data.draw(st.integers(0, len(value) - 1)), data.draw(st.integers(0, 7))
        return value[:place] + bytes([value[place] ^ 1 << bit]) + value[place + 1 :]

    part = data.draw(st.sampled_from(("leaf", "path", "place", "certificate", "certified", "receipt")))
    if part == "leaf":
        order = replace(site.order, instructions=(replace(real, leaf=changed(real.leaf)),))
    elif part == "path":
        path = (changed(real.path[0]), *real.path[1:])
        order = replace(site.order, instructions=(replace(real, path=path),))
    elif part == "place":
        place = data.draw(st.integers(-1, 2**33).filter(lambda place: place != real.place))
        order = replace(site.order, instructions=(replace(real, place=place),))
    else:
        message = pb.EventProof.FromString(site.order.proof)
        setattr(message, part, changed(getattr(message, part)))
        order = replace(site.order, proof=message.SerializeToString(), instructions=(real,))
    before = fleet.snapshot()
    assert reasons(fleet, order) <= {Reason.NOT_FINAL, Reason.NOT_IN_ROOT}
    assert fleet.instruct(order)
    assert fleet.snapshot() == before


def test_a_root_for_another_interval_does_not_move_an_instruction(site: Site) -> None:
    """An event is bytes: what stands under its root must be about the event's own interval."""
    proof = decode_event_proof(site.order.proof)
    assert proof.receipts >= 1
    fields = Writer().raw(site.plan.intervals[1].encode()).text("unit-1").int64(6 * MILLION).int64(0).encoded
    moved = replace(only(site.order, "unit-1"), leaf=fields)
    assert reasons(site.fresh(), replace(site.order, instructions=(moved,))) == {Reason.NOT_IN_ROOT}
    assert DISPATCH_EVENT == "dispatch"


@given(st.data())
@settings(max_examples=8, deadline=None)
def test_state_of_charge_keeps_its_bounds_under_any_dispatch(data: st.DataObject) -> None:
    made = plan()
    region = Region(made)
    fleet = Fleet.make(made, region.chain.genesis)
    capacity = made.batteries[0].capacity_wh
    for interval in made.intervals[:4]:
        curve = dict(fleet.offers(interval).curves)["battery"]
        power_w = data.draw(st.sampled_from((curve.lowest_w, curve.highest_w)) | st.integers(-MILLION, MILLION))
        power_w = min(max(power_w, curve.lowest_w), curve.highest_w)
        assert fleet.instruct(region.schedule([fleet], {"battery": power_w})) == []
        fleet.operate(interval)
        assert 0 <= fleet.stored_wh["battery"] <= capacity
