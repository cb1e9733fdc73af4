"""Is everything paid for, and does it sum to zero? Recomputed from schedules, readings and agreements on the chains."""

from __future__ import annotations

from sqlite3 import Connection

from actors.results.collect import RunRecord
from actors.results.hub_record import Agreement, EndedInterval, Exchange, Netting, Purpose
from actors.results.region_record import Bill, RegionRecord
from actors.results.run_folder import ChainFile
from actors.results.settlement_rows import settled
from actors.results.verdict import Check
from coordinator.ledger.accounts import balance
from coordinator.ledger.reading_store import StoredReadings
from coordinator.ledger.records import ESCROW, Escrow
from coordinator.ledger.view import View
from coordinator.service.metering import devices, metered, meters
from coordinator.settlement.escrow.types import NEUTRAL, Leg, Outcome
from coordinator.settlement.interval.exchange import Exchange as TieExchange
from coordinator.settlement.interval.exchange import amounts_due
from coordinator.settlement.interval.region import RegionIntervals
from coordinator.settlement.interval.schedules import credit
from coordinator.settlement.interval.topics import Interval

_MICRO, _WH = "micro-units", "Wh"


class MoneyChecks:
    """The checks of one run; `run` goes through its regions and intervals."""

    def __init__(self, record: RunRecord) -> None:
        self._record = record
        self.bills = Check("bills", 0.0, _MICRO)
        self.paid = Check("bills_paid", 0.0, _MICRO)
        self.metered = Check("metered_energy", 0.0, _WH)
        self.transfers = Check("transfers", 0.0, _MICRO)
        self.exchange = Check("metered_exchange", 0.0, _MICRO)
        self.zero_sum = Check("zero_sum", 0.0, _MICRO)
        self.neutral = Check("neutral_accounts", 0.0, _MICRO)

    @property
    def checks(self) -> tuple[Check, ...]:
        """All of them."""
        return self.bills, self.paid, self.metered, self.transfers, self.exchange, self.zero_sum, self.neutral

    def run(self) -> None:
        """Everything that the ledgers hold."""
        for ended in self._record.hub.ended:
            self._transfers(ended)
        for exchange in self._record.hub.exchanges:
            self._exchange(exchange)
        for netting in self._record.hub.nettings.values():
            self._legs(netting)
        for chain, region in zip(self._record.folder.regions, self._record.regions, strict=True):
            self._region(chain, region)

    # Between regions.

    def _transfers(self, ended: EndedInterval) -> None:
        found, agreement = settled(self._record.folder.public, ended), ended.agreement
        if found is None or agreement is None:
            return
        self.zero_sum.deviation(abs(found.total), ended.interval, "", "transfers of an agreement")
        for own, agreed in zip(found.transfers, agreement.agreed.regions, strict=True):
            self.transfers.deviation(abs(own.total - agreed.amount), ended.interval, own.region, "transfer")
        for owner, amount in found.link_receipts.items():
            agreed_amount = sum(item.amount for item in agreement.agreed.owners if item.name == owner)
            self.transfers.deviation(abs(amount - agreed_amount), ended.interval, "", f"links of {owner}")

    def _legs(self, netting: Netting) -> None:
        total = sum(leg.amount for leg in netting.legs)
        self.zero_sum.deviation(abs(total), netting.interval, "", f"legs of settlement {netting.sid}")
        due = self._due(netting)
        for leg in netting.legs:
            if due is not None and leg.account == NEUTRAL:
                miss = abs(leg.amount - due[leg.region])
                self.transfers.deviation(miss, netting.interval, leg.region, f"leg of {netting.sid}")

    def _due(self, netting: Netting) -> dict[str, int] | None:
        """What each region is to receive by a netting; None for one that only pays what stood on collateral."""
        hub = self._record.hub
        if netting.purpose is Purpose.COUPLING:
            agreement = self._agreement(netting.interval)
            return None if agreement is None else {item.name: item.amount for item in agreement.agreed.regions}
        if netting.purpose is Purpose.EXCHANGE:
            found = next(one for one in hub.exchanges if one.interval == netting.interval)
            return dict(zip(hub.parameters.regions, found.amounts, strict=True))
        return None

    def _agreement(self, interval: Interval) -> Agreement | None:
        return next((ended.agreement for ended in self._record.hub.ended if ended.interval == interval), None)

    def _exchange(self, found: Exchange) -> None:
        """That what regions receive for metered exchange follows from their meters, schedules and the rules."""
        hub, agreement = self._record.hub, self._agreement(found.interval)
        regions, interval = hub.parameters.regions, found.interval
        assert hub.tie_rules is not None, "an exchange follows rules"
        assert agreement is not None, "an exchange follows an agreement"
        left_out = {regions[number] for number in found.left_out}
        stated = hub.tie_meters.get(interval, {})
        schedule = TieExchange(interval, agreement.agreed.ties)
        due = amounts_due(hub.tie_rules, schedule, stated, regions, left_out)
        for name, own, amount in zip(regions, due, found.amounts, strict=True):
            self.exchange.deviation(abs(own - amount), interval, name, "metered exchange")
        self.zero_sum.deviation(abs(sum(found.amounts)), interval, "", "metered exchange")

    # Within a region.

    def _region(self, chain: ChainFile, region: RegionRecord) -> None:
        view = region.view
        books = RegionIntervals.of(view)
        credited: dict[tuple[Interval, str], int] = {}
        for bill in region.bills:
            self._bill(region, bill, credited)
        for interval in region.schedules:
            for name, position in books.positions(interval).items():
                own = credited.get((interval, name), 0)
                self.bills.deviation(abs(position.credited - own), interval, region.name, name)
        self._metered(chain, view, region)
        self._neutral(view, region)

    def _bill(self, region: RegionRecord, bill: Bill, credited: dict[tuple[Interval, str], int]) -> None:
        """That what a bill moved is the difference of what schedules, prices and energy make it to the one before."""
        interval, moved = bill.interval, 0
        plans = {row.resource: row for row in region.schedules[interval].schedule.rows}
        for row in bill.rows:
            plan, key = plans[row.resource], (interval, row.resource)
            amount = credit(
                plan.power_w, plan.price, row.energy_wh, interval.duration_s, region.parameters.imbalance_spread
            )
            moved += amount - credited.get(key, 0)
            credited[key] = amount
        self.paid.deviation(abs(moved - bill.paid_micro), interval, region.name, f"bill, version {bill.version}")

    def _metered(self, chain: ChainFile, view: View, region: RegionRecord) -> None:
        """That the latest bills are about the energy that the ledger's readings say, as far as these were there."""
        latest = {(bill.interval, row.resource): (row, bill) for bill in region.bills for row in bill.rows}
        books, known = RegionIntervals.of(view), meters(view)
        with chain.reading() as connection:
            readings = StoredReadings(connection)
            for interval in {bill.interval: None for bill in region.bills}:
                before, after = (readings.registers_wh(devices(known), at) for at in (interval.start_s, interval.end_s))
                grown_wh = {name: after[name] - before[name] for name in before.keys() & after.keys()}
                for row in metered(grown_wh, known, interval, books.positions(interval)):
                    billed, bill = latest[interval, row.resource]
                    miss = abs(billed.energy_wh - row.energy_wh)
                    if not miss or _last_read(connection, row.resource, interval) < bill.proposed_height:
                        self.metered.deviation(miss, interval, region.name, row.resource)

    def _neutral(self, view: View, region: RegionRecord) -> None:
        """That the neutrality account, with what it has in escrow, holds what came from the other regions less what
        bills moved."""
        hub, owner, asset = self._record.hub, NEUTRAL.decode(), region.parameters.asset
        committed = {
            netting.sid: netting.legs for netting in hub.nettings.values() if netting.outcome is Outcome.COMMIT
        } | hub.payments
        received = sum(_amount(legs, region.name) for sid, legs in committed.items() if sid in region.applied)
        owners = {resource.owner for resource in region.resources.values()}
        books = RegionIntervals.of(view)
        paid = sum(bill.paid_micro for bill in region.bills) - sum(map(books.owed, owners))
        held = balance(view, owner, asset) + _in_escrow(view, owner, asset)
        self.neutral.deviation(abs(held - (received - paid)), None, region.name, "neutrality account")


def _last_read(connection: Connection, resource: str, interval: Interval) -> int:
    """The height at which a meter of the resource last told a register at one of the interval's ends."""
    query = (
        "SELECT coalesce(max(height), 0) FROM readings WHERE device > ? AND device < ? AND start_s >= ? AND start_s < ?"
    )
    # Meters are named <resource>.<more>; the character after the dot is the slash.
    around = (f"{resource}.", f"{resource}/", interval.start_s - interval.duration_s, interval.end_s)
    found: int = connection.execute(query, around).fetchone()[0]
    return found


def _amount(legs: tuple[Leg, ...], region: str) -> int:
    return sum(leg.amount for leg in legs if leg.region == region and leg.account == NEUTRAL)


def _in_escrow(view: View, owner: str, asset: str) -> int:
    found = (Escrow.decode(value) for _, value in view.items(ESCROW))
    return sum(escrow.amount for escrow in found if (escrow.owner, escrow.asset) == (owner, asset))
