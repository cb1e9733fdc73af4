"""Who pays whom, and why: transfers between regions by reason, the nettings that moved them, and bills by owner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from actors.results.hub_record import EndedInterval, HubRecord, Netting
from actors.results.region_record import RegionRecord
from actors.results.tables import Row
from coordinator.market.coupling.public import PublicNetwork
from coordinator.market.offers import MICRO
from coordinator.settlement.congestion_rent import InterregionalSettlement, settle
from coordinator.settlement.escrow.types import HUB, Outcome
from coordinator.settlement.interval.schedules import credit
from coordinator.settlement.interval.topics import Interval

INTERCONNECTION, NETTING, NEUTRAL, ROUNDING = "interconnection", "netting", "neutral", "rounding"
_OUTCOMES = {None: "open", Outcome.COMMIT: "commit", Outcome.ABORT: "abort"}


def settled(public: PublicNetwork, ended: EndedInterval) -> InterregionalSettlement | None:
    """The transfers that follow from what was agreed; None where nothing was."""
    if ended.agreement is None:
        return None
    return settle(public.without_ties(ended.ties_out), ended.agreement.outcome, ended.interval.duration_s)


def tie_rents(public: PublicNetwork, ended: EndedInterval) -> dict[str, int]:
    """Congestion rent by tie-line, in micro-units; empty where nothing was coupled."""
    found = settled(public, ended)
    return {} if found is None else found.tie_rent


def settlement_rows(public: PublicNetwork, hub: HubRecord, regions: Sequence[RegionRecord]) -> Iterator[Row]:
    """Rows of the table `settlements`, interval by interval."""
    for ended in hub.ended:
        found = settled(public, ended)
        if found is not None:
            yield from _transfer_rows(ended.interval, found)
        for exchange in hub.exchanges:
            if exchange.interval == ended.interval:
                for name, amount in zip(hub.parameters.regions, exchange.amounts, strict=True):
                    yield _row(ended.interval, "exchange", (name, name, INTERCONNECTION), amount)
        for netting in hub.nettings.values():
            if netting.interval == ended.interval:
                yield from _leg_rows(netting)
        for region in regions:
            yield from _owner_rows(ended.interval, region)


def _transfer_rows(interval: Interval, found: InterregionalSettlement) -> Iterator[Row]:
    for item in found.transfers:
        reasons = {
            "energy": item.energy,
            "loop_flow": item.loop_flow,
            "interface_share": item.interface_share,
            "links": item.links,
        }
        for reason, amount in reasons.items():
            yield _row(interval, reason, (item.region, item.region, INTERCONNECTION), amount)
    for owner, amount in found.link_receipts.items():
        yield _row(interval, "links", (owner, HUB, INTERCONNECTION), amount)
    yield _row(interval, "rounding", (ROUNDING, HUB, INTERCONNECTION), found.rounding)


def _leg_rows(netting: Netting) -> Iterator[Row]:
    for leg in netting.legs:
        account = leg.account.decode()
        party = leg.region if account == NEUTRAL else account
        where = (party, leg.region, NETTING)
        reason = f"{netting.purpose}_leg"
        yield _row(netting.interval, reason, where, leg.amount, str(netting.sid), _OUTCOMES[netting.outcome])


def _owner_rows(interval: Interval, region: RegionRecord) -> Iterator[Row]:
    """What each owner receives in all by the latest versions of the bills."""
    sums: dict[str, int] = {}
    for name, amount in credits(region, interval).items():
        owner = region.resources[name].owner
        sums[owner] = sums.get(owner, 0) + amount
    for owner, amount in sorted(sums.items()):
        yield _row(interval, "bills", (owner, region.name, NEUTRAL), amount)


def credits(region: RegionRecord, interval: Interval) -> dict[str, int]:
    """What each resource is credited by the latest version of its bill, in micro-units, computed from the ledger."""
    latest = {row.resource: row for bill in region.bills_of(interval) for row in bill.rows}
    if not latest:
        return {}
    spread, found = region.parameters.imbalance_spread, {}
    for plan in region.schedules[interval].schedule.rows:
        if plan.resource in latest:
            energy = latest[plan.resource].energy_wh
            found[plan.resource] = credit(plan.power_w, plan.price, energy, interval.duration_s, spread)
    return found


def _row(
    interval: Interval,
    reason: str,
    where: tuple[str, str, str],
    amount: int,
    settlement: str | None = None,
    outcome: str | None = None,
) -> Row:
    """`where` is the party, the region on whose chain it moves, and the counterparty."""
    return (interval.start_s * 1000, reason, *where, amount, amount / MICRO, settlement, outcome)
