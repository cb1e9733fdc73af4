"""One of four organizations attacks every interval with all of its seats: the others couple and pay as ever."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.ledger.misconduct import offences
from coordinator.ledger.receipt import Receipt
from coordinator.ledger.transaction import Transaction
from coordinator.settlement.interval.confirmations import CONFIRM_HUB, CONFIRM_REGION, decode_confirmation, digest_of
from coordinator.settlement.interval.hub import MESSAGE
from coordinator.settlement.interval.hub_books import HubIntervals
from coordinator.settlement.interval.region import RegionIntervals
from tests.coordinator.service.byzantine_coupling import MODES
from tests.coordinator.service.consortium_harness import HUB, ORGANIZATIONS, REGIONS, Consortium
from tests.coordinator.service.small_market import small_hours, write_grid
from tests.coordinator.service.statements import agreements, carried_out, statements
from tests.coordinator.service.test_intervals import CREDIT, Market

CULPRIT = "delta"
HONEST = tuple(name for name in ORGANIZATIONS if name != CULPRIT)
PROGRAM = ("-m", "tests.coordinator.service.byzantine_coupling")
CHAINS = (HUB, *REGIONS)


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    intervals = {**write_grid(tmp_path), "stepper": "alpha", "collateral": 10**10, "step_blocks": 200}
    names, hours = small_hours(tmp_path, 1, len(MODES))
    with Consortium(tmp_path, limit=10**12, credit=CREDIT, intervals=intervals) as consortium:
        asyncio.run(consortium.ready())
        yield Market(consortium, hours, names)


def test_intervals_that_a_byzantine_organization_attacks_end_as_they_would_without_it(market: Market) -> None:
    consortium = market.consortium
    asyncio.run(attacked(market))
    consortium.kill(*ORGANIZATIONS, number=signal.SIGTERM)
    consortium.audit_all(HONEST)
    for name in HONEST:
        check_outcomes(market, name)
        assert '"level": "error"' not in consortium.log(name), f"{name} has logged an error"
        market.check_balances([hour[0] for hour in market.hours], name)
        for chain in CHAINS:
            view = consortium.state(name, chain).view
            convicts = {who for who in ORGANIZATIONS if offences(view, f"{who}-validator")}
            assert convicts == {CULPRIT}, f"{name} convicts {convicts} on {chain}"
    check_attacks(consortium)


async def attacked(market: Market) -> None:
    """An interval in each way."""
    consortium = market.consortium
    consortium.restart(CULPRIT, program=PROGRAM)
    for name in HONEST:

        async def is_there(name: str = name) -> bool:
            return f'gridaccord_peer_connected{{peer="{CULPRIT}"}} 1.0' in consortium.metrics(name)

        await consortium.until(f"{name} is connected with the attacker", is_there)
    for number in range(len(MODES)):
        started = time.monotonic()
        interval = await market.open_hour()
        await market.ended(interval)
        await market.scheduled(interval)
        print(f"{MODES[number]}: {time.monotonic() - started:.1f} s")
    await consortium.rest(HONEST)


def check_outcomes(market: Market, name: str) -> None:
    """Every interval is coupled, by all regions, at the central optimum, and paid."""
    ledger = market.consortium.ledger(name, HUB)
    agreed = agreements(ledger)
    assert HubIntervals.of(market.consortium.state(name, HUB).view).absent == ()
    for interval, _, optimum in market.hours:
        reached = agreed[interval].objective_micro_per_h
        assert abs(reached - optimum) <= 1e-6 * optimum, f"{name}: {interval} reached {reached} of {optimum}"
        for transfer in agreed[interval].regions:
            books = RegionIntervals.of(market.consortium.state(name, transfer.name).view)
            assert books.positions(interval), f"{name}: {transfer.name} has no schedule for {interval}"


def check_attacks(consortium: Consortium) -> None:
    """They took place: what the attacker said stands on the chains, and most of it was refused."""
    for chain in CHAINS:
        ledger = consortium.ledger("alpha", chain)
        stated = {digest_of(message) for _, message in statements(ledger)}
        lies = [one for one in proposed(ledger) if one not in stated]
        assert lies, f"all that {CULPRIT} proposed on {chain} was true"
    codes = Counter(receipt.code for one, receipt in said(consortium.ledger("alpha", HUB)) if one.kind == MESSAGE)
    assert {"malformed", "proof_refused", "other_message"} <= codes.keys(), codes


def said(ledger: Path) -> Iterator[tuple[Transaction, Receipt]]:
    """By the attacker."""
    return ((one, receipt) for one, receipt in carried_out(ledger) if one.signer == f"{CULPRIT}-validator")


def proposed(ledger: Path) -> Iterator[bytes]:
    """Digests of messages that the attacker proposed, and that were counted as proposals."""
    for one, receipt in said(ledger):
        if one.kind in (CONFIRM_HUB, CONFIRM_REGION) and not receipt.code:
            given = decode_confirmation(one.content)
            if given.message is not None:
                yield given.digest
