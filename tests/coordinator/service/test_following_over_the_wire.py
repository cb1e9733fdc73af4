"""A node that follows the hub, and four that validate it, over TLS in one process.

It alone validates the regions: what they say to the hub, and the hub to them, only it can carry.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from coordinator.consensus.messages import Vote, encode
from coordinator.consensus.round import NO_VALUE
from coordinator.consensus.signing import VoteKind, vote_bytes
from coordinator.ledger.keys import load_key
from coordinator.ledger.registry import CURRENT, committee, participant_of
from coordinator.service.errors import CallFailed
from coordinator.service.home import Home
from coordinator.service.log import Log
from coordinator.service.node import Node
from tests.coordinator.service.consortium_harness import HUB, ORGANIZATIONS, OWNED, REGIONS, Consortium
from tests.coordinator.service.small_market import small_hours, write_grid
from tests.coordinator.service.test_intervals import CREDIT, Market

FOLLOWER = "epsilon"
AMOUNT = 1000


class Nodes:
    """Of a consortium, in this process."""

    def __init__(self, consortium: Consortium) -> None:
        self.consortium = consortium
        self.log = io.StringIO()
        self.running: dict[str, Node] = {}
        self._stopping: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str) -> None:
        node, stopping = Node(Home(self.consortium.home(name)), Log(self.log)), asyncio.Event()
        self.running[name], self._stopping[name] = node, stopping
        self._tasks[name] = asyncio.get_running_loop().create_task(node.run(stopping=stopping))

    async def stop(self, *names: str) -> None:
        for name in names:
            del self.running[name]
            self._stopping[name].set()
        await asyncio.gather(*(self._tasks.pop(name) for name in names))


@asynccontextmanager
async def nodes_of(consortium: Consortium, names: Sequence[str]) -> AsyncIterator[Nodes]:
    nodes = Nodes(consortium)
    for name in names:
        nodes.start(name)
    try:
        await consortium.ready(names)
        yield nodes
    finally:
        await nodes.stop(*nodes.running)


def founded(folder: Path, **options: Any) -> Consortium:
    """Regions of one validator, which has no seat of the hub."""
    seats = {HUB: ORGANIZATIONS, **dict.fromkeys(REGIONS, (FOLLOWER,))}
    return Consortium(folder, organizations=(*ORGANIZATIONS, FOLLOWER), seats=seats, **options)


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return founded(tmp_path)


async def paid(consortium: Consortium, at: str) -> None:
    sid = await consortium.open(FOLLOWER, "north", "south:beta", AMOUNT, at=at)
    assert await consortium.decided(sid, at) == "commit"
    await consortium.rest([FOLLOWER])


def test_money_moves_between_regions_whose_only_validator_follows_the_hub(consortium: Consortium) -> None:
    async def scenario() -> None:
        async with nodes_of(consortium, consortium.organizations) as nodes:
            await paid(consortium, "alpha")
            with pytest.raises(CallFailed, match="chain center is only followed here"):
                await consortium.open(FOLLOWER, "north", "south:beta", AMOUNT, at=FOLLOWER)
            status = await consortium.status(FOLLOWER, HUB)
            assert status is not None
            assert (status.followed, status.may_vote, status.healthy, len(status.sources)) == (True, False, True, 2)
            await nodes.stop(status.sources[0])
            await paid(consortium, next(name for name in ORGANIZATIONS if name != status.sources[0]))
            await nodes.stop(FOLLOWER)
            nodes.start(FOLLOWER)
            await consortium.ready([FOLLOWER])
            await paid(consortium, status.sources[1])
        logged = [json.loads(line) for line in nodes.log.getvalue().splitlines()]
        assert not [entry for entry in logged if entry["level"] == "error"]

    asyncio.run(scenario())
    assert consortium.balance(FOLLOWER, "north", FOLLOWER) == OWNED - 3 * AMOUNT
    assert consortium.balance(FOLLOWER, "south", "beta") == OWNED + 3 * AMOUNT
    consortium.audit_all()


def test_an_interval_goes_from_offers_to_money_in_regions_that_only_follow_the_hub(tmp_path: Path) -> None:
    intervals = {**write_grid(tmp_path), "stepper": "alpha", "collateral": 10**10, "step_blocks": 200}
    names, hours = small_hours(tmp_path, 1, 1)
    consortium = founded(tmp_path, limit=10**12, credit=CREDIT, intervals=intervals)
    market = Market(consortium, hours, names, at=FOLLOWER)

    async def scenario() -> None:
        async with nodes_of(consortium, consortium.organizations):
            interval = await market.open_hour()
            await market.ended(interval)
            await market.scheduled(interval)
            await consortium.rest([FOLLOWER])

    asyncio.run(scenario())
    optimum = market.hours[0][2]
    assert any(abs(reached - optimum) <= 1e-6 * optimum for reached in market.agreements())
    market.check_balances([market.hours[0][0]])


def test_a_node_without_a_seat_has_no_vote(consortium: Consortium) -> None:
    """It is a participant, and its streams to the hub's validators are those of a peer: votes on them are faults."""
    genesis, signer = consortium.genesis[HUB], load_key(Home(consortium.home(FOLLOWER)).validator_key)

    async def scenario() -> None:
        async with nodes_of(consortium, consortium.organizations) as nodes:
            alpha = load_key(Home(consortium.home("alpha")).validator_key).public_key
            before = await consortium.status("alpha", HUB)
            assert before is not None
            for view in range(before.view, before.view + 200):
                signature = signer.sign(vote_bytes(VoteKind.NULLIFY, genesis.chain_id, 0, view, *NO_VALUE))
                vote = Vote(VoteKind.NULLIFY, before.epoch, view, *NO_VALUE, signature)
                nodes.running[FOLLOWER]._transport.post(genesis.chain_id, alpha, encode(vote))

            async def refused() -> bool:
                return '"reason": "it votes and is no validator of this epoch"' in nodes.log.getvalue()

            await consortium.until("they are refused", refused)
            state = consortium.state("alpha", HUB)
            names = committee(state.view, CURRENT).names
            assert f"{FOLLOWER}-validator" not in names
            assert participant_of(state.view, f"{FOLLOWER}-validator") is not None

            async def goes_on() -> bool:
                found = await consortium.status("alpha", HUB)
                return found is not None and found.height > before.height + 5

            await consortium.until("the hub goes on", goes_on)

    asyncio.run(scenario())
