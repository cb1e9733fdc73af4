"""One of five validators signs two votes in a view: it is convicted, loses its seat, and four go on without it."""

from __future__ import annotations

import asyncio
import signal
from contextlib import closing
from pathlib import Path

from benchmarks.cluster import Cluster
from coordinator.consensus.certificate import decode_certificate
from coordinator.consensus.epochs import boundary_height, epoch_of
from coordinator.consensus.header import decode_header
from coordinator.consensus.signing import Ed25519Scheme
from coordinator.ledger.audit import audit
from coordinator.ledger.database import open_database
from coordinator.ledger.misconduct import offences
from coordinator.ledger.registry import CURRENT, PREVIOUS, committee
from coordinator.service.modules import MODULES
from protos.gridaccord.v1 import service_pb2 as pb
from tests.coordinator.service.consortium_harness import durable_state

FIVE = ("alpha", "beta", "gamma", "delta", "epsilon")
CULPRIT, HONEST = "epsilon", FIVE[:-1]
PACE = {"delay_ms": 100, "heartbeat_ms": 100}
EPOCH_LENGTH = 20
WITHIN_S = 180.0
BYZANTINE = ("-m", "tests.coordinator.service.byzantine")
USURPED = "it votes and is no validator of this epoch"


def test_a_convict_loses_its_seat_two_epochs_later_and_the_four_others_go_on(tmp_path: Path) -> None:
    with Cluster(tmp_path, organizations=FIVE, pace=PACE, epoch_length=EPOCH_LENGTH) as running:
        asyncio.run(running.ready())
        running.kill(CULPRIT, signal.SIGTERM)
        running.start(CULPRIT, "equivocate", script=BYZANTINE)
        convicted_in = asyncio.run(convicted(running))
        asyncio.run(finalize(running, HONEST, boundary_height(convicted_in + 2, EPOCH_LENGTH)))
        asyncio.run(tried_to_vote(running))
        go_on_with_three_of_four(running)
        for name in FIVE:
            running.kill(name, signal.SIGTERM)
        for name in HONEST:
            check_ledger(running, name, convicted_in)


async def convicted(running: Cluster) -> int:
    """The epoch of the block with the first evidence, once every honest node has it: nobody was asked to bring it."""

    async def epoch_at(name: str) -> int:
        while not (found := offences(durable_state(running.ledger(name)).view, f"{CULPRIT}-validator")):
            await asyncio.sleep(0.1)
        return epoch_of(min(one.height for one in found), EPOCH_LENGTH)

    async with asyncio.timeout(WITHIN_S):
        epochs = {await epoch_at(name) for name in HONEST}
    assert len(epochs) == 1
    return epochs.pop()


async def finalize(running: Cluster, names: tuple[str, ...], height: int) -> None:
    """Until these nodes have so many final blocks."""
    await running.wait_until(lambda chain: chain.height >= height, names, WITHIN_S)


async def tried_to_vote(running: Cluster) -> None:
    """Until an honest node has refused a vote of the convict's."""
    async with asyncio.timeout(WITHIN_S):
        while not any(USURPED in running.log(name) for name in HONEST):
            await asyncio.sleep(0.1)


def go_on_with_three_of_four(running: Cluster) -> None:
    """Of five that would be too few: the quorum is that of four, and payments are carried out."""
    running.kill("delta", signal.SIGKILL)
    running.kill(CULPRIT, signal.SIGKILL)
    reply = asyncio.run(pay(running, 0))
    running.start("delta")
    running.start(CULPRIT, "equivocate", script=BYZANTINE)
    asyncio.run(finalize(running, HONEST, reply.height + EPOCH_LENGTH))
    assert asyncio.run(pay(running, 1)).height > reply.height


async def pay(running: Cluster, sequence: int) -> pb.SubmitReply:
    """One of beta's."""
    async with running.client("beta") as client:
        reply: pb.SubmitReply = await client.call(
            "Submit", running.request(running.transfer("beta", sequence, "gamma")), WITHIN_S
        )
    assert reply.code == ""
    return reply


def check_ledger(running: Cluster, name: str, convicted_in: int) -> None:
    """It is valid; from the second epoch after the conviction on, certificates are of four validators."""
    report = audit(running.ledger(name), MODULES, Ed25519Scheme(), chain_id=running.chain_id)
    assert report.finding is None, f"{name}: {report.finding}"
    view = durable_state(running.ledger(name)).view
    for slot in (PREVIOUS, CURRENT):
        assert sorted(committee(view, slot).names) == sorted(f"{one}-validator" for one in HONEST)
    assert not any(offences(view, f"{one}-validator") for one in HONEST)
    sizes = certificate_sizes(running.ledger(name))
    assert {size for epoch, size in sizes if epoch >= convicted_in + 2} == {4}
    assert {size for epoch, size in sizes if epoch < convicted_in + 2} == {5}


def certificate_sizes(ledger: Path) -> list[tuple[int, int]]:
    """Epoch and number of validators of every finality certificate."""
    with closing(open_database(ledger, read_only=True)) as connection:
        rows = connection.execute(
            "SELECT header, certificate FROM blocks JOIN certificates USING (height) WHERE height > 0"
        ).fetchall()
    return [(decode_header(header).epoch, decode_certificate(data).size) for header, data in rows]
