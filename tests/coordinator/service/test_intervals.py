"""Intervals in real processes: RTS-GMLC in three regions of four validators, from offers to money, with nodes dying."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from coordinator.ledger.envelope import Holder, KeyClaim, prove_possession
from coordinator.ledger.keys import load_key
from coordinator.ledger.readings import Column, MeterBatch, sign_column
from coordinator.ledger.transaction import Transaction, sign_transaction
from coordinator.market.fixed_point import divide_half_even
from coordinator.settlement.escrow.finalized import hub_books
from coordinator.settlement.interval.hub_books import HubIntervals
from coordinator.settlement.interval.hub_exchange import Exchanges
from coordinator.settlement.interval.region import OFFERS, TARGET, RegionIntervals
from coordinator.settlement.interval.schedules import Offers, credit
from coordinator.settlement.interval.topics import Interval
from protos.gridaccord.v1 import ledger_pb2 as ledger_pb
from protos.gridaccord.v1 import service_pb2 as pb
from tests.coordinator.service.consortium_harness import ASSET, HUB, ORGANIZATIONS, OWNED, REGIONS, Consortium
from tests.coordinator.service.statements import agreements
from tests.coordinator.service.test_readings import meter
from tests.coordinator.settlement.test_intervals import DAY, Hour, rts_day
from topology.case_files import read_case

HOURS = 4
WITHIN_S = 240.0
CREDIT = 10**15
AREAS = {"1": "north", "2": "south", "3": "west"}


@dataclass
class Market:
    """A consortium that couples, and the hours of the day that were offered so far."""

    consortium: Consortium
    day: list[Hour]
    names: tuple[str, ...]
    hours: list[Hour] = field(default_factory=list)
    at: str = "beta"
    """The node whose ledgers are looked into where no other is named: it has all chains."""

    async def send(self, chain: str, kind: str, content: bytes) -> None:
        """A transaction of alpha's, final and carried out."""
        genesis = self.consortium.genesis[chain]
        signer = load_key(self.consortium.home("alpha") / "keys" / "participant.key")
        at = next(name for name in self.consortium.seats[chain] if not self.consortium.has_ended(name))
        async with self.consortium.client(at) as client:
            known = await client.call(
                "GetParticipant", pb.ParticipantRequest(chain_id=genesis.chain_id, participant="alpha")
            )
            body = Transaction("alpha", known.next_sequence, known.height + 10**6, kind, content)
            encoded = sign_transaction(signer, genesis.chain_id, body).encoded
            request = pb.SubmitRequest(chain_id=genesis.chain_id, transaction=encoded, wait=True)
            reply = await client.call("Submit", request, WITHIN_S)
            assert not reply.code, f"{chain} {kind}: {reply.code} {reply.detail}"

    async def open_hour(self) -> Interval:
        """Offers of the next hour, and the word that closes the gates."""
        interval, regions, _ = hour = self.day[len(self.hours)]
        self.hours.append(hour)
        for name, offered in zip(self.names, regions, strict=True):
            curves = sorted(((key, curve) for key, (_, curve) in offered.items()), key=lambda item: item[0].encode())
            await self.send(name, OFFERS, Offers(interval, tuple(curves)).encode())
        for name in REGIONS:
            await self.send(name, TARGET, interval.encode())
        return interval

    def books(self, region: str, at: str = "") -> RegionIntervals:
        """What a node's ledger says of a region's intervals."""
        return RegionIntervals.of(self.consortium.state(at or self.at, region).view)

    async def register_meter(self, region: str, name: str) -> None:
        """Of alpha's."""
        claim = KeyClaim(Holder.DEVICE, name, "alpha", "alpha")
        possession = prove_possession(meter(name), self.consortium.genesis[region].chain_id, claim)
        content = ledger_pb.NewDevice(
            device=name, account="alpha", public_key=meter(name).public_key, possession=possession
        )
        await self.send(region, "register_device", content.SerializeToString())

    async def read(self, region: str, name: str, interval: Interval, energy_wh: int) -> None:
        """The meter's registers at both ends of an interval."""
        chain_id, length = self.consortium.genesis[region].chain_id, interval.duration_s
        clocks = (interval.start_s * 1000, interval.end_s * 1000)
        column = Column(name, interval.start_s - length, length, 0, clocks, (10**6, 10**6 + energy_wh))
        batch = MeterBatch(bytes(16), (sign_column(meter(name), chain_id, column),))
        async with self.consortium.client("gamma") as client:
            reply = await client.submit_readings(chain_id, batch)
        assert not reply.code, f"{reply.code}: {reply.detail}"

    def check_balances(self, intervals: list[Interval], at: str = "") -> None:
        """What owners and the neutral account hold follows from bills and nettings alone, to the micro-unit."""
        hub = hub_books(self.consortium.state(at or self.at, HUB))
        for region in REGIONS:
            books = self.books(region, at)
            credited = sum(one.credited for interval in intervals for one in books.positions(interval).values())
            held = self.consortium.balance(at or self.at, region, "alpha")
            neutral = self.consortium.balance(at or self.at, region, "neutral")
            assert held == OWNED + credited - books.owed("alpha")
            assert neutral == hub.position(region, ASSET) - (held - OWNED)

    async def ended(self, interval: Interval, at: str = "") -> None:
        """Until a node knows that the hub has ended the interval."""

        async def is_over() -> bool:
            last = HubIntervals.of(self.consortium.state(at or self.at, HUB).view).last
            return last is not None and last >= interval

        await self.consortium.until(f"the hub ends {interval}", is_over, WITHIN_S)

    async def scheduled(self, interval: Interval, at: str = "") -> None:
        """Until every region has a schedule."""

        async def everywhere() -> bool:
            views = [self.consortium.state(at or self.at, name).view for name in REGIONS]
            return all(RegionIntervals.of(view).positions(interval) for view in views)

        await self.consortium.until(f"schedules of {interval}", everywhere, WITHIN_S)

    def agreements(self, at: str = "") -> list[int]:
        """Objectives that a quorum of hub validators agreed on, in micro-units per hour, from the ledger."""
        agreed = agreements(self.consortium.ledger(at or self.at, HUB))
        return sorted(said.objective_micro_per_h for said in agreed.values())


@contextmanager
def running_market(
    folder: Path, at: str = "beta", rules: Mapping[str, Any] | None = None, **options: Any
) -> Iterator[Market]:
    """The three areas of RTS-GMLC as regions; `rules` are of intervals, `options` those of the consortium."""
    case = read_case(DAY)
    with (folder / "regions.csv").open("w", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["bus", "region"])
        writer.writerows([bus.id, AREAS[bus.area]] for bus in case.grid.buses)
    cut, day = rts_day(HOURS)
    intervals = {
        "grid": str(DAY),
        "regions": "regions.csv",
        "opens": "2020-01-27T00:00:00+00:00",
        "stepper": "alpha",
        "collateral": 10**13,
        "step_blocks": 60,
        "tie_meters": {"blocks": 20},
        **(rules or {}),
    }
    names = tuple(AREAS[name] for name in cut.interconnection.region_names)
    given = {"limit": 10**15, "credit": CREDIT, "intervals": intervals, "parameters": {"late_limit_s": str(10**9)}}
    with Consortium(folder, **given, **options) as consortium:
        asyncio.run(consortium.ready())
        yield Market(consortium, day, names, at=at)


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    with running_market(tmp_path) as running:
        yield running


def test_hours_with_a_late_meter_and_nodes_that_die(market: Market) -> None:
    """One consortium, one hour after the other: each stage goes on where the one before has ended."""
    an_hour_from_offers_to_money(market)
    a_late_meter_corrects_the_bill_and_every_balance_follows_from_the_ledger(market)
    metered_exchange_is_settled_between_regions(market)
    validators_that_die_in_the_middle_delay_nothing_for_long(market)
    after_all_have_died_the_next_hour_begins_anew(market)


def an_hour_from_offers_to_money(market: Market) -> None:
    async def run() -> None:
        interval = await market.open_hour()
        await market.ended(interval)
        await market.scheduled(interval)
        await market.consortium.rest()

    asyncio.run(run())
    optimum = market.hours[0][2]
    assert 'gridaccord_regions_absent{chain="center"} 0.0' in market.consortium.metrics("alpha")
    assert any(abs(reached - optimum) <= 1e-6 * optimum for reached in market.agreements())


def a_late_meter_corrects_the_bill_and_every_balance_follows_from_the_ledger(market: Market) -> None:
    load, energy_wh = "load-101", 91_000_000
    hour = market.hours[0][0]

    async def run() -> None:
        await market.register_meter("north", f"{load}.withdrawn")
        await market.read("north", f"{load}.withdrawn", hour, energy_wh)
        await market.consortium.until("the meter is billed", billed, WITHIN_S)

    async def billed() -> bool:
        position = market.books("north").position(hour, load)
        return position is not None and position.version > 0 and not position.substituted

    asyncio.run(run())
    position = market.books("north").position(hour, load)
    assert position is not None
    assert (position.metered_wh, position.version) == (-energy_wh, 2)
    assert position.credited == credit(position.power_w, position.price, -energy_wh, hour.duration_s, 0)
    market.check_balances([hour])


def metered_exchange_is_settled_between_regions(market: Market) -> None:
    """By the meters at one tie-line; nobody meters the others."""
    public, hour, energy_wh = rts_day(HOURS)[0].interconnection, market.hours[0][0], 50_000_000
    near, far = (market.names[int(public.boundary_region[end[0]])] for end in (public.tie_from, public.tie_to))
    meters = [(near, f"tie-{public.tie_ids[0]}.withdrawn"), (far, f"tie-{public.tie_ids[0]}.injected")]
    waiting = Exchanges.of(market.consortium.state("beta", HUB).view).find(hour)
    assert waiting is not None
    tie = waiting.ties[0]
    before = [hub_books(market.consortium.state("beta", HUB)).position(region, ASSET) for region, _ in meters]

    async def run() -> None:
        for region, name in meters:
            await market.register_meter(region, name)
            await market.read(region, name, hour, energy_wh)
        await market.consortium.until("metered exchange is settled", settled, WITHIN_S)
        await market.consortium.rest()

    async def settled() -> bool:
        return Exchanges.of(market.consortium.state("beta", HUB).view).find(hour) is None

    asyncio.run(run())
    amount = divide_half_even((energy_wh * 3600 - tie.power_w * hour.duration_s) * tie.price, 3600 * 10**6 << 20)
    after = [hub_books(market.consortium.state("beta", HUB)).position(region, ASSET) for region, _ in meters]
    assert [now - then for now, then in zip(after, before, strict=True)] == [amount, -amount]
    market.check_balances([hour])


def validators_that_die_in_the_middle_delay_nothing_for_long(market: Market) -> None:
    async def run() -> None:
        interval = await market.open_hour()
        market.consortium.kill("gamma")
        await market.ended(interval)
        await market.scheduled(interval)
        market.consortium.start("gamma")
        await market.consortium.ready()

    asyncio.run(run())


def after_all_have_died_the_next_hour_begins_anew(market: Market) -> None:
    async def run() -> None:
        market.consortium.restart(*ORGANIZATIONS)
        await market.consortium.ready()
        interval = await market.open_hour()
        await market.ended(interval)
        await market.scheduled(interval)
        interval = await market.open_hour()
        await market.ended(interval)
        await market.scheduled(interval)
        await market.consortium.rest()

    asyncio.run(run())
    optimum = market.hours[-1][2]
    assert any(abs(reached - optimum) <= 1e-6 * optimum for reached in market.agreements())
    market.consortium.kill(*ORGANIZATIONS, number=signal.SIGTERM)
    market.consortium.audit_all()
    logged = [json.loads(line) for line in market.consortium.log("alpha").splitlines() if line.startswith("{")]
    assert not any(entry["level"] == "error" for entry in logged)
    market.check_balances([hour[0] for hour in market.hours])
