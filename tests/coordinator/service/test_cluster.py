"""Four nodes as four processes with TLS between them: they finalize, survive a kill, and everything adds up after."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.cluster import ORGANIZATIONS, Cluster, gridaccord
from coordinator.consensus.signing import Ed25519Scheme
from coordinator.ledger.audit import audit
from coordinator.service.errors import CallFailed
from coordinator.service.home import Home
from coordinator.service.modules import MODULES
from coordinator.service.proving import verify_account, verify_receipt
from protos.gridaccord.v1 import service_pb2 as pb

PACE = {"delay_ms": 100, "heartbeat_ms": 200}
MONEY = 10**12
OTHERS = ORGANIZATIONS[1:]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), pace=PACE, epoch_length=30) as cluster:
        asyncio.run(cluster.ready())
        yield cluster


async def next_sequence(cluster: Cluster, name: str, at: str) -> int:
    async with cluster.client(at) as client:
        request = pb.ParticipantRequest(chain_id=cluster.chain_id, participant=name)
        return int((await client.call("GetParticipant", request)).next_sequence)


async def pay(cluster: Cluster, name: str, to: str, amount: int, at: str | None = None) -> pb.SubmitReply:
    sequence = await next_sequence(cluster, name, at or name)
    async with cluster.client(at or name) as client:
        reply: pb.SubmitReply = await client.call(
            "Submit", cluster.request(cluster.transfer(name, sequence, to, amount)), 30.0
        )
    return reply


async def balance(cluster: Cluster, owner: str, at: str) -> int:
    """Proven from genesis, not believed."""
    genesis = Home(cluster.home(at)).genesis("hub")
    async with cluster.client(at, "auditor") as client:
        request = pb.AccountRequest(chain_id=cluster.chain_id, owner=owner, asset="EUR")
        proof = await client.call("ProveAccount", request)
    return verify_account(proof, owner, "EUR", genesis, Ed25519Scheme())[1].balance


def check_audits(cluster: Cluster) -> None:
    for name in ORGANIZATIONS:
        report = audit(cluster.ledger(name), MODULES, Ed25519Scheme(), chain_id=cluster.chain_id)
        assert report.finding is None, f"{name}: {report.finding}"
        assert report.height > 0


def test_a_transaction_is_final_on_every_node_and_proven(running: Cluster) -> None:
    async def scenario() -> None:
        reply = await pay(running, "alpha", "beta", 5)
        assert reply.code == ""
        await running.wait_until(lambda status: status.height >= reply.height, ORGANIZATIONS)
        genesis = Home(running.home("gamma")).genesis("hub")
        for name in ORGANIZATIONS:
            async with running.client(name, "auditor") as client:
                request = pb.TransactionRequest(chain_id=running.chain_id, digest=reply.digest)
                proof = await client.call("GetTransaction", request)
            header, receipt = verify_receipt(proof, reply.digest, genesis, Ed25519Scheme())
            assert (header.height, receipt.code) == (reply.height, "")

    asyncio.run(scenario())


def test_a_transaction_that_cannot_stand_in_a_block_is_refused_with_the_reason(running: Cluster) -> None:
    async def scenario() -> None:
        wrong = running.transfer("alpha", 0, "beta")
        async with running.client("alpha") as client:
            known = await next_sequence(running, "alpha", "alpha")
            with pytest.raises(CallFailed, match=rf"sequence {known + 10**6}"):
                await client.call("Submit", running.request(running.transfer("alpha", known + 10**6, "beta")))
            request = pb.SubmitRequest(chain_id=running.chain_id, transaction=wrong.encoded[:-1])
            with pytest.raises(CallFailed, match="failed_precondition"):
                await client.call("Submit", request)

    asyncio.run(scenario())


def test_finalized_blocks_are_streamed(running: Cluster) -> None:
    async def scenario() -> list[int]:
        heights = []
        async with asyncio.timeout(20), running.client("delta", "auditor") as client:
            async for reply in client.stream(pb.StreamRequest(chain_id=running.chain_id, from_height=1)):
                heights.append(len(heights) + 1)
                assert reply.block
                if len(heights) == 5:
                    break
        return heights

    assert asyncio.run(scenario()) == [1, 2, 3, 4, 5]


def test_a_killed_node_comes_back_and_nothing_settled_is_lost(running: Cluster) -> None:
    async def scenario() -> None:
        paid = [await pay(running, "beta", "gamma", 7)]
        running.kill("delta", signal.SIGKILL)
        paid += [await pay(running, name, "alpha", 11) for name in ("beta", "gamma", "beta")]
        top = max(reply.height for reply in paid)
        running.start("delta")
        await running.wait_until(lambda status: status.height >= top and status.may_vote, ("delta",), 30.0)
        # With another one away, finality needs the vote of the one that came back.
        running.kill("alpha", signal.SIGKILL)
        reply = await pay(running, "delta", "gamma", 13)
        assert reply.code == ""
        running.start("alpha")
        await running.wait_until(lambda status: status.height >= reply.height, ORGANIZATIONS, 30.0)
        for at in ORGANIZATIONS:
            assert sum([await balance(running, owner, at) for owner in ORGANIZATIONS]) == 4 * MONEY
            async with running.client(at, "auditor") as client:
                for one in paid:
                    request = pb.TransactionRequest(chain_id=running.chain_id, digest=one.digest)
                    assert (await client.call("GetTransaction", request)).receipt

    asyncio.run(scenario())
    check_audits(running)


@pytest.mark.parametrize(("lost", "options"), [(("ledger",), ()), (("ledger", "sign"), ("--rejoin",))])
def test_a_wiped_disk_comes_back_without_voting_twice(
    running: Cluster, lost: tuple[str, ...], options: tuple[str, ...]
) -> None:
    """With the guard its loss is noticed; without, the operator has to say so."""
    before = running.log("gamma").count('"rejoin": true')

    async def scenario() -> None:
        running.kill("gamma", signal.SIGTERM)
        for name in lost:
            for path in running.ledger("gamma").parent.glob(f"{name}.*"):
                path.unlink()
        reply = await pay(running, "alpha", "beta", 3)
        running.start("gamma", *options)
        await running.wait_until(lambda status: status.height >= reply.height and status.may_vote, ("gamma",), 30.0)

    asyncio.run(scenario())
    assert running.log("gamma").count('"rejoin": true') == before + 1
    check_audits(running)


def test_commands_against_a_running_node(running: Cluster) -> None:
    home = running.home("alpha")
    submitted = json.loads(
        gridaccord("submit", home, "transfer", '{"to": "beta", "asset": "EUR", "amount": 2}', "--json").stdout
    )
    assert submitted["code"] == ""
    proven = json.loads(gridaccord("prove", home, submitted["digest"], "--json").stdout)
    assert proven["height"] == submitted["height"]
    account = json.loads(gridaccord("prove", home, "nobody", "EUR", "--json").stdout)
    assert account["balance"] == 0
    status = json.loads(gridaccord("status", home, "--json").stdout)
    assert status["chains"][0]["healthy"]
    assert [peer["connected"] for peer in status["peers"]] == [True] * 3
    ready = gridaccord("submit", home, "signal_version", '{"version": 2}', "--json")
    assert json.loads(ready.stdout)["code"] == "", "signals are the validator's"
    failed = gridaccord("submit", home, "transfer", '{"to": "nobody", "asset": "EUR", "amount": 2}', check=False)
    assert failed.returncode == 1
    assert "unknown_participant" in failed.stderr


def test_a_stopped_node_ends_in_order(running: Cluster) -> None:
    running.kill("beta", signal.SIGTERM)
    assert running.processes["beta"].returncode == 0
    running.start("beta")
    asyncio.run(running.wait_until(lambda status: status.may_vote and status.height > 0, ("beta",), 30.0))


def test_init_never_overwrites(running: Cluster, tmp_path: Path) -> None:
    key = running.home("alpha") / "keys" / "validator.key"
    before = key.read_bytes()
    again = gridaccord("init", running.file, "-o", running.folder, check=False)
    assert again.returncode == 1
    assert "exists already" in again.stderr
    assert key.read_bytes() == before
    private = list(running.folder.rglob("*.key"))
    assert len(private) == 4 * 5 + 1
    assert all(path.stat().st_mode & 0o077 == 0 for path in private)
