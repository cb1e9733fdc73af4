"""Attacks on one of four nodes: its memory stays bounded, it says why it refuses, finality goes on meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from benchmarks.cluster import Cluster
from coordinator.ledger.keys import load_key
from coordinator.service.access import CONNECT, SUBMIT
from coordinator.service.errors import CallFailed, PeerRefused
from coordinator.service.home import Home
from coordinator.service.identity import ANY_NODE, check_answer
from protos.gridaccord.v1 import service_pb2 as pb

VICTIM = "alpha"
CONNECTIONS = 1_000
CONNECTIONS_BYTES_MAX = 192 * 2**20
"""What 1,000 connections may cost: 75 KiB one with TLS, measured, and what the allocator keeps of earlier ones."""
GROWTH_MAX = 48 * 2**20
"""What the other attacks may cost."""
PAYMENT_MAX_S = 20.0
NO_MESSAGE = "the bytes of the request are no such message"


def resident_bytes(cluster: Cluster, name: str = VICTIM) -> int:
    """Memory of a node's process."""
    lines = Path(f"/proc/{cluster.processes[name].pid}/status").read_text(encoding="ascii").splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("VmRSS"))
    return int(kib) * 1024


def files_of(cluster: Cluster) -> int:
    """How many files the victim has open, connections among them."""
    return len(os.listdir(f"/proc/{cluster.processes[VICTIM].pid}/fd"))


async def next_sequence(cluster: Cluster) -> int:
    async with cluster.client("beta", "auditor") as client:
        request = pb.ParticipantRequest(chain_id=cluster.chain_id, participant="gamma")
        return int((await client.call("GetParticipant", request)).next_sequence)


@asynccontextmanager
async def others_go_on(cluster: Cluster) -> AsyncIterator[None]:
    """Payments over another node, all the time: some become final during what stands inside, none takes long."""
    stop, seconds = asyncio.Event(), list[float]()
    sequence = await next_sequence(cluster)

    async def pay() -> None:
        async with cluster.client("beta") as client:
            while not stop.is_set() or not seconds:
                started = time.monotonic()
                transfer = cluster.transfer("gamma", sequence + len(seconds), "beta")
                reply = await client.call("Submit", cluster.request(transfer), 60.0)
                assert reply.code == ""
                seconds.append(time.monotonic() - started)

    paying = asyncio.create_task(pay())
    try:
        yield
    finally:
        stop.set()
        await paying
    print(f"{len(seconds)} payments, the slowest {max(seconds):.3f} s")
    assert max(seconds) < PAYMENT_MAX_S
    # The victim took part.
    height = (await status(cluster, "beta")).chains[0].height
    await cluster.wait_until(lambda chain: chain.height >= height, (VICTIM,), 60.0)


async def status(cluster: Cluster, name: str = VICTIM) -> Any:
    async with cluster.client(name, "auditor") as client:
        return await client.call("GetStatus", pb.StatusRequest(), 30.0)


def tls(cluster: Cluster) -> ssl.SSLContext:
    """With a certificate that may submit."""
    folder = cluster.home(VICTIM) / "tls"
    context = ssl.create_default_context(cafile=str(folder / "authority.pem"))
    context.load_cert_chain(folder / "gateway.pem", folder / "gateway.key")
    context.set_alpn_protocols(["h2"])
    return context


# HTTP/2 by hand, for what no client library does.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _END_HEADERS = 0, 1, 4, 4


def frame(kind: int, stream: int, payload: bytes, flags: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def call_headers(stream: int, path: str) -> bytes:
    """Each header a literal that is neither indexed nor compressed."""
    fields = {
        ":method": "POST",
        ":scheme": "https",
        ":path": path,
        ":authority": ANY_NODE,
        "te": "trailers",
        "content-type": "application/grpc",
    }
    block = b"".join(
        bytes((0, len(name))) + name.encode() + bytes((len(value),)) + value.encode() for name, value in fields.items()
    )
    return frame(_HEADERS, stream, block, _END_HEADERS)


async def open_tls(cluster: Cluster, context: ssl.SSLContext) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection(
        "127.0.0.1", cluster.ports[VICTIM], ssl=context, server_hostname=ANY_NODE, ssl_handshake_timeout=60
    )
    writer.write(_PREFACE + frame(_SETTINGS, 0, b""))
    return writer


async def open_tcp(cluster: Cluster) -> asyncio.StreamWriter:
    return (await asyncio.open_connection("127.0.0.1", cluster.ports[VICTIM]))[1]


def test_calls_that_come_byte_by_byte_or_are_never_read_hold_nobody_up(quartet: Cluster) -> None:
    """Slow loris: 200 calls whose request never ends, and 100 streams of blocks that nobody reads."""

    async def dribble(writer: asyncio.StreamWriter, streams: range) -> None:
        promised = b"\0" + struct.pack(">I", 1_000)
        for stream in streams:
            writer.write(call_headers(stream, SUBMIT) + frame(_DATA, stream, promised))
        for _ in range(10):
            for stream in streams:
                writer.write(frame(_DATA, stream, b"x"))
            await writer.drain()
            await asyncio.sleep(0.2)

    async def scenario() -> None:
        before = resident_bytes(quartet)
        async with others_go_on(quartet), quartet.client(VICTIM, "auditor") as reader:
            request = pb.StreamRequest(chain_id=quartet.chain_id, from_height=1)
            unread = [reader.stream(request) for _ in range(100)]
            for stream in unread:
                await anext(stream)
            writers = [await open_tls(quartet, tls(quartet)) for _ in range(4)]
            await asyncio.gather(*(dribble(writer, range(1, 101, 2)) for writer in writers))
            assert (await status(quartet)).node == VICTIM
            grown = resident_bytes(quartet) - before
            for writer in writers:
                writer.transport.abort()
            for stream in unread:
                await stream.aclose()
        print(f"grown by {grown >> 20} MiB")
        assert grown < GROWTH_MAX

    asyncio.run(scenario())


def test_a_peer_that_never_reads_costs_the_others_bounded_memory(quartet: Cluster) -> None:
    """Its process stands still, its streams stay open: what is for it piles up on the others, and is given up."""
    pid = quartet.processes["delta"].pid

    async def scenario() -> None:
        before = resident_bytes(quartet)
        os.kill(pid, signal.SIGSTOP)
        try:
            async with others_go_on(quartet):
                await asyncio.sleep(2.0)
            assert resident_bytes(quartet) - before < GROWTH_MAX
        finally:
            os.kill(pid, signal.SIGCONT)
        height = (await status(quartet)).chains[0].height
        await quartet.wait_until(lambda chain: chain.height >= height and chain.may_vote, ("delta",), 60.0)

    asyncio.run(scenario())


async def refused(cluster: Cluster, who: str, method: str, data: bytes) -> grpc.aio.AioRpcError:
    """How a call with these bytes ends."""
    mine = Home(cluster.home(VICTIM)).credentials(who)
    credentials = grpc.ssl_channel_credentials(mine.authority, mine.key, mine.certificate)
    options = (("grpc.ssl_target_name_override", ANY_NODE), ("grpc.max_send_message_length", -1))
    async with grpc.aio.secure_channel(f"127.0.0.1:{cluster.ports[VICTIM]}", credentials, options=options) as channel:
        call: Any = channel.unary_unary(method)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call(data, timeout=20)
    return failed.value


def test_bytes_that_are_no_message_and_methods_that_do_not_exist_are_refused(quartet: Cluster) -> None:
    async def scenario() -> None:
        broken = b"\x0a\xff\xff\xff\xff\x0fgarbage"
        for who in ("gateway", "auditor"):
            method = SUBMIT if who == "gateway" else "/gridaccord.v1.Ledger/StreamBlocks"
            ended = await refused(quartet, who, method, broken)
            assert (ended.code(), ended.details()) == (grpc.StatusCode.INVALID_ARGUMENT, NO_MESSAGE)
        unknown = await refused(quartet, "gateway", "/gridaccord.v1.Ledger/Shutdown", b"")
        assert unknown.code() is grpc.StatusCode.UNIMPLEMENTED
        tail = pb.SubmitRequest(chain_id=quartet.chain_id, transaction=os.urandom(500)).SerializeToString()
        assert (await refused(quartet, "gateway", SUBMIT, tail)).code() is grpc.StatusCode.FAILED_PRECONDITION
        assert (await status(quartet)).node == VICTIM

    asyncio.run(scenario())


def test_refusals_without_number_cost_a_bounded_log(quartet: Cluster) -> None:
    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in quartet.log(VICTIM).splitlines() if '"event": "refused"' in line]

    async def scenario() -> None:
        async with quartet.client(VICTIM, "auditor") as client:

            async def submit() -> None:
                with pytest.raises(CallFailed, match="permission_denied"):
                    await client.call("Submit", pb.SubmitRequest(chain_id=quartet.chain_id), 60.0)

            for _ in range(10):
                await asyncio.gather(*(submit() for _ in range(100)))

    before = len(lines())
    asyncio.run(scenario())
    assert 0 < len(lines()) - before < 500, "a burst of 200, and 10 a second"


def test_a_transaction_is_carried_out_once_however_often_it_comes(quartet: Cluster) -> None:
    async def scenario() -> None:
        sequence = await next_sequence(quartet)
        signed = quartet.transfer("gamma", sequence, "beta")
        async with quartet.client(VICTIM) as client:
            reply = await client.call("Submit", quartet.request(signed), 60.0)
            assert reply.code == ""
            for _ in range(3):
                with pytest.raises(CallFailed, match=f"sequence {sequence}; the next of gamma is {sequence + 1}"):
                    await client.call("Submit", quartet.request(signed))
            with pytest.raises(CallFailed, match="is not on this node"):
                await client.call("Submit", pb.SubmitRequest(chain_id=bytes(32), transaction=signed.encoded))
        await quartet.wait_until(lambda chain: chain.height >= reply.height, ("beta",), 60.0)
        assert await next_sequence(quartet) == sequence + 1

    asyncio.run(scenario())


CHUNK = pb.Chunk(chain_id=bytes(32), digest=bytes(32), size=2**31, data=b"x")
GAP = pb.Chunk(chain_id=bytes(32), digest=bytes(32), size=100, offset=7, data=b"x")
HOSTILE_FRAMES = (
    (bytes(3 * 2**20), grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"),
    (b"\x0a\xff\xff\xff\xff\x0fgarbage", grpc.StatusCode.INVALID_ARGUMENT, "its bytes are no frame"),
    (pb.Frame(chunk=CHUNK).SerializeToString(), grpc.StatusCode.INVALID_ARGUMENT, "a message of 2147483648 bytes"),
    (
        pb.Frame(chunk=GAP).SerializeToString(),
        grpc.StatusCode.INVALID_ARGUMENT,
        "parts of a long message are not in order",
    ),
)
BARRED = "broke the rules of its last stream"


async def send_as_peer(cluster: Cluster, dialer: str, data: bytes) -> tuple[grpc.StatusCode, str]:
    """Greet as the real peer would, then send bytes: how the stream ends."""
    async with asyncio.timeout(60), peer_channel(cluster, dialer, dialed_by(cluster)[1]) as channel:
        stream: Any = channel.stream_stream(CONNECT, response_deserializer=pb.Frame.FromString)()
        with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)):
            await stream.write(pb.Frame(challenge=pb.Challenge(nonce=bytes(32))).SerializeToString())
            if isinstance(await stream.read(), pb.Frame):
                await stream.write(data)
                while isinstance(await stream.read(), pb.Frame):
                    pass
            raise asyncio.InvalidStateError("the stream has ended")
        return await stream.code(), str(await stream.details())


def test_frames_that_are_wrong_end_the_stream_and_the_peer_has_to_wait(quartet: Cluster) -> None:
    """As each of the peers that dial the same node in turn, so that none has to wait long."""
    *dialers, dialed = sorted(quartet.ports, key=lambda name: public_key(quartet, name))

    async def scenario() -> None:
        for dialer, (data, code, reason) in zip((dialers[0], *dialers), HOSTILE_FRAMES, strict=True):
            ended = await send_as_peer(quartet, dialer, data)
            assert ended[0] is code
            assert reason in ended[1]
        # A refusal that comes before the challenge is written leaves gRPC's client without the reason.
        again = await send_as_peer(quartet, dialers[-1], b"")
        assert BARRED in again[1] or again[0] is grpc.StatusCode.INTERNAL
        for dialer in dialers:
            await until_connected(quartet, dialer, dialed)

    asyncio.run(scenario())
    log = quartet.log(dialed)
    for reason in (*(reason for _, _, reason in HOSTILE_FRAMES[1:]), BARRED):
        assert reason in log


async def until_connected(cluster: Cluster, dialer: str, dialed: str) -> None:
    """Until the real node has its stream again."""
    async with asyncio.timeout(60):
        while not {peer.name: peer.connected for peer in (await status(cluster, dialed)).peers}[dialer]:
            await asyncio.sleep(0.2)


def peer_channel(cluster: Cluster, dialer: str, dialed: str) -> grpc.aio.Channel:
    """With the certificate of a real peer."""
    mine = Home(cluster.home(dialer)).credentials()
    credentials = grpc.ssl_channel_credentials(mine.authority, mine.key, mine.certificate)
    options = (("grpc.ssl_target_name_override", ANY_NODE),)
    return grpc.aio.secure_channel(f"127.0.0.1:{cluster.ports[dialed]}", credentials, options=options)


async def answer_of(cluster: Cluster, dialer: str, dialed: str, nonce: bytes) -> pb.Answer:
    """What the node that is dialed answers a challenge."""
    async with peer_channel(cluster, dialer, dialed) as channel:
        stream: Any = channel.stream_stream(CONNECT, pb.Frame.SerializeToString, pb.Frame.FromString)()
        await stream.write(pb.Frame(challenge=pb.Challenge(nonce=nonce)))
        first = await stream.read()
        stream.cancel()
    assert isinstance(first, pb.Frame)
    return first.answer


def public_key(cluster: Cluster, name: str) -> bytes:
    return load_key(cluster.home(name) / "keys" / "validator.key").public_key


def dialed_by(cluster: Cluster) -> tuple[str, str]:
    """A node and one that it dials: the lowest key dials all."""
    ordered = sorted(cluster.ports, key=lambda name: public_key(cluster, name))
    return ordered[0], ordered[-1]


def test_an_answer_is_for_one_challenge_and_one_dialer(quartet: Cluster) -> None:
    dialer, dialed = dialed_by(quartet)
    answer = asyncio.run(answer_of(quartet, dialer, dialed, bytes(32)))
    authority = Home(quartet.home(dialer)).credentials().authority
    mine, its = public_key(quartet, dialer), public_key(quartet, dialed)
    assert check_answer(answer.certificate, answer.signature, authority, bytes(32), mine, its).name == dialed
    for nonce, other_dialer, answerer in (
        (bytes([1]) * 32, mine, its),
        (bytes(32), its, its),
        (bytes(32), mine, mine),
    ):
        with pytest.raises(PeerRefused):
            check_answer(answer.certificate, answer.signature, authority, nonce, other_dialer, answerer)
    asyncio.run(until_connected(quartet, dialer, dialed))


def test_a_peer_that_opens_streams_without_end_is_held_back(quartet: Cluster) -> None:
    """With the certificate of a real peer: its own streams suffer, and come back; finality does not notice."""
    dialer, dialed = dialed_by(quartet)
    codes: list[grpc.StatusCode] = []

    async def open_one(connect: Callable[[], Any]) -> None:
        stream = connect()
        try:
            await stream.write(pb.Frame(challenge=pb.Challenge(nonce=bytes(32))))
            answered = isinstance(await stream.read(), pb.Frame)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            answered = False
        if not answered:
            codes.append(await stream.code())
        stream.cancel()

    async def scenario() -> None:
        async with peer_channel(quartet, dialer, dialed) as channel, others_go_on(quartet):
            connect: Any = channel.stream_stream(CONNECT, pb.Frame.SerializeToString, pb.Frame.FromString)
            opening: list[Awaitable[None]] = [open_one(connect) for _ in range(60)]
            await asyncio.gather(*opening)

    asyncio.run(scenario())
    assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) > 20, codes

    asyncio.run(until_connected(quartet, dialer, dialed))


def test_a_thousand_connections_at_once_cost_bounded_memory_and_nobody_else(quartet: Cluster) -> None:
    """Half of them never say a word, half show a good certificate; three times, so that leaks would add up."""
    context, before_files = tls(quartet), files_of(quartet)

    def files() -> int:
        return files_of(quartet)

    async def attack() -> int:
        writers = await asyncio.gather(
            *(open_tcp(quartet) if number % 2 else open_tls(quartet, context) for number in range(CONNECTIONS))
        )
        assert (await status(quartet)).node == VICTIM, "it still answers others"
        assert files() > before_files + CONNECTIONS // 2, "the connections are there"
        held = resident_bytes(quartet)
        for writer in writers:
            writer.transport.abort()
        async with asyncio.timeout(60):
            while files() > before_files + CONNECTIONS // 20:
                await asyncio.sleep(0.05)
        return held

    async def scenario() -> None:
        before = resident_bytes(quartet)
        async with others_go_on(quartet):
            held = [await attack() for _ in range(3)]
        print(f"{before >> 20} MiB before, with the connections {[one >> 20 for one in held]} MiB")
        assert max(held) - before < CONNECTIONS_BYTES_MAX

    asyncio.run(scenario())
