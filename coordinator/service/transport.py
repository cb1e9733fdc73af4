"""One bidirectional stream to every other node, for all chains. The node with the lower key dials, again and again.

The side that is dialed knows who calls by the certificate of the connection. gRPC does not show the dialer the other
side's certificate, only that it is one of the consortium's for the right key: so the dialer sends a challenge and gets
the certificate with a signature, and can refuse one that is revoked or has not the role.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import grpc

from coordinator.consensus.errors import DecodeError
from coordinator.service.access import CONNECT, Bucket, Gate, Malformed, Trust, tolerant
from coordinator.service.errors import PeerRefused
from coordinator.service.frames import STREAM_MESSAGE_BYTES, Assembly, Outbox, messages_of
from coordinator.service.home import PeerSettings
from coordinator.service.identity import Identity, Role, answer_challenge, check_answer, server_name
from coordinator.service.log import Log
from protos.gridaccord.v1 import service_pb2 as pb

_FIRST_DELAY_S, _LAST_DELAY_S = 0.1, 5.0
_GREETING_S = 5.0
_LAST_WORDS_S = 1.0
_STREAMS_A_S, _STREAMS_BURST = 1.0, 20.0
_FIRST_PAUSE_S, _LAST_PAUSE_S, _FORGIVEN_S = 1.0, 60.0, 600.0
_BYTES_A_S, _BYTES_BURST = 64.0 * 2**20, 128.0 * 2**20
_MESSAGES_A_S, _MESSAGES_BURST = 10_000.0, 20_000.0
_NONCE_SIZE = 32
CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", STREAM_MESSAGE_BYTES),
    ("grpc.max_send_message_length", STREAM_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_retries", 0),
)


class Chain(Protocol):
    """What takes the messages of a chain."""

    async def receive(self, peer: bytes, data: bytes) -> None:
        """A consensus message."""

    async def receive_transactions(self, peer: bytes, transactions: Sequence[bytes]) -> None:
        """Transactions for the queue."""

    def receive_batch_frame(self, peer: bytes, frame: pb.Frame) -> None:
        """A request for readings, or a part of an answer."""

    def connected(self, peer: bytes) -> None:
        """A validator can be reached."""

    def waiting_transactions(self) -> list[bytes]:
        """What a peer that has just connected may lack."""


class Link:
    """To one other node. `session` is the task of the stream in use, None where there is none."""

    def __init__(self, peer: PeerSettings) -> None:
        self.peer = peer
        self.key = bytes.fromhex(peer.public_key)
        self.outbox = Outbox()
        self.wake = asyncio.Event()
        self.session: asyncio.Task[Any] | None = None
        self.identity: Identity | None = None
        self.reason = "not connected yet"
        self.streams = Bucket(_STREAMS_A_S, _STREAMS_BURST)
        self._pause_s = 0.0
        self._barred_until = 0.0

    @property
    def barred_s(self) -> float:
        """How long there is to be no stream, because the peer broke the rules on the last one."""
        return max(0.0, self._barred_until - time.monotonic())

    def bar(self) -> None:
        """No stream for a while, longer each time: what is refused once costs little when it comes again."""
        now = time.monotonic()
        is_habit = now - self._barred_until < _FORGIVEN_S
        self._pause_s = min(_LAST_PAUSE_S, 2 * self._pause_s) if self._pause_s and is_habit else _FIRST_PAUSE_S
        self._barred_until = now + self._pause_s

    def end(self, reason: str) -> None:
        """Close the stream."""
        self.reason = reason
        if self.session is not None:
            self.session.cancel()


_FAULTS = (PeerRefused, DecodeError)
"""What the peer is to blame for."""
_PASSING = (*_FAULTS, grpc.RpcError, OSError, TimeoutError)
"""What ends one attempt, or one stream, and not the node."""

Read = Callable[[], Awaitable[Any]]
Write = Callable[[pb.Frame], Awaitable[None]]


class Transport:
    """The streams of a node."""

    def __init__(self, own_key: bytes, peers: Sequence[PeerSettings], trust: Trust, gate: Gate, log: Log) -> None:
        self._own_key = own_key
        self._trust = trust
        self._gate = gate
        self._log = log
        self.links = {link.key: link for link in map(Link, peers)}
        self.chains: Mapping[bytes, Chain] = {}
        self._dialing: list[asyncio.Task[None]] = []

    def start(self, chains: Mapping[bytes, Chain]) -> None:
        """Begin to dial."""
        self.chains = chains
        loop = asyncio.get_running_loop()
        self._dialing = [
            loop.create_task(self._dial_for_ever(link)) for key, link in self.links.items() if self._own_key < key
        ]

    async def stop(self) -> None:
        """Close all streams."""
        for task in self._dialing:
            task.cancel()
        for link in self.links.values():
            link.end("this node stops")
        await asyncio.gather(*self._dialing, return_exceptions=True)

    def post(self, chain_id: bytes, peer: bytes, data: bytes) -> None:
        """Send a consensus message; lost where there is no stream, as on any network."""
        link = self.links.get(peer)
        if link is not None and link.session is not None:
            link.outbox.put(chain_id, data)
            link.wake.set()

    def spread(self, chain_id: bytes, transaction: bytes) -> None:
        """Send a transaction to everybody."""
        for link in self.links.values():
            if link.session is not None:
                link.outbox.put_transaction(chain_id, transaction)
                link.wake.set()

    def post_batch_frame(self, peer: bytes, frame: pb.Frame) -> bool:
        """Send a request for readings or a part of an answer; False where the peer is away or does not keep up."""
        link = self.links.get(peer)
        if link is None or link.session is None or not link.outbox.put_batch_frame(frame):
            return False
        link.wake.set()
        return True

    def check_sessions(self) -> None:
        """End streams whose peer's certificate has expired or was revoked."""
        for link in self.links.values():
            if link.session is not None and link.identity is not None:
                try:
                    self._trust.check(link.identity)
                except PeerRefused as refusal:
                    self._refused(link, str(refusal))
                    link.end(str(refusal))

    # Dialing.

    async def _dial_for_ever(self, link: Link) -> None:
        delay_s = _FIRST_DELAY_S
        while True:
            started = asyncio.get_running_loop().time()
            session = asyncio.get_running_loop().create_task(self._dial(link))
            try:
                await asyncio.wait([session])
            finally:
                session.cancel()
            error = None if session.cancelled() else session.exception()
            if isinstance(error, _FAULTS):
                self._refused(link, str(error))
            elif isinstance(error, _PASSING):
                link.reason = _reason(error)
                self._log.info("peer unreachable", peer=link.peer.name, reason=link.reason)
            elif error is not None:
                raise error
            if asyncio.get_running_loop().time() - started > _LAST_DELAY_S:
                delay_s = _FIRST_DELAY_S
            await asyncio.sleep(max(link.barred_s, delay_s * random.uniform(0.5, 1.0)))
            delay_s = min(_LAST_DELAY_S, 2 * delay_s)

    async def _dial(self, link: Link) -> None:
        options = (*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", server_name(link.key)))
        credentials = self._trust.channel_credentials()
        async with grpc.aio.secure_channel(link.peer.address, credentials, options=options) as channel:
            call = channel.stream_stream(
                CONNECT,
                request_serializer=pb.Frame.SerializeToString,
                response_deserializer=tolerant(pb.Frame.FromString),
            )()
            nonce = secrets.token_bytes(_NONCE_SIZE)
            async with asyncio.timeout(_GREETING_S):
                await call.write(pb.Frame(challenge=pb.Challenge(nonce=nonce)))
                first = await call.read()
            if not isinstance(first, pb.Frame):
                raise PeerRefused(f"it ended the stream: {await call.details() or await call.code()}")
            answer = first.answer
            identity = check_answer(
                answer.certificate,
                answer.signature,
                self._trust.credentials.authority,
                nonce,
                self._own_key,
                link.key,
            )
            self._check_peer(identity)
            try:
                await self._converse(link, identity, call.read, call.write)
            finally:
                call.cancel()

    # Being dialed.

    async def serve(self, _: Any, context: Any) -> None:
        """The method Connect; the gate has checked certificate and role."""
        identity = self._gate.authenticate(context.auth_context())
        link = self.links.get(identity.public_key)
        if link is None or not identity.public_key < self._own_key:
            reason = f"{identity.name} is no peer of this node, or the one that is to be dialed"
            await self._gate.refuse(context, grpc.StatusCode.PERMISSION_DENIED, CONNECT, str(context.peer()), reason)
            return
        is_early = link.streams.take() > 0
        if is_early or link.barred_s:
            link.streams.give_back()
            reason = f"{identity.name} broke the rules of its last stream, or opens too many: wait a minute"
            await self._gate.refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, CONNECT, str(context.peer()), reason)
        try:
            async with asyncio.timeout(_GREETING_S):
                first = await context.read()
        except TimeoutError:
            reason = f"{identity.name} sent no challenge within {_GREETING_S:.0f} s"
            await self._gate.refuse(context, grpc.StatusCode.DEADLINE_EXCEEDED, CONNECT, str(context.peer()), reason)
            return
        if not isinstance(first, pb.Frame) or len(first.challenge.nonce) != _NONCE_SIZE:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first frame is a challenge of 32 bytes")
            return
        answer = answer_challenge(self._trust.credentials, first.challenge.nonce, link.key, self._own_key)
        await context.write(pb.Frame(answer=pb.Answer(certificate=answer[0], signature=answer[1])))
        session = asyncio.get_running_loop().create_task(self._converse(link, identity, context.read, context.write))
        try:
            await asyncio.wait([session])
        finally:
            session.cancel()
        if session.cancelled():
            await context.abort(grpc.StatusCode.UNAVAILABLE, link.reason or "another stream takes its place")
        error = session.exception()
        if isinstance(error, _FAULTS):
            self._refused(link, str(error))
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, link.reason)

    def _check_peer(self, identity: Identity) -> None:
        self._trust.check(identity)
        if Role.VALIDATOR not in identity.roles:
            raise PeerRefused(f"{identity.name} is no validator")

    def _refused(self, link: Link, reason: str) -> None:
        link.reason = reason
        self._log.warning("refused", peer=link.peer.name, reason=reason)

    # Both.

    async def _converse(self, link: Link, identity: Identity, read: Read, write: Write) -> None:
        """Messages in both directions until the stream ends; a new stream takes an old one's place."""
        before = link.session
        link.session = session = asyncio.current_task()
        if before is not None:
            before.cancel()
        link.outbox, link.identity, link.reason = Outbox(), identity, ""
        self._log.info("connected", peer=link.peer.name, certificate=f"{identity.serial:x}")
        for chain_id, chain in self.chains.items():
            chain.connected(link.key)
            for transaction in chain.waiting_transactions():
                link.outbox.put_transaction(chain_id, transaction)
        loop = asyncio.get_running_loop()
        reading, writing = loop.create_task(self._read(link, read)), loop.create_task(self._write(link, write))
        try:
            await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
            # What cannot be written to has ended: why, only reading says.
            await asyncio.wait((reading,), timeout=_LAST_WORDS_S)
            if reading.done():
                reading.result()
            else:
                link.reason = f"cannot write: {writing.exception()!r}"
        except _FAULTS:
            link.bar()
            raise
        finally:
            for task in (reading, writing):
                task.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)
            if link.session is session:
                link.session, link.identity = None, None
                link.reason = link.reason or "the stream ended"
            self._log.info("disconnected", peer=link.peer.name, reason=link.reason)

    async def _write(self, link: Link, write: Write) -> None:
        outbox = link.outbox
        while True:
            frame = outbox.next_frame()
            if frame is None:
                link.wake.clear()
                await link.wake.wait()
            else:
                await write(frame)

    async def _read(self, link: Link, read: Read) -> None:
        assembly = Assembly()
        volume, number = Bucket(_BYTES_A_S, _BYTES_BURST), Bucket(_MESSAGES_A_S, _MESSAGES_BURST)
        while True:
            frame = await read()
            if isinstance(frame, Malformed):
                raise PeerRefused("its bytes are no frame")
            if not isinstance(frame, pb.Frame):
                return
            messages = 1 + sum(1 + len(entry.transactions) for entry in frame.messages)
            early_s = max(volume.take(frame.ByteSize()), number.take(messages))
            if early_s:
                await asyncio.sleep(early_s)
            for chain_id, message in messages_of(frame, assembly):
                chain = self.chains.get(chain_id)
                if chain is not None:
                    await chain.receive(link.key, message)
            for entry in frame.messages:
                chain = self.chains.get(entry.chain_id)
                if entry.transactions and chain is not None:
                    await chain.receive_transactions(link.key, entry.transactions)
            chain = self.chains.get(frame.batch_request.chain_id or frame.batch_part.chain_id)
            if chain is not None:
                chain.receive_batch_frame(link.key, frame)


def _reason(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) or type(error).__name__
