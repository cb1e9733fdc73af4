"""What must hold after a manifest, read from the ledgers of nodes that have stopped."""

from __future__ import annotations

import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import product

from benchmarks.cluster import gridaccord
from coordinator.ledger.misconduct import offences
from coordinator.settlement.escrow.types import Outcome, Verdict
from coordinator.settlement.interval.hub_books import HubIntervals
from coordinator.settlement.interval.hub_claims import nonce_of
from coordinator.settlement.interval.schedules import decode_metered
from coordinator.settlement.interval.topics import Interval, Step
from tests.coordinator.service.consortium_harness import ASSET, HUB, ORGANIZATIONS, REGIONS, Consortium
from tests.coordinator.service.manifest_faults import CHAINS
from tests.coordinator.service.manifest_plan import Expected, Manifest
from tests.coordinator.service.manifest_run import Done, meter_of
from tests.coordinator.service.recomputation import (
    Settlement,
    Settlements,
    digests,
    recompute,
    registers,
    settlements_of,
    stored,
)
from tests.coordinator.service.small_market import LOADS
from tests.coordinator.service.statements import agreements, ends, statements

_OUTCOMES = {Expected.COMMITTED: [Outcome.COMMIT], Expected.ABORTED: [Outcome.ABORT]}
_SAID = {
    Outcome.COMMIT: ([Verdict.YES, Verdict.APPLIED],),
    Outcome.ABORT: ([Verdict.YES, Verdict.APPLIED], [Verdict.NO, Verdict.APPLIED], [Verdict.APPLIED]),
}


def check_all(manifest: Manifest, consortium: Consortium, done: Done) -> dict[str, int]:
    """Raises AssertionError; the heights of the chains where all is well."""
    check_one_history(consortium)
    check_audits(consortium, done)
    for name in ORGANIZATIONS:
        settlements = settlements_of(consortium.ledger(name, HUB))
        check_settlements(settlements, done)
        check_intervals(consortium, name, settlements, done)
        for region in REGIONS:
            check_region(consortium, name, region, settlements)
            check_metered(consortium, name, region, done)
            assert registers(consortium.ledger(name, region)) == done.registers[region], f"{name}: readings of {region}"
        check_conserved(consortium, name, manifest, settlements)
        check_convictions(consortium, name, manifest)
    return {chain: consortium.state(ORGANIZATIONS[0], chain).header.height for chain in CHAINS}


def check_one_history(consortium: Consortium) -> None:
    """Nodes have the same blocks, as far as each has come."""
    for chain in CHAINS:
        found = [digests(consortium.ledger(name, chain)) for name in ORGANIZATIONS]
        longest = max(found, key=len)
        for name, history in zip(ORGANIZATIONS, found, strict=True):
            assert history == longest[: len(history)], f"{name} has another history of {chain}"


def check_audits(consortium: Consortium, done: Done) -> None:
    """`gridaccord audit` of every ledger of every node, as an operator runs it."""

    def audited(place: tuple[str, str]) -> None:
        name, chain = place
        chain_id = consortium.genesis[chain].chain_id.hex()
        path = consortium.ledger(name, chain)
        found = gridaccord("audit", path, "--chain-id", chain_id, "--json", "--quiet", check=False)
        assert found.returncode == 0, f"audit of {chain} on {name}: {found.stdout}{found.stderr}"
        report = json.loads(found.stdout)
        assert report["valid"], f"audit of {chain} on {name}: {report}"
        assert report["height"] > 0, f"audit of {chain} on {name}: {report}"
        assert report["readings"] == len(done.registers.get(chain, ())), f"audit of {chain} on {name}: {report}"

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(audited, product(ORGANIZATIONS, CHAINS)))


def check_intervals(consortium: Consortium, name: str, settlements: Settlements, done: Done) -> None:
    """Each ended once; what was agreed in it is settled in one netting in which all legs moved, or none is there.

    A region whose leg was on its collateral settles that later, by a netting of its own.
    """
    hub = consortium.ledger(name, HUB)
    agreed = agreements(hub)
    books = HubIntervals.of(consortium.state(name, HUB).view)
    nonces = {books.nonce(interval): interval for interval in done.intervals}
    claims = {nonce_of(books, interval, region) for interval in done.intervals for region in REGIONS}
    committed: dict[Interval, list[Settlement]] = {interval: [] for interval in done.intervals}
    for sid, one in settlements.items():
        if one.is_netting:
            assert len(one.outcomes) == 1, f"{name}: {sid} is decided {len(one.outcomes)} times"
            assert one.nonce in claims | nonces.keys(), f"{name}: {sid} nets no interval"
            if one.committed and one.nonce in nonces:
                committed[nonces[one.nonce]].append(one)
    assert [interval for interval, _ in ends(hub)] == done.intervals, f"{name}: {list(ends(hub))}"
    for interval, is_coupled in ends(hub):
        owed = {one.name: one.amount for one in agreed[interval].regions} if is_coupled else {}
        paid = [_moved(one) for one in committed[interval]]
        assert len(paid) == any(owed.values()), f"{name}: {interval} moved {paid} of {owed}"
        for moved in paid:
            assert all(owed[region] == amount for region, amount in moved.items()), f"{name}: {moved} of {owed}"


def check_metered(consortium: Consortium, name: str, region: str, done: Done) -> None:
    """The last bill of every interval counts what the load's meter has shown."""
    billed: dict[Interval, int] = {}
    for topic, message in statements(consortium.ledger(name, region)):
        rows = decode_metered(message) if topic.step is Step.METERED else ()
        for row in rows:
            if row.resource == LOADS[region]:
                billed[topic.interval] = row.energy_wh
    known, meter = done.registers[region], meter_of(region)
    for one in done.intervals:
        read_wh = known[meter, one.start_s] - known[meter, one.start_s - one.duration_s]
        assert billed[one] == -read_wh, f"{name}: {region} bills {billed[one]} Wh, {meter} has shown {read_wh}"


def _moved(netting: Settlement) -> dict[str, int]:
    """By region; what stands on the hub's accounts is a silent region's, or what rounding left."""
    assert sum(leg.amount for leg in netting.legs) == 0, f"{netting} makes money"
    return {leg.region: leg.amount for leg in netting.legs if leg.region in REGIONS}


def check_settlements(settlements: Settlements, done: Done) -> None:
    """Payments that were opened are those that somebody was told of, each decided once, and as it had to be."""
    payments = {sid: settlement for sid, settlement in settlements.items() if not settlement.is_netting}
    assert payments.keys() == done.settlements.keys(), f"opened {list(payments)}, told {list(done.settlements)}"
    for sid, settlement in payments.items():
        wanted = done.settlements[sid]
        assert settlement.outcomes == _OUTCOMES[wanted], f"{sid} is to be {wanted.value}: {settlement}"


def check_region(consortium: Consortium, name: str, region: str, settlements: Settlements) -> None:
    """Each settlement is applied in whole where it takes part, nowhere else, and balances follow from the blocks."""
    ledger = consortium.ledger(name, region)
    books, held = recompute(ledger, region, settlements), stored(ledger)
    mine = {sid: settlement for sid, settlement in settlements.items() if region in settlement.participants}
    assert books.said.keys() == mine.keys(), f"{name}: {region} has answered {list(books.said)} of {list(mine)}"
    for sid, settlement in mine.items():
        said = books.said[sid]
        assert said in _SAID[settlement.outcomes[0]], f"{name}: {region} said {said} to {sid}: {settlement}"
    assert not books.escrowed, f"{name}: in escrow in {region}: {books.escrowed}"
    assert held.escrowed == 0, f"{name}: the state of {region} has {held.escrowed} in escrow"
    assert held.balances == books.balances, f"{name}: {region} has {held.balances}, its blocks say {books.balances}"


def check_conserved(consortium: Consortium, name: str, manifest: Manifest, settlements: Settlements) -> None:
    """Over all regions and the hub's accounts, to the micro-unit; and as the escrow protocol counts it."""
    held: Counter[str] = Counter()
    for region in REGIONS:
        for (_, asset), balance in stored(consortium.ledger(name, region)).balances.items():
            held[asset] += balance
    for settlement in settlements.values():
        for leg in settlement.legs if settlement.committed else ():
            held[leg.asset] += leg.amount if leg.region not in REGIONS else 0
    total = consortium.total + manifest.issued
    assert held == {ASSET: total}, f"{name}: {held} of {total} micro-units"
    assert consortium.money(name) == total, f"{name} counts {consortium.money(name)} of {total} micro-units"


def check_convictions(consortium: Consortium, name: str, manifest: Manifest) -> None:
    """Whoever equivocated is convicted on every chain, and nobody else on any, whatever was lost or killed."""
    for chain in CHAINS:
        view = consortium.state(name, chain).view
        convicts = {who for who in ORGANIZATIONS if offences(view, f"{who}-validator")}
        assert convicts == manifest.byzantine, f"{name}: convicts on {chain}: {convicts}"
