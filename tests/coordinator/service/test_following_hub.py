"""Regions whose validators have, but for one, no seat of the hub: in real processes, with nodes dying.

Hub seats: alpha, beta and gamma, each with a seat of its own region as well, and delta. The other three validators of
every region are epsilon, zeta and eta, which follow the hub: no region has a quorum without two of them.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.cluster import gridaccord
from protos.gridaccord.v1 import service_pb2 as pb
from tests.coordinator.service.consortium_harness import ASSET, HUB
from tests.coordinator.service.test_intervals import Market, running_market

FOLLOWERS = ("epsilon", "zeta", "eta")
SEATS = {
    HUB: ("alpha", "beta", "gamma", "delta"),
    "north": ("alpha", *FOLLOWERS),
    "south": ("beta", *FOLLOWERS),
    "west": ("gamma", *FOLLOWERS),
}


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    organizations = (*SEATS[HUB], *FOLLOWERS)
    # A validator that restarts knows nothing of the session: each hour is one of its own, so that the next fault finds
    # all of them back.
    rules = {"session_intervals": 1}
    with running_market(tmp_path, "epsilon", rules, organizations=organizations, seats=SEATS) as running:
        yield running


def test_regions_couple_with_quorums_that_need_nodes_without_a_seat_of_the_hub(market: Market) -> None:
    """One consortium, one hour after the other: each stage goes on where the one before has ended."""
    an_hour_from_offers_to_money(market)
    one_of_them_dies_in_the_middle_and_comes_back(market)
    a_region_goes_on_without_its_coordinator_whom_others_followed(market)
    a_hub_that_stands_still_is_noticed(market)
    every_ledger_is_valid_also_those_that_were_followed(market)


async def an_hour(market: Market) -> None:
    interval = await market.open_hour()
    await market.ended(interval)
    await market.scheduled(interval)


def check_optimum(market: Market) -> None:
    optimum = market.hours[-1][2]
    assert any(abs(reached - optimum) <= 1e-6 * optimum for reached in market.agreements())


def an_hour_from_offers_to_money(market: Market) -> None:
    consortium = market.consortium

    async def run() -> pb.ChainStatus | None:
        await an_hour(market)
        await consortium.rest(FOLLOWERS)
        return await consortium.status("zeta", HUB)

    found = asyncio.run(run())
    check_optimum(market)
    assert found is not None
    assert found.followed
    assert found.healthy
    assert not found.may_vote
    assert len(found.sources) == 2
    assert set(found.sources) <= set(SEATS[HUB])
    market.check_balances([market.hours[0][0]])
    shown = gridaccord("status", consortium.home("zeta")).stdout
    assert re.search(rf"{HUB} .* followed from \w+, \w+  healthy\n +regions +north, south, west\n", shown)
    question = ("prove", consortium.home("zeta"), "alpha", ASSET, "--chain", HUB)
    refused = gridaccord(*question, check=False)
    assert refused.returncode == 1
    assert "center is only followed here; ask a node with a seat of it (--address)" in refused.stderr
    assert "proven from genesis" in gridaccord(*question, "--address", f"127.0.0.1:{consortium.ports['beta']}").stdout


def one_of_them_dies_in_the_middle_and_comes_back(market: Market) -> None:
    async def run() -> None:
        market.at = "zeta"
        interval = await market.open_hour()
        market.consortium.kill("epsilon")
        await market.ended(interval)
        await market.scheduled(interval)
        market.consortium.start("epsilon")
        await market.consortium.ready(["epsilon"])
        market.at = "epsilon"
        await market.ended(interval)

    asyncio.run(run())
    check_optimum(market)


def a_region_goes_on_without_its_coordinator_whom_others_followed(market: Market) -> None:
    """The region's proofs reach the hub by nodes without a seat there: it has no others left."""
    consortium = market.consortium

    async def run() -> None:
        read = await consortium.status("epsilon", HUB)
        assert read is not None
        dead = next(name for name in read.sources if name != "delta")
        consortium.kill(dead)
        await an_hour(market)
        await consortium.rest(FOLLOWERS)
        for name in FOLLOWERS:
            found = await consortium.status(name, HUB)
            assert found is not None
            assert found.healthy
            assert dead not in found.sources
        consortium.start(dead)
        await consortium.ready([dead])

    asyncio.run(run())
    check_optimum(market)


def a_hub_that_stands_still_is_noticed(market: Market) -> None:
    consortium = market.consortium

    async def unhealthy() -> bool:
        found = await consortium.status("epsilon", HUB)
        return found is not None and not found.healthy and not found.sources

    async def healthy() -> bool:
        found = await consortium.status("epsilon", HUB)
        return found is not None and found.healthy

    async def run() -> None:
        assert f'gridaccord_healthy{{chain="{HUB}"}} 1.0' in consortium.metrics("epsilon")
        assert f'gridaccord_sources{{chain="{HUB}"}} 2.0' in consortium.metrics("epsilon")
        consortium.kill(*SEATS[HUB])
        await consortium.until("the hub is missed", unhealthy)
        for name in SEATS[HUB]:
            consortium.start(name)
        await consortium.until("the hub is followed again", healthy)

    asyncio.run(run())


def every_ledger_is_valid_also_those_that_were_followed(market: Market) -> None:
    consortium = market.consortium
    market.check_balances([hour[0] for hour in market.hours])
    consortium.kill(*consortium.organizations, number=signal.SIGTERM)
    consortium.audit_all()
    for name in FOLLOWERS:
        assert not (consortium.home(name) / "chains" / HUB / "sign.guard").exists(), "it never signs there"
        logged = [json.loads(line) for line in consortium.log(name).splitlines() if line.startswith("{")]
        assert not any(entry["level"] == "error" for entry in logged)
