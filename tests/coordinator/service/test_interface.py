"""What a node offers beside transactions and blocks: proofs of history, checkpoints, health, reflection, metrics."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.cluster import CHAIN, ORGANIZATIONS, Cluster
from coordinator.consensus.certificate import decode_certificate
from coordinator.consensus.header import Header
from coordinator.consensus.light_client import LightClient
from coordinator.consensus.signing import Ed25519Scheme
from coordinator.ledger.block import decode_block
from coordinator.ledger.checkpoint import Checkpoint, NoteKey, verify_checkpoint
from coordinator.ledger.errors import CheckpointError, ProofRefused
from coordinator.ledger.history import verify_consistency, verify_inclusion
from coordinator.ledger.keys import load_key
from coordinator.ledger.merkle import OpeningError
from coordinator.service.errors import CallFailed
from coordinator.service.home import Home
from coordinator.service.identity import ANY_NODE
from protos.gridaccord.v1 import service_pb2 as pb

SCHEME = Ed25519Scheme()


def note_key(cluster: Cluster, name: str) -> NoteKey:
    return NoteKey(name, load_key(cluster.home(name) / "keys" / "validator.key").public_key)


async def checkpoint_note(cluster: Cluster, name: str) -> bytes:
    async with cluster.client(name, "auditor") as client:
        reply = await client.call("GetCheckpoint", pb.CheckpointRequest(chain_id=cluster.chain_id))
    return bytes(reply.note)


async def checkpoint(cluster: Cluster, name: str) -> Checkpoint:
    note = await checkpoint_note(cluster, name)
    return verify_checkpoint(note, note_key(cluster, name), cluster.chain_id, SCHEME)


async def history(cluster: Cluster, name: str, **request: Any) -> pb.HistoryReply:
    async with cluster.client(name, "auditor") as client:
        reply: pb.HistoryReply = await client.call(
            "ProveHistory", pb.HistoryRequest(chain_id=cluster.chain_id, **request)
        )
    return reply


async def final_header(cluster: Cluster, name: str, height: int) -> Header:
    """A header of the first epoch, by its own finalization or a later one's in the chain of parents."""
    await cluster.wait_until(lambda status: status.height >= height + 3, (name,), 60.0)
    genesis = Home(cluster.home(name)).genesis(CHAIN)
    light = LightClient(genesis.validators, genesis.epoch_length, SCHEME)
    headers: list[Header] = []
    async with cluster.client(name, "auditor") as client:
        while True:
            request = pb.BlockRequest(chain_id=cluster.chain_id, height=height + len(headers))
            reply = await client.call("GetBlock", request)
            headers.append(decode_block(reply.block).header)
            assert len(headers) == 1 or headers[-1].parent_digest == headers[-2].digest
            if reply.certificate:
                light.verify(headers[-1], decode_certificate(reply.certificate))
                return headers[0]


def test_a_checkpoint_is_signed_by_the_validator_and_no_other_and_a_change_is_noticed(quartet: Cluster) -> None:
    note = asyncio.run(checkpoint_note(quartet, "alpha"))
    found = verify_checkpoint(note, note_key(quartet, "alpha"), quartet.chain_id, SCHEME)
    assert found.size > 2
    with pytest.raises(CheckpointError):
        verify_checkpoint(note, note_key(quartet, "beta"), quartet.chain_id, SCHEME)
    with pytest.raises(CheckpointError):
        verify_checkpoint(note, note_key(quartet, "alpha"), bytes(32), SCHEME)
    changed = note.replace(f"\n{found.size}\n".encode(), f"\n{found.size + 1}\n".encode())
    assert changed != note
    with pytest.raises(CheckpointError, match="not valid"):
        verify_checkpoint(changed, note_key(quartet, "alpha"), quartet.chain_id, SCHEME)


def test_a_checkpoint_is_a_prefix_of_what_another_node_has_later_and_of_what_is_final(quartet: Cluster) -> None:
    async def scenario() -> None:
        first = await checkpoint(quartet, "alpha")
        await quartet.wait_until(lambda status: status.height >= first.size + 2, ("beta",), 60.0)
        later = await history(quartet, "beta", size=first.size)
        assert later.size > first.size
        verify_consistency(first.size, later.size, first.root, later.root, later.proof)
        with pytest.raises((ProofRefused, OpeningError)):
            verify_consistency(first.size, later.size, bytes(32), later.root, later.proof)
        # The header after the last leaf commits to exactly this history, and a quorum has signed it.
        assert (await final_header(quartet, "gamma", later.size)).history_root == later.root

    asyncio.run(scenario())


def test_a_block_stands_in_the_history(quartet: Cluster) -> None:
    async def scenario() -> None:
        header = await final_header(quartet, "beta", 2)
        reply = await history(quartet, "alpha", height=2, inclusion=True)
        verify_inclusion(reply.root, reply.size, 2, header.digest, reply.proof)
        with pytest.raises((ProofRefused, OpeningError)):
            verify_inclusion(reply.root, reply.size, 3, header.digest, reply.proof)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "request_",
    [{"size": 0}, {"size": 2**64 - 1}, {"size": 10**9}, {"height": 2**64 - 1, "inclusion": True}],
)
def test_what_the_history_has_not_is_refused_with_the_reason(quartet: Cluster, request_: dict[str, Any]) -> None:
    with pytest.raises(CallFailed, match=r"not_found: the history has \d+ headers"):
        asyncio.run(history(quartet, "alpha", **request_))


def channel(cluster: Cluster, name: str) -> grpc.Channel:
    mine = Home(cluster.home(name)).credentials("auditor")
    credentials = grpc.ssl_channel_credentials(mine.authority, mine.key, mine.certificate)
    options = (("grpc.ssl_target_name_override", ANY_NODE),)
    return grpc.secure_channel(f"127.0.0.1:{cluster.ports[name]}", credentials, options=options)


def until(condition: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.1)


def test_health_of_a_chain_turns_when_it_stops_finalizing_and_back(quartet: Cluster) -> None:
    serving, failing = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    stopped = [quartet.processes[name].pid for name in ORGANIZATIONS[2:]]
    with channel(quartet, "alpha") as connection:
        stub: Any = health_pb2_grpc.HealthStub(connection)

        def health(service: str) -> int:
            return int(stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=20).status)

        watched = stub.Watch(health_pb2.HealthCheckRequest(service=CHAIN), timeout=200)
        assert (health(CHAIN), health("")) == (serving, serving)
        assert next(watched).status == serving
        with pytest.raises(grpc.RpcError) as failed:
            health("no such chain")
        assert failed.value.code() is grpc.StatusCode.NOT_FOUND
        try:
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            until(lambda: health(CHAIN) == failing, "two of four are away and the chain is healthy")
            until(lambda: health("") == failing, "the node is healthy with a chain that is not")
            assert next(watched).status == failing
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        until(lambda: (health(CHAIN), health("")) == (serving, serving), "all are back")
        assert next(watched).status == serving


def test_reflection_describes_the_services_so_that_a_stranger_can_call_them(quartet: Cluster) -> None:
    with channel(quartet, "beta") as connection:
        database = ProtoReflectionDescriptorDatabase(connection)
        assert set(database.get_services()) == {
            "gridaccord.v1.Ledger",
            "gridaccord.v1.Peer",
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        file = database.FindFileContainingSymbol("gridaccord.v1.Ledger")
        methods = {method.name for service in file.service for method in service.method if service.name == "Ledger"}
        assert {"Submit", "GetStatus", "ProveHistory", "GetCheckpoint"} <= methods


def scrape(cluster: Cluster) -> dict[tuple[str, tuple[str, ...]], float]:
    """The values of alpha's Prometheus page by name and labels."""
    settings = yaml.safe_load((cluster.home("alpha") / "node.yaml").read_text(encoding="utf-8"))
    with urllib.request.urlopen(f"http://{settings['metrics']}/metrics", timeout=20) as page:
        families = list(text_string_to_metric_families(page.read().decode()))
    return {
        (sample.name, tuple(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


def test_the_prometheus_page_shows_what_the_node_does(quartet: Cluster) -> None:
    before = scrape(quartet)
    height, refusals = ("gridaccord_height", (CHAIN,)), ("gridaccord_refusals_total", ("permission_denied",))
    until(lambda: scrape(quartet)[height] > before[height], "the height grows")

    async def submit_as_auditor() -> None:
        async with quartet.client("alpha", "auditor") as client:
            await client.call("Submit", pb.SubmitRequest(chain_id=quartet.chain_id))

    with pytest.raises(CallFailed, match="permission_denied"):
        asyncio.run(submit_as_auditor())
    until(lambda: scrape(quartet)[("gridaccord_healthy", (CHAIN,))] == 1.0, "the chain is healthy")
    until(
        lambda: all(scrape(quartet)[("gridaccord_peer_connected", (name,))] == 1.0 for name in ORGANIZATIONS[1:]),
        "all peers are connected",
    )
    after = scrape(quartet)
    assert after[refusals] == before.get(refusals, 0.0) + 1
    assert after[("gridaccord_finality_seconds_count", (CHAIN,))] > 0
    assert after[("gridaccord_sync_seconds_count", (CHAIN,))] > before[("gridaccord_sync_seconds_count", (CHAIN,))]
    assert {"gridaccord_view", "gridaccord_epoch", "gridaccord_transactions_waiting", "gridaccord_peer_queued"} <= {
        name for name, _ in after
    }
