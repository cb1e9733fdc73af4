"""Software of two adjacent versions in one consortium: together on the lower, then on the higher, no flag day."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from functools import partial

import pytest

from benchmarks.cluster import ORGANIZATIONS, Cluster
from coordinator.consensus.epochs import epoch_of
from coordinator.consensus.header import Header
from coordinator.consensus.signing import Ed25519Scheme
from coordinator.ledger import audit
from coordinator.ledger.block import decode_block
from coordinator.ledger.keys import load_key
from coordinator.ledger.transaction import Transaction, sign_transaction
from coordinator.service.modules import MODULES
from protos.gridaccord.v1 import ledger_pb2, service_pb2

SCRIPT = ("-m", "tests.coordinator.service.versioned")
PACE = {"delay_ms": 100, "heartbeat_ms": 100, "minimum_interval_ms": 50}
EPOCH_LENGTH = 20
NEW, OLD = ORGANIZATIONS[:3], ORGANIZATIONS[3]


@pytest.fixture
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes speak the versions 1 and 2, one speaks 1."""
    cluster = Cluster(tmp_path_factory.mktemp("versions"), pace=PACE, epoch_length=EPOCH_LENGTH)
    try:
        for name in NEW:
            cluster.start(name, "1", "2", script=SCRIPT)
        cluster.start(OLD, "1", "1", script=SCRIPT)
        asyncio.run(cluster.ready())
        yield cluster
    finally:
        cluster.__exit__(None, None, None)


async def signal_version(cluster: Cluster, organization: str, version: int) -> int:
    """A validator's signal; the height of its block."""
    name, key = f"{organization}-validator", load_key(cluster.home(organization) / "keys" / "validator.key")
    content = ledger_pb2.VersionSignal(version=version).SerializeToString()
    async with cluster.client(organization) as client:
        request = service_pb2.ParticipantRequest(chain_id=cluster.chain_id, participant=name)
        sequence = int((await client.call("GetParticipant", request)).next_sequence)
        body = Transaction(name, sequence, 10**9, "signal_version", content)
        signed = sign_transaction(key, cluster.chain_id, body)
        reply = await client.call("Submit", cluster.request(signed), 60.0)
    assert reply.code == "", reply.detail
    return int(reply.height)


async def header(cluster: Cluster, at: str, height: int) -> Header:
    await cluster.wait_until(lambda status: status.height >= height, (at,), 60.0)
    async with cluster.client(at, "auditor") as client:
        request = service_pb2.BlockRequest(chain_id=cluster.chain_id, height=height)
        return decode_block((await client.call("GetBlock", request)).block).header


def ended(cluster: Cluster, name: str) -> str:
    """What a node that stops by itself says last."""
    try:
        code = cluster.processes[name].wait(60)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{name} still runs:\n{cluster.log(name)[-3000:]}") from None
    assert code != 0
    return cluster.log(name)[-3000:]


def check_audit(cluster: Cluster, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a program that speaks both versions."""
    monkeypatch.setattr(audit, "machine_of", partial(audit.machine_of, versions=(1, 2)))
    report = audit.audit(cluster.ledger(name), MODULES, Ed25519Scheme(), chain_id=cluster.chain_id)
    assert report.finding is None, f"{name}: {report.finding}"


def test_an_upgrade_without_a_flag_day(mixed: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """What each program speaks decides; nobody has to stop when the others do."""
    heights = [asyncio.run(signal_version(mixed, name, 2)) for name in NEW]
    signalled = epoch_of(heights[-1], EPOCH_LENGTH)
    assert asyncio.run(header(mixed, "alpha", heights[-1])).version == 1
    # The old one goes along until it learns that the epoch after the next is not for it, and says so.
    reason = f"epoch {signalled + 2} uses protocol version 2, this software speaks 1 to 1: upgrade it"
    assert reason in ended(mixed, OLD)
    said = mixed.log(OLD).count(reason)
    mixed.start(OLD, "1", "1", script=SCRIPT)
    ended(mixed, OLD)
    assert mixed.log(OLD).count(reason) > said
    first = (signalled + 2) * EPOCH_LENGTH + 1
    versions = [asyncio.run(header(mixed, "beta", height)).version for height in (first - 1, first)]
    assert versions == [1, 2]
    mixed.start(OLD, "1", "2", script=SCRIPT)
    asyncio.run(mixed.wait_until(lambda status: status.height > first and status.may_vote, (OLD,), 60.0))
    # Upgraded, it votes: without one of the others its vote is needed.
    mixed.kill("alpha")
    asyncio.run(signal_version(mixed, "beta", 3))
    check_audit(mixed, "beta", monkeypatch)
    check_audit(mixed, OLD, monkeypatch)
    # And one that no longer speaks what is in force does not start.
    mixed.start("alpha", "3", "4", script=SCRIPT)
    assert "uses protocol version 2, this software speaks 3 to 4" in ended(mixed, "alpha")
