"""Run folders without processes: a hub and three regions of RTS-GMLC as ledgers, and what `init` writes beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.ledger.envelope import Holder, KeyClaim, prove_possession
from coordinator.ledger.readings import Column, MeterBatch, sign_column
from coordinator.ledger.store import Store
from coordinator.market.coupling.region import RegionAgent
from coordinator.service.metering import metered, meters
from coordinator.settlement.interval.region import RegionIntervals
from coordinator.settlement.interval.schedules import Metered
from coordinator.settlement.interval.topics import Interval
from protos.gridaccord.v1 import ledger_pb2 as pb
from tests.coordinator.ledger.support import VALIDATORS, codes
from tests.coordinator.settlement.interval_chain import IntervalChain
from tests.coordinator.settlement.interval_support import HUB_NUMBERS, RULES, IntervalNet
from tests.coordinator.settlement.test_intervals import Hour, offer_all, rts_day
from topology.region_files import write_interconnection, write_region

ORGANIZATIONS = ("alpha", "beta")
LOAD, ENERGY_WH = "load-101", 40_000_000
METER = f"{LOAD}.withdrawn"
TIE_METERS = {"tolerance_wh": 1000, "disagreement": "mean", "blocks": 8, "collateral": 10**9}
CARRIED_WH = 50_000_000
"""What meters show that every tie-line carried in every interval, from its from-end."""


_BLOCKS_OF_MONEY = 18
"""In which an interval's nettings are settled."""


@dataclass
class RunMaker:
    """Goes through hours, and writes what came of them."""

    net: IntervalNet
    day: list[Hour]
    batches: dict[int, dict[int, MeterBatch]]
    """Of the first region, by height and place."""

    @staticmethod
    def of(hours: int, fallback: str = "zero_exchange") -> RunMaker:
        cut, day = rts_day(hours)
        resources = [{name: bus for name, (bus, _) in region.items()} for region in day[0][1]]
        net = IntervalNet(
            cut,
            resources,
            day[0][0].start_s,
            dict(HUB_NUMBERS),
            real=True,
            parameters={"late_limit_s": str(10**9)},
            fallback=fallback,
            tie_meters=TIE_METERS,
        )
        net.tie_rows = lambda number, _: _carried(net, number)
        return RunMaker(net, day, {})

    def couple(self, hour: int, without: int | None = None) -> None:
        """One interval, of which a region may be unheard of; with schedules, nettings and first bills."""
        offer_all(self.net, self.day[hour])
        self.net.unheard = set() if without is None else {without}
        interval = self.day[hour][0]
        self.net.run(interval)
        self.net.unheard = set()
        for _ in range(_BLOCKS_OF_MONEY):
            self.net.step()
        for number in range(len(self.net.regions)):
            self.bill(number, interval, 1)

    def bill(self, number: int, interval: Interval, version: int, only: Sequence[str] = ()) -> None:
        """What validators say of an interval's energy when no meter is read; of some resources what was read."""
        region, duties = self.net.regions[number], self.net.region_duties[number]
        books = RegionIntervals.of(region.state.view)
        rows = metered({}, meters(region.state.view), interval, books.positions(interval))
        if only:
            rows = [type(row)(row.resource, -ENERGY_WH) for row in rows if row.resource in only]
        for _ in VALIDATORS:
            view = region.state.view
            requests = [
                (name, request) for name, duty in duties.items() for request in duty.bill(view, interval, version, rows)
            ]
            if RegionIntervals.of(view).positions(interval)[rows[0].resource].version == version:
                return
            region.grow(requests)
            for duty in duties.values():
                duty.on_region_block(region.state.header.height)
        raise AssertionError("not billed")

    def read_late(self, hour: int) -> None:
        """The meter of a load of the first region's is registered, and read for one hour."""
        region, interval = self.net.regions[0], self.day[hour][0]
        claim = KeyClaim(Holder.DEVICE, METER, "alice", "alice")
        possession = prove_possession(region.signer(METER), region.chain_id, claim)
        device = pb.NewDevice(
            device=METER, account="alice", public_key=region.signer(METER).public_key, possession=possession
        )
        assert codes(region.grow([("alice", ("register_device", device.SerializeToString()))]).applied) == [""]
        length = interval.duration_s
        column = Column(
            METER,
            interval.start_s - length,
            length,
            0,
            (interval.start_s * 1000, interval.end_s * 1000),
            (1, 1 + ENERGY_WH),
        )
        batch = MeterBatch(bytes(16), (sign_column(region.signer(METER), region.chain_id, column),))
        done = region.grow([("alice", ("readings", batch.commitment.SerializeToString()))])
        assert codes(done.applied) == [""], done.applied.receipts
        self.batches[region.state.header.height] = {0: batch}
        self.bill(0, interval, 2, [LOAD])

    def write(self, run: Path) -> Path:
        """The run's folder."""
        names = self.net.cut.interconnection.region_names
        for organization in ORGANIZATIONS:
            chains = run / "consortium" / organization / "chains"
            hub = chains / "center"
            _write_ledger(hub, self.net.hub, {})
            write_interconnection(self.net.cut.interconnection, hub / "interconnection.json")
            (hub / "equivalents").mkdir()
            pairs = zip(self.net.cut.regions, self.net.secrets, strict=True)
            for number, (grid, secret) in enumerate(pairs):
                data = RegionAgent(grid, RULES, secret).boundary_equivalent()
                (hub / "equivalents" / f"{number}.bin").write_bytes(data)
                batches = self.batches if number == 0 else {}
                _write_ledger(chains / names[number], self.net.regions[number], batches)
                write_region(grid, chains / names[number] / "grid.json")
        return run


def _carried(net: IntervalNet, number: int) -> tuple[Metered, ...]:
    """What a region's meters at its ends of tie-lines show: energy into its grid."""
    ends = {name: (near, far) for name, near, far in net.tie_ends() if number in (near, far)}
    rows = [Metered(name, -CARRIED_WH if near == number else CARRIED_WH) for name, (near, _) in ends.items()]
    return tuple(sorted(rows, key=lambda row: row.resource.encode()))


def _write_ledger(folder: Path, chain: IntervalChain, batches: dict[int, dict[int, MeterBatch]]) -> None:
    folder.mkdir(parents=True)
    with Store.create(folder / "ledger.sqlite", chain.genesis, chain.machine) as store:
        for finalized in chain.blocks:
            height = finalized.block.header.height
            store.commit(
                [type(finalized)(finalized.block, finalized.applied, finalized.certificate, batches.get(height, {}))]
            )


def write_events(run: Path, events: Sequence[dict[str, object]]) -> None:
    """events.jsonl."""
    text = "".join(json.dumps(event) + "\n" for event in events)
    (run / "events.jsonl").write_text(text, encoding="utf-8")
