"""Signed meter readings through four real nodes: they reach every ledger, and nothing else does."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from benchmarks.cluster import ORGANIZATIONS, Cluster
from coordinator.consensus.signing import Ed25519Scheme, Ed25519Signer
from coordinator.ledger.audit import AuditReport, audit
from coordinator.ledger.envelope import Holder, KeyClaim, prove_possession
from coordinator.ledger.keys import load_key
from coordinator.ledger.readings import Column, MeterBatch, SignedColumn, sign_column
from coordinator.ledger.transaction import Transaction, sign_transaction
from coordinator.service.errors import CallFailed
from coordinator.service.modules import MODULES
from protos.gridaccord.v1 import ledger_pb2
from protos.gridaccord.v1 import service_pb2 as pb

PACE = {"delay_ms": 100, "heartbeat_ms": 100}
WITHIN_S = 90.0
MINUTE_S = 60
PAST_S = int(time.time()) // MINUTE_S * MINUTE_S - 20 * 86_400
WITHHOLDING = """
import typer
from actors.serve import serve
from coordinator.service.batch_serving import Serving
Serving.requested = lambda self, peer, request: None
typer.run(serve)
"""
LYING = """
import typer
from actors.serve import serve
from coordinator.service.batch_serving import Serving
from protos.gridaccord.v1 import service_pb2 as pb
honest = Serving._window
def wrong(self, request):
    parts = honest(self, request)
    return [pb.BatchPart(chain_id=part.chain_id, root=part.root, size=part.size, offset=part.offset,
                         data=part.data[:-1] + bytes([part.data[-1] ^ 1])) for part in parts]
Serving._window = wrong
typer.run(serve)
"""

UNCHECKING = """
import typer
from actors.serve import serve
from coordinator.service.batch_checks import BatchChecks
BatchChecks._check = lambda self, copy, below, state, now_s: None
typer.run(serve)
"""


def meter(name: str) -> Ed25519Signer:
    return Ed25519Signer(hashlib.sha256(name.encode()).digest())


def column(
    cluster: Cluster,
    device: str,
    start_s: int,
    registers: Sequence[int],
    *,
    step_s: int = MINUTE_S,
    version: int = 0,
    signer: Ed25519Signer | None = None,
) -> SignedColumn:
    clocks = tuple((start_s + step_s * (n + 1)) * 1000 + 7 for n in range(len(registers)))
    unsigned = Column(device, start_s, step_s, version, clocks, tuple(registers))
    return sign_column(signer or meter(device), cluster.chain_id, unsigned)


def batch(*columns: SignedColumn) -> MeterBatch:
    return MeterBatch(os.urandom(16), columns)


async def register(cluster: Cluster, owner: str, *devices: str) -> None:
    """On every node that runs: one that lags knows no new device yet."""
    signer = load_key(cluster.home(owner) / "keys" / "participant.key")
    async with cluster.client(owner) as client:
        request = pb.ParticipantRequest(chain_id=cluster.chain_id, participant=owner)
        sequence = (await client.call("GetParticipant", request)).next_sequence
        for number, device in enumerate(devices):
            claim = KeyClaim(Holder.DEVICE, device, owner, owner)
            content = ledger_pb2.NewDevice(
                device=device,
                public_key=meter(device).public_key,
                possession=prove_possession(meter(device), cluster.chain_id, claim),
            )
            body = Transaction(owner, sequence + number, 10**6, "register_device", content.SerializeToString())
            signed = sign_transaction(signer, cluster.chain_id, body)
            reply = await client.call("Submit", cluster.request(signed), 60.0)
            assert reply.code == ""
    alive = [name for name in ORGANIZATIONS if cluster.processes[name].poll() is None]
    await at_height(cluster, reply.height, alive)


async def submit(cluster: Cluster, at: str, given: MeterBatch) -> pb.SubmitReply:
    async with cluster.client(at) as client:
        return await client.submit_readings(cluster.chain_id, given, WITHIN_S)


async def at_height(cluster: Cluster, height: int, names: Sequence[str] = ORGANIZATIONS) -> None:
    await cluster.wait_until(lambda status: status.height >= height, names, WITHIN_S)


def audits(cluster: Cluster) -> list[AuditReport]:
    reports = []
    for name in ORGANIZATIONS:
        report = audit(cluster.ledger(name), MODULES, Ed25519Scheme(), chain_id=cluster.chain_id)
        assert report.finding is None, f"{name}: {report.finding}\n{cluster.log(name)[-3000:]}"
        reports.append(report)
    return reports


def readings(cluster: Cluster) -> int:
    """How many every node has; all have as many, and none is missing."""
    found = audits(cluster)
    assert {report.readings_pruned for report in found} == {0}
    (count,) = {report.readings for report in found}
    return count


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("readings"), pace=PACE) as cluster:
        asyncio.run(cluster.ready())
        yield cluster


def test_a_batch_is_in_every_ledger(running: Cluster) -> None:
    async def scenario() -> None:
        await register(running, "alpha", "meter-1", "meter-2")
        replies = [
            await submit(running, "alpha", batch(column(running, "meter-1", PAST_S, (5, 6, 7)))),
            await submit(running, "beta", batch(column(running, "meter-2", PAST_S, (1, 1)))),
            # A correction of the second interval, by another node than the first.
            await submit(running, "gamma", batch(column(running, "meter-1", PAST_S + 60, (7,), version=1))),
        ]
        assert [reply.code for reply in replies] == ["", "", ""]
        await at_height(running, max(reply.height for reply in replies))

    asyncio.run(scenario())
    assert readings(running) == 6


def test_a_batch_that_comes_again_while_it_is_under_way_has_one_outcome(running: Cluster) -> None:
    before = readings(running)

    async def scenario() -> None:
        await register(running, "alpha", "meter-5")
        given = batch(column(running, "meter-5", PAST_S, (1, 2)))
        lost = asyncio.create_task(submit(running, "alpha", given))
        await asyncio.sleep(0.05)
        lost.cancel()
        replies = []
        async with running.client("alpha", "gateway") as client:
            try:
                replies.append(await client.submit_readings(running.chain_id, given, WITHIN_S))
            except CallFailed as error:
                assert "delivered before" in str(error)
        reply = await submit(running, "alpha", batch(column(running, "meter-5", PAST_S + 120, (3,))))
        assert {one.code for one in (*replies, reply)} == {""}
        await at_height(running, reply.height)

    asyncio.run(scenario())
    assert readings(running) == before + 3


def test_what_is_wrong_is_refused_with_the_reason_and_changes_nothing(running: Cluster) -> None:
    first = batch(column(running, "meter-3", PAST_S, (10, 20)))

    async def scenario() -> None:
        await register(running, "gamma", "meter-3")
        reply = await submit(running, "alpha", first)
        await at_height(running, reply.height)

    asyncio.run(scenario())
    before = readings(running)
    wrong = {
        "the signature is not the device's": column(running, "meter-3", PAST_S + 120, (30,), signer=meter("other")),
        "delivered before": first.columns[0],
        "runs backwards": column(running, "meter-3", PAST_S + 120, (19,)),
        "not a registered device": column(running, "nobody", PAST_S, (1,)),
        "has not ended": column(running, "meter-3", PAST_S + 40 * 86_400, (30,)),
    }

    async def refused() -> None:
        for reason, bad in wrong.items():
            for at in ("alpha", "delta"):
                with pytest.raises(CallFailed, match=f"failed_precondition: .*{reason}"):
                    await submit(running, at, batch(bad))
        async with running.client("alpha") as client:
            request = pb.ParticipantRequest(chain_id=running.chain_id, participant="delta-validator")
            sequence = (await client.call("GetParticipant", request)).next_sequence
            content = first.commitment.SerializeToString()
            signer = load_key(running.home("alpha") / "keys" / "participant.key")
            lonely = sign_transaction(signer, running.chain_id, Transaction("alpha", 99, 10**6, "readings", content))
            with pytest.raises(CallFailed, match="SubmitReadings"):
                await client.call("Submit", running.request(lonely))
            again = (await client.call("GetParticipant", request)).next_sequence
            assert again == sequence
        async with running.client("alpha", "auditor") as client:
            with pytest.raises(CallFailed, match="permission_denied"):
                await client.submit_readings(running.chain_id, batch(column(running, "meter-3", PAST_S + 120, (30,))))

    asyncio.run(refused())
    assert readings(running) == before


def test_a_batch_that_is_longer_or_shorter_than_it_says_is_refused(running: Cluster) -> None:
    encoded = batch(column(running, "meter-3", PAST_S + 600, (50,))).encode()
    cases: list[tuple[str, list[pb.ReadingsPart]]] = [
        ("a batch of 0 bytes", [pb.ReadingsPart(chain_id=running.chain_id, data=encoded)]),
        ("1 to 67108864", [pb.ReadingsPart(chain_id=running.chain_id, size=2**31, data=encoded)]),
        ("end after", [pb.ReadingsPart(chain_id=running.chain_id, size=len(encoded) + 1, data=encoded)]),
        ("longer than", [pb.ReadingsPart(chain_id=running.chain_id, size=len(encoded) - 1, data=encoded)]),
        ("MeterBatch", [pb.ReadingsPart(chain_id=running.chain_id, size=3, data=b"\xff\xff\xff")]),
        ("not on this node", []),
    ]

    async def send(parts: Sequence[pb.ReadingsPart]) -> None:
        async def stream() -> AsyncIterator[pb.ReadingsPart]:
            for part in parts:
                yield part

        async with running.client("beta") as client:
            await client.send_readings(stream(), WITHIN_S)

    for reason, parts in cases:
        with pytest.raises(CallFailed, match=reason):
            asyncio.run(send(parts))


def test_a_node_that_was_away_gets_the_batch(running: Cluster) -> None:
    before = readings(running)

    async def scenario() -> None:
        await register(running, "alpha", "meter-4")
        running.kill("gamma", signal.SIGKILL)
        reply = await submit(running, "alpha", batch(column(running, "meter-4", PAST_S, (1, 2, 3))))
        assert reply.code == ""
        running.start("gamma")
        await at_height(running, reply.height)
        # And from nothing: all blocks with all batches.
        running.kill("beta", signal.SIGTERM)
        for path in running.ledger("beta").parent.glob("*.sqlite*"):
            path.unlink()
        running.start("beta")
        await running.wait_until(lambda one: one.height >= reply.height and one.may_vote, ("beta",), WITHIN_S)

    asyncio.run(scenario())
    assert readings(running) == before + 3


@pytest.mark.parametrize("program", [WITHHOLDING, LYING], ids=["withholding", "lying"])
def test_a_proposer_that_gives_nobody_its_batch_stops_nothing(running: Cluster, program: str) -> None:
    before, name = readings(running), "hidden-" + hashlib.sha256(program.encode()).hexdigest()[:4]

    async def scenario() -> None:
        await register(running, "delta", name, name + "-b")
        running.kill("delta", signal.SIGTERM)
        running.start("delta", script=("-c", program))
        await running.wait_until(lambda status: status.may_vote, ("delta",), WITHIN_S)
        hidden = asyncio.create_task(submit(running, "delta", batch(column(running, name, PAST_S, (4, 5)))))
        at = (await status(running, "alpha")).height
        await at_height(running, at + 12, ("alpha", "beta", "gamma"))
        open_batch = await submit(running, "alpha", batch(column(running, name + "-b", PAST_S, (6,))))
        assert open_batch.code == ""
        assert not hidden.done(), "nobody has voted for it"
        # Honest again, it gives what it has kept, and the transaction that the others have kept is carried out.
        running.kill("delta", signal.SIGKILL)
        with pytest.raises(CallFailed):
            await hidden
        running.start("delta")
        async with asyncio.timeout(WITHIN_S):
            while not await delivered_before(running, "alpha", batch(column(running, name, PAST_S, (4, 5)))):
                await asyncio.sleep(0.1)
        await at_height(running, (await status(running, "alpha")).height)

    asyncio.run(scenario())
    assert readings(running) == before + 3


def test_a_proposer_that_commits_to_a_wrong_batch_stops_nothing(running: Cluster) -> None:
    before = readings(running)

    async def scenario() -> None:
        await register(running, "delta", "wrong", "right")
        first = await submit(running, "beta", batch(column(running, "wrong", PAST_S, (100,))))
        assert first.code == ""
        running.kill("delta", signal.SIGTERM)
        running.start("delta", script=("-c", UNCHECKING))
        await running.wait_until(lambda one: one.may_vote and one.height >= first.height, ("delta",), WITHIN_S)
        backwards = asyncio.create_task(submit(running, "delta", batch(column(running, "wrong", PAST_S + 60, (99,)))))
        async with asyncio.timeout(WITHIN_S):
            while "runs backwards" not in running.log("alpha"):
                await asyncio.sleep(0.1)
        await at_height(running, (await status(running, "alpha")).height + 8, ("alpha", "beta", "gamma"))
        right = await submit(running, "alpha", batch(column(running, "right", PAST_S, (6,))))
        assert right.code == ""
        assert not backwards.done()
        running.kill("delta", signal.SIGKILL)
        with pytest.raises(CallFailed):
            await backwards
        running.start("delta")
        await at_height(running, (await status(running, "alpha")).height + 8)

    asyncio.run(scenario())
    assert readings(running) == before + 2


async def status(cluster: Cluster, at: str) -> pb.ChainStatus:
    async with cluster.client(at, "auditor") as client:
        return (await client.call("GetStatus", pb.StatusRequest())).chains[0]


async def delivered_before(cluster: Cluster, at: str, given: MeterBatch) -> bool:
    """Whether these readings are final; otherwise they are now."""
    try:
        reply = await submit(cluster, at, given)
    except CallFailed as error:
        return "delivered before" in str(error)
    return reply.code == ""


@pytest.mark.parametrize("seed", range(2))
def test_what_was_accepted_as_final_survives_kills(running: Cluster, seed: int) -> None:
    rng, before, final = random.Random(seed), readings(running), 0
    name = f"killed-{seed}"

    async def until_killed(start: int) -> int:
        done = 0
        while True:
            try:
                await submit(
                    running, "alpha", batch(column(running, name, PAST_S + 60 * (start + done), (start + done,)))
                )
            except CallFailed as error:
                assert "delivered before" in str(error) or "unavailable" in str(error) or "cancelled" in str(error)
                if "delivered before" not in str(error):
                    return done
            done += 1

    async def scenario() -> int:
        await register(running, "alpha", name)
        done = 0
        for _ in range(3):
            work = asyncio.create_task(until_killed(done))
            await asyncio.sleep(rng.uniform(0.1, 1.0))
            running.kill("alpha", signal.SIGKILL)
            done += await work
            running.start("alpha")
            await running.wait_until(lambda one: one.may_vote and one.height > 0, ("alpha",), WITHIN_S)
        reply = await submit(running, "beta", batch(column(running, name, PAST_S + 86_400, (10**6,))))
        await at_height(running, reply.height)
        return done + 1

    final = asyncio.run(scenario())
    assert final <= readings(running) - before <= final + 3, f"seed {seed}"


def test_all_nodes_killed_at_once_go_on(running: Cluster) -> None:
    """What was voted for is final after the restart or can be submitted again; the chain never misses a batch."""
    before = readings(running)

    async def attempt(name: str, at: str) -> None:
        try:
            await submit(running, at, batch(column(running, name, PAST_S, (1, 2))))
        except CallFailed as error:
            assert "unavailable" in str(error) or "cancelled" in str(error), error

    async def scenario() -> None:
        names = [f"all-{at}" for at in ORGANIZATIONS]
        await register(running, "alpha", *names)
        work = [asyncio.create_task(attempt(name, at)) for name, at in zip(names, ORGANIZATIONS, strict=True)]
        await asyncio.sleep(0.15)
        for at in ORGANIZATIONS:
            os.kill(running.processes[at].pid, signal.SIGKILL)
        await asyncio.gather(*work)
        for at in ORGANIZATIONS:
            running.processes[at].wait(20)
            running.start(at)
        await running.wait_until(lambda one: one.may_vote and one.height > 0, ORGANIZATIONS, WITHIN_S)
        for name in names:
            assert await delivered_before(running, "beta", batch(column(running, name, PAST_S, (1, 2))))
        await at_height(running, (await status(running, "beta")).height)

    asyncio.run(scenario())
    assert readings(running) == before + 8


def test_many_batches_at_once_and_one_of_many_windows(running: Cluster) -> None:
    before = readings(running)
    names = [f"fleet-{number}" for number in range(4)]

    async def scenario() -> None:
        await register(running, "beta", *names)
        long = batch(
            *(
                column(running, names[0], PAST_S + 4096 * number, range(4096 * number, 4096 * (number + 1)), step_s=1)
                for number in range(18)
            )
        )
        assert len(long.encode()) > 2**20
        short = [batch(column(running, name, PAST_S, (1, 2, 3))) for name in names[1:4]]
        calls = [submit(running, at, one) for at, one in zip(ORGANIZATIONS[:3], short, strict=True)]
        replies = await asyncio.gather(submit(running, "delta", long), *calls)
        assert {reply.code for reply in replies} == {""}
        await at_height(running, max(reply.height for reply in replies))

    asyncio.run(scenario())
    assert readings(running) == before + 18 * 4096 + 9


def test_readings_are_pruned_and_a_node_that_comes_later_says_so(tmp_path: Path) -> None:
    parameters = {"late_limit_s": "4"}
    with Cluster(tmp_path, pace={"delay_ms": 100, "heartbeat_ms": 10}, parameters=parameters) as cluster:

        async def scenario() -> None:
            await cluster.ready()
            await register(cluster, "alpha", "meter-1")
            start_s = int(time.time()) - 2
            reply = await submit(cluster, "alpha", batch(column(cluster, "meter-1", start_s, (5,), step_s=1)))
            assert reply.code == ""
            await until_pruned(cluster, ("alpha", "beta", "gamma"))
            cluster.kill("delta", signal.SIGTERM)
            for path in cluster.ledger("delta").parent.glob("*.sqlite*"):
                path.unlink()
            cluster.start("delta")
            height = (await status(cluster, "alpha")).height
            await cluster.wait_until(lambda one: one.height >= height and one.may_vote, ("delta",), WITHIN_S)

        asyncio.run(scenario())
        assert [(report.readings, report.readings_pruned) for report in audits(cluster)] == [(0, 1)] * 4


async def until_pruned(cluster: Cluster, names: Sequence[str]) -> None:
    await poll(lambda: all("readings pruned" in cluster.log(name) for name in names))


async def poll(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(2 * WITHIN_S):
        while not condition():
            await asyncio.sleep(0.1)
