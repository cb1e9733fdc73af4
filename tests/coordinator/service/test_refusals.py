"""Peers and calls that must be refused, against one node that runs as a process; each refusal says why."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from benchmarks.cluster import Cluster, gridaccord
from coordinator.consensus.signing import Ed25519Signer
from coordinator.ledger.keys import load_key
from coordinator.service.access import CONNECT
from coordinator.service.client import Client
from coordinator.service.errors import CallFailed
from coordinator.service.home import Home
from coordinator.service.identity import (
    ANY_NODE,
    Authority,
    Credentials,
    Role,
    issue,
    load_authority,
    make_authority,
    make_revocations,
    read_identity,
)
from protos.gridaccord.v1 import service_pb2 as pb

NOW = datetime.datetime.now(datetime.UTC)
SIGNER = Ed25519Signer(bytes(range(32)))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Only alpha runs: it answers status, and finalizes nothing."""
    cluster = Cluster(tmp_path_factory.mktemp("refusals"))
    try:
        cluster.start("alpha")
        asyncio.run(cluster.wait_until(lambda status: True, ("alpha",), 30.0))
        yield cluster
    finally:
        cluster.__exit__(None, None, None)


@pytest.fixture
def authority(node: Cluster) -> Authority:
    folder = node.folder / "authority"
    return load_authority((folder / "authority.key").read_bytes(), (folder / "authority.pem").read_bytes())


async def status(node: Cluster, credentials: Credentials) -> Any:
    async with Client(f"127.0.0.1:{node.ports['alpha']}", credentials) as client:
        return await client.call("GetStatus", pb.StatusRequest(), 5.0)


def refusal(node: Cluster, credentials: Credentials) -> str:
    with pytest.raises(CallFailed) as failed:
        asyncio.run(status(node, credentials))
    return str(failed.value)


async def connect(node: Cluster, credentials: Credentials, *frames: pb.Frame) -> grpc.aio.AioRpcError:
    """Open a peer's stream, send frames, and say how it ended."""
    mine = grpc.ssl_channel_credentials(credentials.authority, credentials.key, credentials.certificate)
    options = (("grpc.ssl_target_name_override", ANY_NODE), ("grpc.max_send_message_length", -1))
    async with (
        asyncio.timeout(20),
        grpc.aio.secure_channel(f"127.0.0.1:{node.ports['alpha']}", mine, options=options) as channel,
    ):
        open_stream: Any = channel.stream_stream(CONNECT, pb.Frame.SerializeToString, pb.Frame.FromString)
        stream = open_stream()
        with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)):
            for frame in frames:
                await stream.write(frame)
            while await stream.read() is not grpc.aio.EOF:
                pass
            raise asyncio.InvalidStateError("the stream has ended")
        # The error of a write does not say why; the status of the stream does.
        nothing = grpc.aio.Metadata()
        return grpc.aio.AioRpcError(await stream.code(), nothing, nothing, await stream.details())


def issued(authority: Authority, *roles: Role, start: datetime.datetime = NOW, days: int = 1) -> Credentials:
    return issue(authority, SIGNER, "mallory", "mallory", roles, start, days)


def test_a_good_certificate_is_served(node: Cluster, authority: Authority) -> None:
    assert asyncio.run(status(node, issued(authority, Role.AUDITOR))).node == "alpha"


def test_a_certificate_of_another_authority_gets_no_connection(node: Cluster, authority: Authority) -> None:
    foreign = issued(make_authority("other", NOW, 1), Role.VALIDATOR)
    mixed = Credentials(foreign.key, foreign.certificate, issued(authority, Role.AUDITOR).authority)
    assert "unavailable" in refusal(node, mixed)


def test_an_expired_certificate_gets_no_connection(node: Cluster, authority: Authority) -> None:
    old = issued(authority, Role.AUDITOR, start=NOW - datetime.timedelta(days=9))
    assert "unavailable" in refusal(node, old)


def test_no_certificate_gets_no_connection(node: Cluster) -> None:
    async def call() -> None:
        trusted = Home(node.home("alpha")).credentials().authority
        options = (("grpc.ssl_target_name_override", ANY_NODE),)
        bare = grpc.ssl_channel_credentials(trusted)
        async with grpc.aio.secure_channel(f"127.0.0.1:{node.ports['alpha']}", bare, options=options) as channel:
            method: Any = channel.unary_unary("/gridaccord.v1.Ledger/GetStatus")
            await method(b"", timeout=5.0)

    with pytest.raises(grpc.aio.AioRpcError) as failed:
        asyncio.run(call())
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_role_decides_what_may_be_called(node: Cluster, authority: Authority) -> None:
    async def submit() -> None:
        async with Client(f"127.0.0.1:{node.ports['alpha']}", issued(authority, Role.AUDITOR)) as client:
            await client.call("Submit", node.request(node.transfer("alpha", 0, "beta")))

    with pytest.raises(CallFailed, match=r"permission_denied: mallory has the roles auditor; .*Submit"):
        asyncio.run(submit())
    ended = asyncio.run(connect(node, issued(authority, Role.GATEWAY)))
    assert ended.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "mallory has the roles gateway" in node.log("alpha")


def test_a_validator_that_is_no_peer_is_refused(node: Cluster, authority: Authority) -> None:
    ended = asyncio.run(connect(node, issued(authority, Role.VALIDATOR)))
    assert ended.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "no peer of this node" in str(ended.details())


def test_a_certificate_that_is_not_bound_to_its_key_is_refused(node: Cluster, authority: Authority) -> None:
    class Thief(Ed25519Signer):
        """Names a key that it does not hold."""

        @property
        def public_key(self) -> bytes:
            return load_key(node.home("beta") / "keys" / "validator.key").public_key

    stolen = issue(authority, Thief(bytes(32)), "beta", "beta", (Role.VALIDATOR,), NOW, 1)
    assert "not bound to its consensus key" in refusal(node, stolen)


def test_a_revoked_certificate_is_refused_without_a_restart(node: Cluster, authority: Authority) -> None:
    mine = issued(authority, Role.AUDITOR)
    assert asyncio.run(status(node, mine)).node == "alpha"
    listed = make_revocations(authority, [read_identity(mine.certificate, mine.authority).serial], NOW)
    path = node.home("alpha") / "tls" / "revoked.pem"
    path.write_bytes(listed)

    async def until_refused() -> str:
        async with asyncio.timeout(10):
            while True:
                try:
                    await status(node, mine)
                except CallFailed as error:
                    return str(error)
                await asyncio.sleep(0.05)

    assert "of mallory is revoked" in asyncio.run(until_refused())


def test_a_renewed_certificate_is_used_without_a_restart(node: Cluster) -> None:
    tls = node.home("alpha") / "tls"
    before = (tls / "node.pem").read_bytes()
    port = node.ports["alpha"]
    gridaccord("renew", node.folder, "alpha")
    fresh = Home(node.home("alpha")).credentials()
    assert fresh.certificate != before

    def served() -> bytes:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(tls / "node.pem", tls / "node.key")
        context.set_alpn_protocols(["h2"])
        with context.wrap_socket(socket.create_connection(("127.0.0.1", port), 5)) as connection:
            found = connection.getpeercert(binary_form=True)
        assert found is not None
        return ssl.DER_cert_to_PEM_cert(found).encode()

    async def until_served() -> None:
        async with asyncio.timeout(10):
            while (await asyncio.to_thread(served)).strip() != fresh.certificate.strip():
                await asyncio.sleep(0.05)

    asyncio.run(until_served())


@pytest.mark.parametrize(("version", "works"), [(ssl.TLSVersion.TLSv1_2, False), (ssl.TLSVersion.TLSv1_3, True)])
def test_nothing_less_than_tls_1_3(node: Cluster, version: ssl.TLSVersion, works: bool) -> None:
    tls = node.home("alpha") / "tls"
    context = ssl.create_default_context(cafile=str(tls / "authority.pem"))
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(tls / "auditor.pem", tls / "auditor.key")
    context.set_alpn_protocols(["h2"])

    def handshake() -> str | None:
        with context.wrap_socket(
            socket.create_connection(("127.0.0.1", node.ports["alpha"]), 5), server_hostname=ANY_NODE
        ) as connection:
            return connection.version()

    if works:
        assert handshake() == "TLSv1.3"
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            handshake()


def test_an_oversize_message_is_refused_before_it_is_read(node: Cluster) -> None:
    async def submit() -> None:
        async with Client(
            f"127.0.0.1:{node.ports['alpha']}", Home(node.home("alpha")).credentials("gateway")
        ) as client:
            await client.call("Submit", pb.SubmitRequest(chain_id=node.chain_id, transaction=bytes(3 * 2**20)))

    with pytest.raises(CallFailed, match="resource_exhausted"):
        asyncio.run(submit())
    assert asyncio.run(status(node, Home(node.home("alpha")).credentials("auditor"))).node == "alpha"


def test_a_connection_that_never_says_anything_is_closed(node: Cluster) -> None:
    with socket.create_connection(("127.0.0.1", node.ports["alpha"]), 20) as connection:
        connection.settimeout(15)
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("surprise: 1", "surprise"),
        ("name: ''", "name"),
        ("certificate_days: 0", "certificate_days"),
        ("chains: [{name: hub, validators: [nobody]}]", "nobody is no organization"),
    ],
)
def test_a_consortium_file_that_is_wrong_leaves_nothing(
    node: Cluster, tmp_path: Path, change: str, reason: str
) -> None:
    key = change.partition(":")[0]
    lines, skipping = [], False
    for line in node.file.read_text(encoding="utf-8").splitlines():
        skipping = line.startswith(f"{key}:") or (skipping and line.startswith((" ", "-")))
        if not skipping:
            lines.append(line)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("\n".join([*lines, change]), encoding="utf-8")
    failed = gridaccord("init", wrong, "-o", tmp_path / "out", check=False)
    assert failed.returncode == 1
    assert reason in failed.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.yaml"]
