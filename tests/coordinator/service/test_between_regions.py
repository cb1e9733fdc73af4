"""Money between regions: three regions and their hub, each with four validators, in four processes.

The tests stop coordinators exactly between escrow and receipt and between decision and application, all of them,
because another takes over where only one stops; and they show that one does.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Iterator, Sequence

import pytest

from benchmarks.cluster import gridaccord
from coordinator.settlement.escrow.finalized import hub_books, region_books
from coordinator.settlement.escrow.missing import Kind
from coordinator.settlement.escrow.records import RegionState
from coordinator.settlement.escrow.types import SettlementId
from tests.coordinator.service.consortium_harness import (
    EPOCH_LENGTH,
    HUB,
    ORGANIZATIONS,
    OWNED,
    REGIONS,
    WINDOWS,
    Consortium,
)
from tests.coordinator.service.halting_node import HALTED

HALTING = ("-m", "tests.coordinator.service.halting_node")
SHORT = 30
AMOUNT = 1_000_003


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    with Consortium(tmp_path_factory.mktemp("regions")) as consortium:
        asyncio.run(consortium.ready())
        yield consortium


def pay(consortium: Consortium, payer: str, source: str, target: str, amount: int) -> subprocess.CompletedProcess[str]:
    return gridaccord(
        *("pay", consortium.home(payer), "--from", source, "--to", target),
        *("--asset", "EUR", "--amount", str(amount), "--wait", "--json"),
        check=False,
    )


def balances(consortium: Consortium, source: tuple[str, str], target: tuple[str, str], at: str = "alpha") -> list[int]:
    return [consortium.balance(at, region, owner) for region, owner in (source, target)]


def halting(consortium: Consortium, mode: str, kind: str, region: str, names: Sequence[str] = ORGANIZATIONS) -> None:
    """Run these nodes with a relay that halts."""
    consortium.restart(*names, program=(*HALTING, mode, kind, region))


def dead(consortium: Consortium) -> list[str]:
    return [name for name, process in consortium.processes.items() if process.poll() is not None]


def test_a_payment_between_regions_commits(running: Consortium) -> None:
    paid = pay(running, "beta", "north", "south:gamma", 250_000)
    assert json.loads(paid.stdout)["state"] == "commit"
    assert paid.returncode == 0
    asyncio.run(running.rest())
    for name in ORGANIZATIONS:
        assert balances(running, ("north", "beta"), ("south", "gamma"), name) == [OWNED - 250_000, OWNED + 250_000]


def test_a_payment_without_funds_aborts_and_everything_comes_back(running: Consortium) -> None:
    before = balances(running, ("west", "delta"), ("north", "alpha"))
    refused = pay(running, "delta", "west", "north:alpha", OWNED)
    assert refused.returncode == 1
    assert "add collateral" in refused.stderr
    local = f'{{"to": "beta", "asset": "EUR", "amount": {OWNED - 5}}}'
    gridaccord("submit", running.home("delta"), "transfer", local, "--chain", "west")
    aborted = pay(running, "delta", "west", "north:alpha", 6)
    assert aborted.returncode == 1
    assert json.loads(aborted.stdout)["reason"] == "said_no"
    assert "west said no" in aborted.stderr
    assert balances(running, ("west", "delta"), ("north", "alpha")) == [5, before[1]]
    asyncio.run(running.rest())


@pytest.mark.parametrize("kind", ["VERDICT", "DECIDED"])
def test_all_coordinators_killed_at_a_point_go_on_from_there(running: Consortium, kind: str) -> None:
    """VERDICT: between escrow and receipt. DECIDED: between decision and application.

    One is killed at that point, then who takes over from it; then there is no quorum, and the others end as well.
    """
    before = balances(running, ("north", "gamma"), ("south", "beta"))
    halting(running, "crash", kind, "north")

    async def scenario() -> SettlementId:
        await running.ready(("alpha", "beta"))
        sid = await running.open("gamma", "north", "south:beta", AMOUNT)

        async def two_dead() -> bool:
            return len(dead(running)) >= 2

        await running.until(f"two are killed before {kind} of {sid}", two_dead)
        return sid

    sid = asyncio.run(scenario())
    assert all(f"{HALTED} " in running.log(name).splitlines()[-1] for name in dead(running))
    running.kill(*(name for name in ORGANIZATIONS if name not in dead(running)))
    for name in ORGANIZATIONS:
        assert running.region_state(name, "north", sid) is RegionState.YES
        record = hub_books(running.state(name, HUB)).record(sid)
        assert record is not None
        if kind == "VERDICT":
            assert (record.outcome, record.votes[record.participants.index("north")]) == (None, None)
        assert running.balance(name, "north", "gamma") == before[0] - AMOUNT
        assert running.money(name) == running.total
    running.restart(*ORGANIZATIONS)
    assert asyncio.run(running.decided(sid)) == "commit"
    asyncio.run(running.rest())
    assert balances(running, ("north", "gamma"), ("south", "beta")) == [before[0] - AMOUNT, before[1] + AMOUNT]


def test_no_receipt_until_after_the_deadline_is_an_abort_and_the_money_comes_back(running: Consortium) -> None:
    before = balances(running, ("north", "gamma"), ("south", "beta"))
    halting(running, "withhold", "VERDICT", "north")

    async def scenario() -> SettlementId:
        await running.ready()
        sid = await running.open("gamma", "north", "south:beta", AMOUNT, window=SHORT)
        assert await running.decided(sid) == "abort"
        return sid

    sid = asyncio.run(scenario())
    assert any(f"{HALTED} north to hub: verdict {sid}" in running.log(name) for name in ORGANIZATIONS)
    asyncio.run(running.rest())
    running.restart(*ORGANIZATIONS)
    asyncio.run(running.ready())
    assert asyncio.run(running.settlement(sid)).state == "abort"
    asyncio.run(running.rest())
    assert balances(running, ("north", "gamma"), ("south", "beta")) == before


def test_a_decision_that_arrives_when_the_hub_has_forgotten_it_is_applied(running: Consortium) -> None:
    """The region hears nothing for longer than the deadline and the longest window after it: it stays in doubt.

    Neither side learns of the other's epochs meanwhile; both have several to catch up with.
    """
    before = balances(running, ("north", "gamma"), ("south", "beta"))
    halting(running, "withhold", "DECIDED,CLOSED", "north")

    async def agreed() -> SettlementId:
        await running.ready()
        sid = await running.open("gamma", "north", "south:beta", AMOUNT, window=SHORT)
        assert await running.decided(sid) == "commit"
        return sid

    sid = asyncio.run(agreed())
    halting(running, "withhold", ",".join(kind.name for kind in Kind), "north")

    async def forgotten() -> None:
        await running.ready()

        async def closed() -> bool:
            return (await running.settlement(sid)).closed

        await running.until(f"the hub has closed {sid}", closed, 3 * SHORT + WINDOWS["window_max"])
        status = await running.status("beta", "north")
        assert status is not None
        assert [one.sid for one in status.in_doubt] == [str(sid)]
        assert 0 < status.in_doubt[0].since_ms <= status.time_ms

    asyncio.run(forgotten())
    assert epochs_behind(running) > 1
    assert f"in doubt     {sid} since height" in gridaccord("status", running.home("delta")).stdout
    page = running.metrics("delta")
    assert 'gridaccord_escrows_in_doubt{chain="north"} 1.0' in page
    assert 'gridaccord_settlements{chain="south",state="committed"}' in page
    assert running.region_state("delta", "north", sid) is RegionState.YES
    running.restart(*ORGANIZATIONS)
    asyncio.run(running.rest())
    assert balances(running, ("north", "gamma"), ("south", "beta")) == [before[0] - AMOUNT, before[1] + AMOUNT]

    async def caught_up() -> bool:
        return epochs_behind(running) == 0

    asyncio.run(running.until("the region has followed the hub's epochs", caught_up))


def epochs_behind(consortium: Consortium) -> int:
    """How many epochs of the hub are over that the north has not taken in."""
    hub, books = consortium.state("alpha", HUB), region_books(consortium.state("alpha", "north"))
    return hub.header.height // EPOCH_LENGTH - books.chains.epoch(hub.header.chain_id)


def test_another_takes_over_where_one_coordinator_halts_or_hangs(running: Consortium) -> None:
    """One relays nothing at all, until it has had its turn; then one is stopped for good."""
    before = balances(running, ("south", "alpha"), ("west", "gamma"))
    halting(running, "withhold", "OPENED,DECIDED,VERDICT,APPLIED", "any", ("beta",))
    turns = running.log("beta").count(HALTED)

    async def scenario() -> int:
        await running.ready()
        paid = 0
        while paid < 2 or running.log("beta").count(HALTED) == turns:
            sid = await running.open("alpha", "south", "west:gamma", 7)
            assert await running.decided(sid) == "commit"
            paid += 1
        await running.rest()
        running.send("beta", signal.SIGSTOP)
        for _ in range(2):
            assert await running.decided(await running.open("alpha", "south", "west:gamma", 7)) == "commit"
        running.send("beta", signal.SIGCONT)
        return paid + 2

    paid = asyncio.run(scenario())
    running.restart("beta")
    asyncio.run(running.rest())
    assert balances(running, ("south", "alpha"), ("west", "gamma")) == [before[0] - 7 * paid, before[1] + 7 * paid]


def test_every_ledger_is_valid_after_all_that_and_light_clients_have_followed(running: Consortium) -> None:
    """Of a node that lost its disk as of the others, once it has caught up."""
    running.kill("delta")
    running.wipe("delta")
    running.start("delta", "--rejoin")
    asyncio.run(running.ready())
    asyncio.run(running.rest())
    running.audit_all()
    hub, center = hub_books(running.state("delta", HUB)), running.genesis[HUB]
    for region in REGIONS:
        genesis = running.genesis[region]
        assert hub.chains.epoch(genesis.chain_id) > 0
        assert region_books(running.state("delta", region)).chains.epoch(center.chain_id) > 0
