"""Registers and readings: sums are exact, nothing depends on shards or on who hosts them, lies are refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.fleet.devices import device_keys
from actors.fleet.fleet import Fleet
from actors.fleet.plan import FleetError, FleetPlan, Late, Lie, Lying, PlannedResource, shards
from coordinator.consensus.signing import Ed25519Scheme
from coordinator.ledger.envelope import Holder, KeyClaim, possesses
from coordinator.ledger.errors import ReadingsRefused
from coordinator.ledger.readings import (
    MeterBatch,
    PendingReadings,
    Reading,
    ReadingRules,
    SignedColumn,
    check_columns,
    decode_batch,
)
from coordinator.settlement.interval.schedules import Curve
from coordinator.settlement.interval.topics import Interval
from tests.actors.fleet.support import HOURS, genesis_chain, new_fleet, plan

SCHEME = Ed25519Scheme()
LIES = (Lie.REPEATED, Lie.SENTINEL, Lie.BACKWARDS, Lie.FORGED)


class Nothing:
    """No readings are known."""

    def before(self, device: str, start_s: int) -> Reading | None:
        return None

    def between(self, device: str, start_s: int, end_s: int) -> list[Reading]:
        return []

    def after(self, device: str, start_s: int) -> Reading | None:
        return None


class Book:
    """Takes in columns as validators do, one by one, and remembers what it took."""

    def __init__(self, made: FleetPlan) -> None:
        self.keys = dict(device_keys(made))
        self.known = PendingReadings(Nothing())
        self.refused: dict[str, list[str]] = {}

    def take(self, batch: MeterBatch | None) -> None:
        for column in batch.columns if batch else ():
            self._take(MeterBatch(bytes(16), (column,)))

    def _take(self, batch: MeterBatch) -> None:
        device, end_s = batch.columns[0].column.device, batch.columns[0].column.end_s
        now, chain_id = max(end_s, 0), genesis_chain().chain_id
        try:
            check_columns(
                batch, self.known, self.keys.get, rules=ReadingRules(), now_s=now, chain_id=chain_id, scheme=SCHEME
            )
        except ReadingsRefused as error:
            self.refused.setdefault(device, []).append(str(error))

    def energy_wh(self, device: str, interval: Interval) -> int | None:
        before = self.known.before(device, interval.start_s)
        inside = self.known.between(device, interval.start_s, interval.end_s)
        if before is None or before.end_s != interval.start_s or not inside:
            return None
        return inside[-1].register_wh - before.register_wh


def run(made: FleetPlan) -> list[MeterBatch | None]:
    fleet = new_fleet(made)
    return [fleet.operate(interval) for interval in made.intervals]


def columns(batches: Iterable[MeterBatch | None]) -> list[SignedColumn]:
    found = [column for batch in batches if batch for column in batch.columns]
    return sorted(found, key=lambda signed: (signed.column.device, signed.column.start_s))


@given(st.integers(1, 200), st.sampled_from((300, 900, 1000, 3600)), st.lists(st.integers(0, 10**12), min_size=HOURS))
@settings(max_examples=30, deadline=None)
def test_households_share_a_bus_s_demand_to_the_watt_hour(
    households: int, duration_s: int, demand_w: list[int]
) -> None:
    curves = tuple(Curve(-power_w, ()) for power_w in demand_w[:HOURS])
    load = PlannedResource("load", curves, False, households)
    made = plan(duration_s, resources=(load,), batteries=())
    book, total_ws, metered_wh = Book(made), 0, 0
    for batch, interval, power_w in zip(run(made), made.intervals, demand_w, strict=False):
        assert batch is not None
        book.take(batch)
        total_ws += power_w * duration_s
        energies = [book.energy_wh(device, interval) for device in book.keys]
        assert all(energy is not None and energy >= 0 for energy in energies)
        metered_wh += sum(energy or 0 for energy in energies)
        assert metered_wh == total_ws // 3600, "what is missing is less than a watt-hour, and carried"
    assert not book.refused


def test_registers_and_columns_are_what_validators_take() -> None:
    made = plan()
    book, batches = Book(made), run(made)
    for batch in batches:
        assert batch is not None
        assert decode_batch(batch.encode()) == batch
        book.take(batch)
    assert not book.refused
    assert book.energy_wh("unit-1.injected", made.intervals[2]) == 1_000_003
    assert book.energy_wh("battery.injected", made.intervals[2]) == 0
    loads = [name for name in book.keys if name.startswith("load-1.withdrawn.")]
    energies = [book.energy_wh(name, made.intervals[2]) or 0 for name in loads]
    assert sum(energies) == 8_000_001
    assert max(energies) <= 4 * min(energies)


def test_registrations_prove_that_devices_have_their_keys() -> None:
    made, chain_id = plan(), genesis_chain().chain_id
    found = new_fleet(made).registrations()
    assert [(one.device, one.public_key) for one in found] == device_keys(made)
    for one in found:
        claim = KeyClaim(Holder.DEVICE, one.device, "alice", "alice")
        assert possesses(one.public_key, chain_id, claim, one.possession, SCHEME)
    assert len({one.public_key for one in found}) == made.meters


@given(st.integers(1, 9), st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from((900, 3600)))
@settings(max_examples=20, deadline=None)
def test_nothing_depends_on_the_number_of_shards(count: int, lying: int, late: int, duration_s: int) -> None:
    made = plan(duration_s, lying=(Lying(lying, (*LIES, Lie.SLOW)),), late=(Late(late),))
    parts = shards(made, count)
    assert sum(part.meters for part in parts) == made.meters
    assert sorted(key for part in parts for key in device_keys(part)) == sorted(device_keys(made))
    fleets = [new_fleet(part) for part in parts]
    offers = [curve for fleet in fleets for curve in fleet.offers(made.intervals[0]).curves]
    assert sorted(offers) == list(new_fleet(made).offers(made.intervals[0]).curves)
    assert columns(batch for part in parts for batch in run(part)) == columns(run(made))


def test_shards_have_about_as_many_meters_each() -> None:
    resources = tuple(PlannedResource(f"load-{n}", (Curve(-9, ()),) * HOURS, False, 3) for n in range(12))
    assert [part.meters for part in shards(plan(resources=resources, batteries=()), 4)] == [9, 9, 9, 9]
    assert len(shards(plan(), 99)) == 4
    with pytest.raises(FleetError, match="0 shards"):
        shards(plan(), 0)


def test_another_seed_has_other_keys_and_registers() -> None:
    made, other = plan(), plan(seed=8)
    assert not {key for _, key in device_keys(made)} & {key for _, key in device_keys(other)}
    assert columns(run(made)) == columns(run(made))
    assert columns(run(made)) != columns(run(other))


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused_and_the_others_count(lie: Lie) -> None:
    made = plan(lying=(Lying(200_000, (lie,), from_s=3 * 3600),))
    book = Book(made)
    for batch in run(made):
        book.take(batch)
    liars = set(book.refused)
    assert 1 <= len(liars) <= 20
    assert all("load" in name for name in liars), "households lie"
    honest = [name for name in book.keys if name not in liars]
    assert all(book.energy_wh(name, interval) is not None for name in honest for interval in made.intervals)
    assert all(book.energy_wh(name, made.intervals[4]) is None for name in liars)
    assert all(book.energy_wh(name, made.intervals[1]) is not None for name in liars), "they lie from then on"


def test_a_slow_meter_shows_half_and_nothing_refuses_it() -> None:
    made = plan(lying=(Lying(10**6, (Lie.SLOW,)),))
    book, honest = Book(made), Book(plan())
    for batch, other in zip(run(made), run(plan()), strict=True):
        book.take(batch)
        honest.take(other)
    assert not book.refused
    for name in book.keys:
        full = honest.energy_wh(name, made.intervals[1]) or 0
        assert book.energy_wh(name, made.intervals[1]) == (full // 2 if name.startswith("load") else full)


def test_what_is_late_is_not_lost() -> None:
    made = plan(late=(Late(10**6, 2 * 3600, 5 * 3600), Late(300_000, 5 * 3600)))
    batches, book = run(made), Book(made)
    sizes = [batch.size if batch else 0 for batch in batches]
    single = [name for name in book.keys if not name.startswith("load")]
    assert sizes[1] == sizes[2] == sizes[3] == len(single), "households hold back, units and batteries do not"
    assert sizes[4] < sizes[0] * 2
    for batch in batches:
        book.take(batch)
    assert not book.refused
    truth = {column.device: column for column in (signed.column for signed in columns(run(plan())))}
    for name, last in truth.items():
        reading = book.known.before(name, made.intervals[-1].end_s)
        assert reading is not None
        assert (reading.end_s, reading.register_wh) == (last.end_s, last.registers_wh[-1])
        assert all(book.energy_wh(name, interval) is not None for interval in made.intervals)


def test_a_batch_of_nothing_but_late_readings_is_none() -> None:
    made = plan(resources=plan().resources[1:], batteries=(), late=(Late(10**6),))
    batches = run(made)
    assert batches[:-1] == [None] * (HOURS - 1)
    assert batches[-1] is not None
    assert batches[-1].size == made.meters * (HOURS + 1)


@given(st.integers(0, HOURS), st.integers(0, 10**6), st.sampled_from((900, 3600)))
@settings(max_examples=15, deadline=None)
def test_a_restored_fleet_goes_on_as_if_nothing_had_happened(done: int, late: int, duration_s: int) -> None:
    made = plan(duration_s, late=(Late(late),), lying=(Lying(300_000, (*LIES, Lie.SLOW)),))
    fleet = new_fleet(made)
    for interval in made.intervals[:done]:
        fleet.operate(interval)
    other = Fleet.restore(made, genesis_chain().genesis, fleet.snapshot())
    assert other.snapshot() == fleet.snapshot()
    for interval in made.intervals[done:]:
        assert other.offers(interval) == fleet.offers(interval)
        assert other.operate(interval) == fleet.operate(interval)


def test_a_snapshot_is_of_one_plan() -> None:
    made = plan()
    data = new_fleet(made).snapshot()
    with pytest.raises(FleetError, match="another plan"):
        Fleet.restore(plan(seed=8), genesis_chain().genesis, data)
    with pytest.raises(FleetError, match="cannot be read"):
        Fleet.restore(made, genesis_chain().genesis, data[:-40])
    secret = [made.draw("key", name, 32) for name, _ in device_keys(made)]
    assert not any(key in data for key in secret)


def test_a_fleet_has_no_more_devices_than_a_batch_has_columns() -> None:
    made = plan(households=2**16)
    with pytest.raises(FleetError, match="cut the plan into shards"):
        new_fleet(made)


def test_plans_that_cannot_be_are_refused_by_name() -> None:
    made = plan()
    with pytest.raises(FleetError, match="without gaps"):
        replace(made, intervals=(*made.intervals[:-1], Interval(10**6 * 3600, 3600)))
    with pytest.raises(FleetError, match="unit-1: 6 curves for 5"):
        replace(made, intervals=made.intervals[:-1], forecast_micro_per_mwh=(0,) * 5)
    with pytest.raises(FleetError, match="given twice"):
        replace(made, resources=made.resources * 2)
    with pytest.raises(FleetError, match="forecast"):
        replace(made, forecast_micro_per_mwh=())
    with pytest.raises(FleetError, match="in order"):
        new_fleet(made).operate(made.intervals[1])
