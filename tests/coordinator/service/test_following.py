"""A chain that is followed: what counts as final, and what becomes of sources that lie, withhold, lag or die."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.consensus.certificate import decode_certificate
from coordinator.consensus.errors import CertificateRefused, SafetyViolation
from coordinator.consensus.signing import Ed25519Scheme, VoteKind
from coordinator.ledger.audit import audit
from coordinator.ledger.block import Block, decode_block
from coordinator.ledger.errors import TransactionRefused
from coordinator.ledger.store import Finalized
from coordinator.ledger.transaction import decode_transaction
from coordinator.service.errors import CallFailed
from coordinator.service.followed_ledger import finalized_run
from coordinator.service.following import FollowedChain, Source
from coordinator.service.home import Pace, PeerSettings
from coordinator.service.log import Log
from coordinator.service.metrics import ChainMetrics, NodeMetrics
from coordinator.service.modules import MODULES
from coordinator.service.own_transactions import ForwardedTransactions
from protos.gridaccord.v1 import ledger_pb2
from protos.gridaccord.v1 import service_pb2 as pb
from tests.coordinator.ledger.support import PARTICIPANTS, VALIDATORS, Chain

PATIENCE_S = 0.5


class Quick(Pace):
    """Gives a source up after a third of a second."""

    @property
    def stands_after_s(self) -> float:
        return PATIENCE_S


def reply(entry: Finalized) -> pb.BlockReply:
    certificate = b"" if entry.certificate is None else entry.certificate.encode()
    return pb.BlockReply(block=entry.block.encode(), certificate=certificate)


@dataclass
class Node:
    """A validator's public interface: serves what is published, changed by `say`."""

    published: list[pb.BlockReply]
    is_up: bool = True
    is_silent: bool = False
    pause_s: float = 0.0
    """Before each block."""
    say: Callable[[pb.BlockReply], pb.BlockReply] = lambda reply: reply
    asked_from: list[int] = field(default_factory=list)
    open_streams: int = 0
    submitted: list[bytes] = field(default_factory=list)

    async def blocks(self, from_height: int) -> AsyncGenerator[pb.BlockReply, None]:
        self.asked_from.append(from_height)
        self.open_streams += 1
        try:
            while True:
                while self.is_silent or from_height > len(self.published):
                    self.check()
                    await asyncio.sleep(0.01)
                self.check()
                await asyncio.sleep(self.pause_s)
                yield self.say(self.published[from_height - 1])
                from_height += 1
        finally:
            self.open_streams -= 1

    def check(self) -> None:
        if not self.is_up:
            raise CallFailed("unavailable")

    async def submit(self, transaction: bytes) -> None:
        self.check()
        self.submitted.append(transaction)


class Hub:
    """A chain whose validators have nodes, and a node that follows it from a folder."""

    def __init__(self, folder: Path, epoch_length: int = 5) -> None:
        self.chain = Chain(epoch_length=epoch_length)
        self.published: list[pb.BlockReply] = []
        self.nodes = {name: Node(self.published) for name in (*VALIDATORS, *PARTICIPANTS)}
        self.metrics = NodeMetrics()
        self.logged = io.StringIO()
        self._folder = folder

    def grow(self, count: int = 1, *transactions: Any) -> None:
        for _ in range(count):
            self.published.append(reply(self.chain.make(*transactions)))
            transactions = ()

    def follower(self) -> FollowedChain:
        peers = [
            PeerSettings(name=name, organization=name, public_key=self.chain.key(name).hex(), address=name)
            for name in self.nodes
        ]

        @asynccontextmanager
        async def connect(peer: PeerSettings) -> AsyncIterator[Source]:
            self.nodes[peer.name].check()
            yield self.nodes[peer.name]

        metrics, log = ChainMetrics(self.metrics, "north"), Log(self.logged)
        return FollowedChain(self.chain.genesis, Quick(), self._folder, peers, connect, metrics, log)

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[FollowedChain]:
        following = self.follower()
        await following.open()
        work = asyncio.get_running_loop().create_task(following.run())
        try:
            async with asyncio.timeout(60):
                yield following
        finally:
            work.cancel()
            (ended,) = await asyncio.gather(work, return_exceptions=True)
            await following.close()
            assert isinstance(ended, asyncio.CancelledError), ended

    async def until(self, condition: Callable[[], object]) -> None:
        """Meanwhile the chain grows, as an idle one does."""
        while not condition():
            self.grow()
            await asyncio.sleep(0.05)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [entry for entry in map(json.loads, self.logged.getvalue().splitlines()) if entry["event"] == name]

    @property
    def faults(self) -> float:
        found = self.metrics.registry.get_sample_value("gridaccord_peer_faults_total", {"chain": "north"})
        assert found is not None
        return found


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_blocks_are_final_by_their_own_certificate_or_a_descendants(certified: list[bool]) -> None:
    chain = Chain(epoch_length=4)
    state = chain.state
    made = [chain.make(certified=has_certificate) for has_certificate in (*certified, True)]
    found = finalized_run(chain.machine, state, [(one.block, one.certificate) for one in made])
    assert [(one.block, one.certificate) for one in found] == [(one.block, one.certificate) for one in made]
    state = found[-1].applied.state
    assert (state.header, state.tree.root) == (chain.state.header, chain.state.tree.root)


def test_a_certificate_counts_for_its_block_and_of_the_validators_in_office_only() -> None:
    chain = Chain(epoch_length=2)
    state = chain.state
    first, second, third = (chain.make() for _ in range(3))
    validators = state.epoch_configs()[0].validators
    wrong = [
        second.certificate,
        third.certificate,
        chain.certificate(first.block.header, validators, VoteKind.NOTARIZE),
        replace(chain.certificate(first.block.header, validators), epoch=1),
        replace(chain.certificate(first.block.header, validators), signatures=(bytes(64),) * 3),
        replace(chain.certificate(first.block.header, validators), signers=(0, 1), signatures=(bytes(64),) * 2),
    ]
    for certificate in wrong:
        assert certificate is not None
        with pytest.raises(CertificateRefused):
            finalized_run(chain.machine, state, [(first.block, certificate)])


def test_what_a_quorum_finalized_and_does_not_follow_stops_it() -> None:
    chain = Chain()
    state = chain.state
    block = chain.make().block
    header = replace(block.header, state_root=bytes(32))
    certificate = chain.certificate(header, state.epoch_configs()[0].validators)
    with pytest.raises(SafetyViolation, match="block 1 is final and does not follow: state_root"):
        finalized_run(chain.machine, state, [(Block(header, block.payload), certificate)])


def test_it_is_followed_through_epochs_and_goes_on_where_it_was_after_a_restart(tmp_path: Path) -> None:
    hub = Hub(tmp_path)

    async def scenario() -> None:
        hub.grow(23, hub.chain.pay("alice", "bob", 5))
        async with hub.followed() as chain:
            told: list[int] = []
            chain.followers.append(lambda entries: told.extend(one.block.header.height for one in entries))
            await hub.until(lambda: chain.told.header.height >= 23 and len(chain.sources) == 2)
            assert set(chain.sources) <= set(VALIDATORS)
            assert chain.is_healthy
            assert told == list(range(1, chain.told.header.height + 1))
            reached = chain.told.header.height
        hub.grow(40)
        for node in hub.nodes.values():
            node.asked_from.clear()
        async with hub.followed() as chain:
            assert chain.told.header.height == reached
            await hub.until(lambda: chain.told.header.height >= 60)
            assert chain.told.tree.root == state_root(hub, chain.told.header.height)
        asked = [height for node in hub.nodes.values() for height in node.asked_from]
        assert asked
        assert min(asked) > reached

    asyncio.run(scenario())
    report = audit(tmp_path / "ledger.sqlite", MODULES, Ed25519Scheme(), chain_id=hub.chain.chain_id)
    assert report.finding is None
    assert hub.faults == 0


def state_root(hub: Hub, height: int) -> bytes:
    return decode_block(hub.published[height - 1].block).header.state_root


def garbage(honest: pb.BlockReply) -> pb.BlockReply:
    return pb.BlockReply(block=b"garbage", certificate=honest.certificate)


def another_payload(honest: pb.BlockReply) -> pb.BlockReply:
    block = ledger_pb2.Block.FromString(honest.block)
    block.payload += b"\0"
    return pb.BlockReply(block=block.SerializeToString(), certificate=honest.certificate)


def a_block_too_late(honest: pb.BlockReply) -> pb.BlockReply:
    header = decode_block(honest.block).header
    return pb.BlockReply(block=Block(replace(header, height=header.height + 1), b"").encode())


def a_block_that_nobody_signed(honest: pb.BlockReply) -> pb.BlockReply:
    header = decode_block(honest.block).header
    return pb.BlockReply(block=Block(replace(header, time_ms=header.time_ms + 1), b"").encode())


def signatures_of_nobody(honest: pb.BlockReply) -> pb.BlockReply:
    header = decode_block(honest.block).header
    header = replace(header, time_ms=header.time_ms + 1)
    signed = decode_certificate(honest.certificate)
    forged = replace(signed, digest=header.digest, signatures=(bytes(64),) * len(signed.signers))
    return pb.BlockReply(block=Block(header, b"").encode(), certificate=forged.encode())


LIES = [garbage, another_payload, a_block_too_late, a_block_that_nobody_signed, signatures_of_nobody]


@pytest.mark.parametrize("lie", LIES)
def test_a_source_that_lies_is_refused_and_the_next_one_takes_its_place(tmp_path: Path, lie: Any) -> None:
    hub = Hub(tmp_path)
    for name in VALIDATORS[:2]:
        hub.nodes[name].say = lie
    for name in VALIDATORS[2:]:
        hub.nodes[name].is_up = False

    def refused() -> set[str]:
        return {entry["peer"] for entry in hub.events("source refused")}

    async def scenario() -> None:
        async with hub.followed() as chain:
            await hub.until(lambda: refused() == set(VALIDATORS[:2]))
            assert chain.told.header.height == 0
            for name in VALIDATORS[2:]:
                hub.nodes[name].is_up = True
            await hub.until(lambda: chain.told.header.height >= 12 and set(chain.sources) == set(VALIDATORS[2:]))
            assert not chain.fault

    asyncio.run(scenario())
    assert refused() == set(VALIDATORS[:2])
    assert hub.faults == len(hub.events("source refused"))


def test_a_source_that_withholds_is_noticed_and_one_that_dies_replaced(tmp_path: Path) -> None:
    hub = Hub(tmp_path)
    hub.nodes["v0"].is_silent = True
    hub.nodes["v1"].is_up = hub.nodes["v3"].is_up = False

    async def scenario() -> None:
        async with hub.followed() as chain:
            await hub.until(lambda: hub.events("source withholds"))
            hub.nodes["v3"].is_up = True
            await hub.until(lambda: set(chain.sources) == {"v2", "v3"})
            hub.nodes["v1"].is_up, hub.nodes["v2"].is_up = True, False
            await hub.until(lambda: set(chain.sources) == {"v1", "v3"})
            assert chain.is_healthy

    asyncio.run(scenario())
    assert {entry["peer"] for entry in hub.events("source withholds")} == {"v0"}
    assert hub.faults == 0


def test_a_source_far_behind_gives_its_place_to_another(tmp_path: Path) -> None:
    hub = Hub(tmp_path, epoch_length=10**6)
    late = hub.nodes["v0"]
    late.pause_s = PATIENCE_S / 3
    hub.nodes["v1"].is_up = hub.nodes["v2"].is_up = False

    async def scenario() -> None:
        async with hub.followed() as chain:
            await hub.until(lambda: set(chain.sources) == {"v0", "v3"})
            hub.grow(300)
            await hub.until(lambda: any("others at" in one["reason"] for one in hub.events("source withholds")))
            late.pause_s = 0.0
            await hub.until(lambda: set(chain.sources) == {"v0", "v3"})

    asyncio.run(scenario())


def test_when_nobody_answers_it_is_unhealthy_until_somebody_does(tmp_path: Path) -> None:
    hub = Hub(tmp_path)
    for node in hub.nodes.values():
        node.is_up = False

    async def scenario() -> None:
        async with hub.followed() as chain:
            await hub.until(lambda: not chain.is_healthy)
            with pytest.raises(CallFailed, match="no validator of it can be reached"):
                await chain.submit(b"x")
            for name in VALIDATORS:
                hub.nodes[name].is_up = True
            await hub.until(lambda: chain.is_healthy and chain.told.header.height >= 3)
            assert not chain.fault

    asyncio.run(scenario())


def test_the_next_validators_are_read_from_once_they_are_in_office(tmp_path: Path) -> None:
    hub = Hub(tmp_path, epoch_length=4)
    members = ("v1", "v2", "v3", "carol")
    signal = ledger_pb2.ValidatorSignal(validators=members).SerializeToString()
    hub.nodes["v3"].is_up = hub.nodes["v2"].is_up = False

    async def scenario() -> None:
        async with hub.followed() as chain:
            await hub.until(lambda: set(chain.sources) == {"v0", "v1"})
            hub.grow(1, *(hub.chain.transaction(name, "signal_validators", signal) for name in VALIDATORS[:3]))
            await hub.until(lambda: set(chain.sources) == {"v1", "carol"})
            assert hub.nodes["v0"].open_streams == 0

    asyncio.run(scenario())
    assert hub.faults == 0


def test_two_final_histories_end_it_and_nothing_else(tmp_path: Path) -> None:
    hub = Hub(tmp_path, epoch_length=10**6)
    fork = Chain(epoch_length=10**6)

    async def scenario() -> None:
        async with hub.followed() as chain:
            await hub.until(lambda: len(chain.sources) == 2)
            for _ in range(len(hub.published) + 1):
                last = reply(fork.make(time_ms=fork.state.header.time_ms + 7))
            for name in VALIDATORS:
                hub.nodes[name].published = [*hub.published, last]
            while not chain.fault:
                await asyncio.sleep(0.02)
            assert "two different histories are final" in chain.fault
            assert not chain.is_healthy

    assert fork.chain_id == hub.chain.chain_id
    asyncio.run(scenario())
    assert len(hub.events("not followed any more")) == 1


def test_a_participant_is_heard_on_a_chain_that_it_follows(tmp_path: Path) -> None:
    hub = Hub(tmp_path)
    content = ledger_pb2.Transfer(to="bob", asset="EUR", amount=5).SerializeToString()

    async def scenario() -> None:
        async with hub.followed() as chain:
            await hub.until(lambda: len(chain.sources) == 2)
            own = ForwardedTransactions(chain, hub.chain.signer("alice"), "alice")
            outcomes = asyncio.gather(own.submit("transfer", content), own.submit("transfer", content))
            heard: set[bytes] = set()
            while not outcomes.done():
                given = {one for node in hub.nodes.values() for one in node.submitted} - heard
                heard |= given
                hub.grow(1, *map(decode_transaction, given))
                await asyncio.sleep(0.05)
            assert [outcome.receipt.code for outcome in outcomes.result()] == ["", ""]
            assert len(heard) == 2
            assert all(hub.nodes[name].submitted for name in chain.sources)
            stranger = ForwardedTransactions(chain, hub.chain.signer("mallory"), "mallory")
            with pytest.raises(TransactionRefused, match="mallory is no participant of north"):
                await stranger.submit("transfer", content)

    asyncio.run(scenario())
