"""A small fleet, and a region's chain in memory that orders it about."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from actors.fleet.fleet import Fleet
from actors.fleet.orders import DispatchOrder, make_order
from actors.fleet.plan import FleetPlan, PlannedBattery, PlannedResource
from coordinator.ledger.handlers import CORE
from coordinator.market.offers import Step as OfferStep
from coordinator.settlement.escrow.handlers import ESCROW_REGION
from coordinator.settlement.interval.confirmations import CONFIRM_REGION, proposal
from coordinator.settlement.interval.region import DISPATCH_EVENT, INTERVAL_REGION, OFFERS, RegionIntervals
from coordinator.settlement.interval.schedules import Curve, Schedule, Scheduled
from coordinator.settlement.interval.topics import Interval, Step, Topic
from tests.coordinator.ledger.support import MILLION, VALIDATORS
from tests.coordinator.settlement.interval_chain import CREDIT, IntervalChain, event_proof

HOURS = 6
BATTERY = PlannedBattery("battery", 4 * MILLION, 5 * MILLION, 12 * MILLION, 3 * MILLION)
PRICES = tuple(price * MILLION for price in (20, 35, 10, 50, 40, 30))


def plan(duration_s: int = 3600, households: int = 40, **changes: object) -> FleetPlan:
    """A unit, households behind a load that gives up some of its demand, another load, and a battery."""
    intervals = tuple(Interval(duration_s * (n + 1), duration_s) for n in range(HOURS))
    unit = Curve(1_000_003, (OfferStep(5 * MILLION, 30 * MILLION), OfferStep(5 * MILLION, 50 * MILLION)))
    load = Curve(-8_000_001, (OfferStep(400_000, 60 * MILLION),))
    resources = (
        PlannedResource("unit-1", (unit,) * HOURS, True),
        PlannedResource("load-1", (load,) * HOURS, False, households),
        PlannedResource("load-2", (Curve(-700_017, ()),) * HOURS, False, 3),
    )
    made = FleetPlan("A", "alice", 7, intervals, resources, (BATTERY,), PRICES)
    return replace(made, **changes)  # type: ignore[arg-type]


class Region:
    """A region's chain with the resources of a plan, all of them alice's."""

    def __init__(self, made: FleetPlan, name: str = "A") -> None:
        escrow = {"region": name, "hub_chain_id": "11" * 32, "hub_epoch_length": 10, "hub_validators": ["22" * 32]}
        resources = [{"name": entry.name, "bus": "1", "owner": "alice"} for entry in made.entries]
        section: dict[str, object] = {
            "asset": "EUR",
            "topology": "00" * 32,
            "stepper": "carol",
            "opens_s": made.intervals[0].start_s,
            "duration_s": made.duration_s,
            "gate_closure_s": 0,
            "horizon": HOURS,
            "imbalance_spread": 0,
            "resources": resources,
        }
        sections = {"escrow_region": {**escrow, "limits": {"EUR": CREDIT}}, "interval_region": section}
        modules = (CORE, ESCROW_REGION, INTERVAL_REGION)
        self.chain = IntervalChain(real=True, modules=modules, name=name, sections=sections)

    def schedule(self, fleets: list[Fleet], powers_w: dict[str, int], price: int = 0) -> DispatchOrder:
        """All offer for the coming interval and get these powers, or what is fixed; the order to all of them."""
        interval = fleets[0].coming
        assert interval is not None
        for fleet in fleets:
            assert self.chain.block((OFFERS, fleet.offers(interval).encode()), signer="alice") == [""]
        self._state(Topic(interval, Step.GATE), b"")
        offered = RegionIntervals.of(self.chain.state.view).offers(interval)
        rows = [Scheduled(name, powers_w.get(name, curve.fixed_w), price) for name, curve in offered.items()]
        self._state(Topic(interval, Step.SCHEDULE, 0, 1), Schedule(0, tuple(rows)).encode())
        proof = event_proof(self.chain, None, DISPATCH_EVENT)
        return make_order(proof, (), interval, rows, offered)

    def _state(self, topic: Topic, message: bytes) -> None:
        for validator in VALIDATORS[:3]:
            content = proposal(topic, message).encode()
            assert self.chain.block((CONFIRM_REGION, content), signer=validator) == [""]


@cache
def genesis_chain() -> IntervalChain:
    """A chain whose genesis fleets can trust that no order comes to."""
    return Region(plan()).chain


def new_fleet(made: FleetPlan) -> Fleet:
    """A fleet that nobody instructs."""
    return Fleet.make(made, genesis_chain().genesis)
