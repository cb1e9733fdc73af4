"""Which bill is due: when, with which rows, and what it costs to find out while nothing changes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from coordinator.ledger.readings import MeterBatch
from coordinator.ledger.registry import add_device
from coordinator.service.billing import Bill, Billing
from coordinator.settlement.interval.region import RegionIntervals
from coordinator.settlement.interval.schedules import Metered
from coordinator.settlement.interval.topics import Step, Topic
from tests.coordinator.ledger.support import MILLION
from tests.coordinator.settlement.interval_chain import IntervalChain
from tests.coordinator.settlement.test_interval_region import FIRST, SECOND, bill, scheduled_region, state

MW = MILLION
"""An hour's schedule in W is its energy in Wh."""


@dataclass
class Household:
    """A region with a scheduled load and unit, meters that show what they are told to, and its billing."""

    chain: IntervalChain = field(default_factory=scheduled_region)
    energy_wh: dict[str, int] = field(default_factory=dict)
    asked: int = 0

    def __post_init__(self) -> None:
        self.billing = Billing(self.registers_wh)

    def registers_wh(self, devices: Sequence[str], at_s: int) -> Mapping[str, int]:
        self.asked += 1
        return {name: self.energy_wh[name] * (at_s - FIRST.start_s) for name in devices if name in self.energy_wh}

    def register(self, owner: str, *names: str) -> None:
        view = self.chain.state.view
        for name in names:
            add_device(view, name, owner, owner, hashlib.sha256(name.encode()).digest())
        self.chain.state = replace(self.chain.state, tree=view.tree)

    def read(self, **energy_wh: int) -> None:
        """Readings of points of the load, in a block."""
        self.energy_wh |= {f"load.withdrawn.{point}": energy // FIRST.duration_s for point, energy in energy_wh.items()}
        final = self.chain.make()
        self.billing.on_block(replace(final, batches={0: MeterBatch(bytes(16), ())}))

    def due(self) -> Bill | None:
        return self.billing.due(self.chain.state.view)


def metered_household(*points: str) -> Household:
    household = Household()
    household.register("bob", *(f"load.withdrawn.{point}" for point in points))
    return household


def test_without_meters_the_schedule_is_billed_at_once() -> None:
    rows = (Metered("load", -8 * MW, substituted=True), Metered("unit", 8 * MW, substituted=True))
    assert Household().due() == Bill(FIRST, 1, rows)


def test_a_bill_waits_for_the_last_meter_until_the_next_gate_is_closed() -> None:
    household = metered_household("h1", "h2")
    household.read(h1=3 * 3600)
    assert household.due() is None
    state(household.chain, Topic(SECOND, Step.GATE), b"")
    found = household.due()
    assert found is not None
    assert found.rows[0] == Metered("load", -3 * 3600 - 4 * MW, substituted=True)


def test_late_meters_correct_the_bill_one_version_after_the_other() -> None:
    household = metered_household("h1", "h2", "h3")
    household.read(h1=3600)
    state(household.chain, Topic(SECOND, Step.GATE), b"")
    first = household.due()
    assert first is not None
    assert bill(household.chain, 1, *first.rows) == ""
    assert household.due() is None
    household.read(h2=7200)
    half = household.due()
    assert half is not None
    assert (half.version, [row.substituted for row in half.rows]) == (2, [True])
    assert bill(household.chain, 2, *half.rows) == ""
    household.read(h3=36000)
    assert household.due() == Bill(FIRST, 3, (Metered("load", -3600 - 7200 - 36000),))
    assert bill(household.chain, 3, Metered("load", -3600 - 7200 - 36000)) == ""
    household.read(h1=360000)
    assert household.due() is None, "what all meters have said stands"


def test_nothing_is_read_again_while_devices_readings_and_schedules_are_the_same() -> None:
    household = metered_household("h1", "h2")
    household.due()
    asked = household.asked
    for _ in range(50):
        household.billing.on_block(household.chain.make())
        household.due()
    assert household.asked == asked
    household.read(h1=3600)
    household.due()
    assert household.asked == asked + 2, "once for each end of the interval"
    household.register("bob", "load.withdrawn.h3")
    household.due()
    assert household.asked == asked + 4


def test_readings_that_nobody_waits_for_are_not_looked_at() -> None:
    household = Household()
    rows = household.due()
    assert rows is not None
    assert bill(household.chain, 1, *rows.rows) == ""
    household.read(h1=3600)
    assert household.due() is None
    assert household.asked == 2, "for the first bill alone"
    assert RegionIntervals.of(household.chain.state.view).positions(FIRST)


def test_tie_lines_are_stated_once_all_their_meters_speak_or_when_it_is_urgent() -> None:
    ties = [{"name": name, "owner": "bob"} for name in ("tie-1", "tie-2", "tie-3")]
    household = Household(scheduled_region(ties=ties))
    household.due()
    assert household.billing.recent == (FIRST,)
    assert household.billing.tie_rows(FIRST, is_urgent=True) is None, "there are no meters"
    household.register("bob", "tie-1.injected", "tie-1.withdrawn", "tie-2.injected")
    household.register("alice", "tie-3.injected")
    household.due()
    assert household.billing.tie_rows(FIRST, is_urgent=True) is None, "they are silent"
    household.energy_wh = {"tie-1.injected": 1, "tie-1.withdrawn": 3}
    household.read()
    household.due()
    assert household.billing.tie_rows(FIRST, is_urgent=False) is None
    assert household.billing.tie_rows(FIRST, is_urgent=True) == (Metered("tie-1", -7200),)
    household.energy_wh["tie-2.injected"] = 5
    household.read()
    household.due()
    rows = (Metered("tie-1", -7200), Metered("tie-2", 18_000))
    assert household.billing.tie_rows(FIRST, is_urgent=False) == rows
