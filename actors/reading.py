"""Reads the outcome of a coupling back into the terms of its case: integers into MW and money, positions into ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from actors.cases import MarketInterval
from actors.coupled import BranchFlow, BusPrice, IntervalResult, LinkFlow, NamedPower, RegionResult, UnitDispatch
from coordinator.market.clearing import Clearing
from coordinator.market.coupling.session import Outcome, assembled
from coordinator.market.fixed_point import PRICE_BITS, from_fixed, multiply
from coordinator.market.offers import MICRO, MarketRules, Offer, OfferBook, TabulatedBook, sheddable_w
from topology.arrays import FloatArray, IntArray
from topology.dc import UNLIMITED_W, W_PER_MW
from topology.regions import RegionCut

SMALLEST_SHADOW_PRICE = 1e-6
"""A limit counts as binding from a micro-unit per MWh on, the smallest money there is."""


@dataclass(frozen=True)
class CoupledInterval:
    """All that belongs to a coupled interval; `tables` has one a region."""

    cut: RegionCut
    rules: MarketRules
    interval: MarketInterval
    offers: Sequence[Offer]
    book: OfferBook
    tables: Sequence[TabulatedBook]
    outcome: Outcome


def read_outcome(coupled: CoupledInterval) -> IntervalResult:
    """The result of an interval; see the module."""
    outcome, cut = coupled.outcome, coupled.cut
    steps, clearing = assembled(cut, outcome, [table.steps for table in coupled.tables])
    price = from_fixed(clearing.price, PRICE_BITS) / MICRO
    flow_w = _flow_w(cut, clearing)
    flows = _branch_flows(cut, clearing, flow_w)
    shed_w = {bus: power for part in outcome.certificates for bus, power in part.shed_w.items()}
    curtailed_w = {bus: power for part in outcome.certificates for bus, power in part.curtailed_w.items()}
    dispatch = _dispatch(coupled, curtailed_w, shed_w)
    return IntervalResult(
        interval=coupled.interval,
        objective=outcome.agreement.objective_micro_per_h / MICRO,
        gap=outcome.agreement.gap_micro_per_h / MICRO,
        rounds=outcome.rounds,
        bytes_by_sender=dict(outcome.traffic.by_sender),
        seconds=outcome.seconds,
        gate_closure_seconds=outcome.gate_closure_seconds,
        disclosed_share=outcome.disclosed_share,
        flowgates=outcome.active_flowgates,
        regions=_regions(coupled, price, steps.injection_w(clearing.accepted_w)),
        prices=_prices(cut, price),
        congested=tuple(flow for flow in flows if flow.shadow_price >= SMALLEST_SHADOW_PRICE),
        ties=tuple(flows[tie] for tie in cut.tie_branches.tolist()),
        links=_link_flows(cut, outcome.public.link_w),
        dispatch=dispatch,
        shed=tuple(NamedPower(f"bus {bus}", power / W_PER_MW) for bus, power in shed_w.items()),
        curtailed=_curtailed(coupled, dispatch, curtailed_w),
        violations=_violations(coupled, flows, flow_w),
    )


def _prices(cut: RegionCut, price: FloatArray) -> tuple[BusPrice, ...]:
    network, names = cut.network, cut.interconnection.region_names
    region_of = np.zeros(network.bus_count, dtype=np.int64)
    for region in cut.regions:
        region_of[region.buses] = region.index
    _, references = np.unique(network.components, return_index=True)
    energy = price[references][network.components]
    columns = (network.bus_ids, region_of.tolist(), price.tolist(), energy.tolist())
    return tuple(
        BusPrice(bus, names[region], lmp, base, lmp - base) for bus, region, lmp, base in zip(*columns, strict=True)
    )


def _regions(coupled: CoupledInterval, price: FloatArray, injection_w: IntArray) -> tuple[RegionResult, ...]:
    """Supply is what is injected at the region's buses, links apart, and demand what is withdrawn."""
    results = []
    for region, certificate in zip(coupled.cut.regions, coupled.outcome.certificates, strict=True):
        lmp, net_w = price[region.buses], int(injection_w[region.buses].sum())
        demand_w = int(coupled.book.withdrawal_w[region.buses].sum()) - sum(certificate.shed_w.values())
        results.append(
            RegionResult(
                name=region.name,
                buses=len(region.buses),
                bytes_sent=coupled.outcome.traffic.by_sender[region.name],
                lmp_min=float(lmp.min()),
                lmp_mean=float(lmp.mean()),
                lmp_max=float(lmp.max()),
                supply_mw=(net_w + demand_w) / W_PER_MW,
                demand_mw=demand_w / W_PER_MW,
                net_position_mw=net_w / W_PER_MW,
            )
        )
    return tuple(results)


def _flow_w(cut: RegionCut, clearing: Clearing) -> IntArray:
    network = cut.network
    drop = clearing.angle[network.from_bus] - clearing.angle[network.to_bus]
    return multiply(network.susceptance_w_per_rad, drop).rounded() + network.shift_flow_w


def _branch_flows(cut: RegionCut, clearing: Clearing, flow_w: IntArray) -> list[BranchFlow]:
    network, ties = cut.network, set(cut.tie_branches.tolist())
    shadow_price = from_fixed(clearing.shadow_price, PRICE_BITS) / MICRO
    # The limit that binds, or else the one in the direction of the flow.
    at_lower = np.where(shadow_price != 0, shadow_price > 0, flow_w < 0)
    limit_w = np.where(at_lower, network.flow_min_w, network.flow_max_w)
    return [
        BranchFlow(
            id=network.branch_ids[branch],
            from_bus=network.bus_ids[network.from_bus[branch]],
            to_bus=network.bus_ids[network.to_bus[branch]],
            tie=branch in ties,
            flow_mw=int(flow_w[branch]) / W_PER_MW,
            limit_mw=None if abs(limit_w[branch]) >= UNLIMITED_W else int(limit_w[branch]) / W_PER_MW,
            shadow_price=abs(float(shadow_price[branch])),
        )
        for branch in range(network.branch_count)
    ]


def _link_flows(cut: RegionCut, link_w: IntArray) -> tuple[LinkFlow, ...]:
    network = cut.network
    columns = (network.link_ids, network.link_from.tolist(), network.link_to.tolist(), link_w.tolist())
    return tuple(
        LinkFlow(name, network.bus_ids[head], network.bus_ids[tail], power / W_PER_MW)
        for name, head, tail, power in zip(*columns, strict=True)
    )


def _violations(coupled: CoupledInterval, flows: Sequence[BranchFlow], flow_w: IntArray) -> tuple[NamedPower, ...]:
    """Limits that nothing could keep: taken from the flows themselves, so that none can be left out."""
    network = coupled.cut.network
    excess_w = np.maximum(flow_w - network.flow_max_w, network.flow_min_w - flow_w)
    violated = np.flatnonzero(excess_w > coupled.rules.tolerance_w).tolist()
    return tuple(NamedPower(flows[branch].name, int(excess_w[branch]) / W_PER_MW) for branch in violated)


def _dispatch(
    coupled: CoupledInterval, curtailed_w: Mapping[str, int], shed_w: Mapping[str, int]
) -> tuple[UnitDispatch, ...]:
    """What every unit does; what is curtailed or shed at a bus is shared by all that is fixed there."""
    position = coupled.cut.network.bus_ids.index
    curtailed = {bus: power / int(coupled.book.injection_w[position(bus)]) for bus, power in curtailed_w.items()}
    shed = {bus: power / int(coupled.book.sheddable_w[position(bus)]) for bus, power in shed_w.items()}
    taken_w, free_w = _accepted_by_offer(coupled)
    width_w = np.zeros(len(coupled.offers), dtype=np.int64)
    np.add.at(width_w, coupled.book.offer, coupled.book.width_w)
    dispatch = []
    for offer, taken, free, width in zip(
        coupled.offers, taken_w.tolist(), free_w.tolist(), width_w.tolist(), strict=True
    ):
        if offer.fixed_w > 0:
            missing = curtailed.get(offer.bus, 0.0) * offer.fixed_w
        else:
            missing = -shed.get(offer.bus, 0.0) * sheddable_w(offer.fixed_w, offer.steps)
        unused = free if offer.id in coupled.interval.available_mw else 0
        dispatch.append(
            UnitDispatch(
                unit=offer.id,
                bus=offer.bus,
                mw=(offer.fixed_w - missing + taken) / W_PER_MW,
                offered_mw=(offer.fixed_w + width) / W_PER_MW,
                curtailed_mw=(max(0.0, missing) + unused) / W_PER_MW,
            )
        )
    return tuple(dispatch)


def _accepted_by_offer(coupled: CoupledInterval) -> tuple[IntArray, IntArray]:
    """Per offer, in W: what was accepted of its steps, and what was not of those that ask for no money."""
    taken_w, free_w = np.zeros((2, len(coupled.offers)), dtype=np.int64)
    for table, clearing in zip(coupled.tables, coupled.outcome.clearings, strict=True):
        accepted = table.accepted_by_row(clearing.accepted_w)
        np.add.at(taken_w, table.book.offer, accepted)
        free = table.book.price_micro_per_mwh <= 0
        np.add.at(free_w, table.book.offer[free], (table.book.width_w - accepted)[free])
    return taken_w, free_w


def _curtailed(
    coupled: CoupledInterval, dispatch: Sequence[UnitDispatch], curtailed_w: Mapping[str, int]
) -> tuple[NamedPower, ...]:
    """By unit, and by bus what was fixed to inject there without a unit: negative demand."""
    units = [
        NamedPower(f"unit {unit.unit} at bus {unit.bus}", unit.curtailed_mw) for unit in dispatch if unit.curtailed_mw
    ]
    of_demand = []
    for bus, power_w in curtailed_w.items():
        fixed_w = int(coupled.book.injection_w[coupled.cut.network.bus_ids.index(bus)])
        of_units_w = sum(offer.fixed_w for offer in coupled.offers if offer.bus == bus and offer.fixed_w > 0)
        if fixed_w > of_units_w:
            of_demand.append(
                NamedPower(f"negative demand at bus {bus}", power_w * (1 - of_units_w / fixed_w) / W_PER_MW)
            )
    return (*units, *of_demand)
