"""Calls to a node, for commands, tests and benchmarks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.message import Message

from coordinator.ledger.readings import MeterBatch
from coordinator.service import access
from coordinator.service.errors import CallFailed
from coordinator.service.frames import CHUNK_BYTES
from coordinator.service.identity import ANY_NODE, Credentials
from protos.gridaccord.v1 import service_pb2 as pb

_MESSAGE_BYTES = 8 * 2**20
_DEADLINE_S, _READINGS_DEADLINE_S = 15.0, 300.0
_PASSING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.NOT_FOUND,
)
_METHODS = pb.DESCRIPTOR.services_by_name["Ledger"].methods_by_name


class Client:
    """A connection to one node, under one certificate."""

    def __init__(self, address: str, credentials: Credentials, name: str = ANY_NODE) -> None:
        mine = grpc.ssl_channel_credentials(credentials.authority, credentials.key, credentials.certificate)
        options = (
            ("grpc.ssl_target_name_override", name),
            ("grpc.max_receive_message_length", _MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MESSAGE_BYTES),
        )
        self._address = address
        self._channel = grpc.aio.secure_channel(address, mine, options=options)
        self._calls: dict[str, Callable[..., Awaitable[Any]]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def call(self, method: str, request: Message, deadline_s: float = _DEADLINE_S) -> Any:
        """One call of the service Ledger. Raises CallFailed."""
        call = self._calls.get(method)
        if call is None:
            reply = getattr(pb, _METHODS[method].output_type.name)
            path = access.LEDGER + method
            call = self._channel.unary_unary(path, type(request).SerializeToString, reply.FromString)
            self._calls[method] = call
        try:
            return await call(request, timeout=deadline_s)
        except grpc.aio.AioRpcError as error:
            raise self._failed(error) from None

    async def submit_readings(
        self, chain_id: bytes, batch: MeterBatch, deadline_s: float = _READINGS_DEADLINE_S
    ) -> pb.SubmitReply:
        """Give a batch to a node, which commits to it: what became of that, once final. Raises CallFailed."""
        encoded = batch.encode()

        async def parts() -> AsyncIterator[pb.ReadingsPart]:
            for offset in range(0, len(encoded), CHUNK_BYTES):
                part = pb.ReadingsPart(data=encoded[offset : offset + CHUNK_BYTES])
                if not offset:
                    part.chain_id, part.size = chain_id, len(encoded)
                yield part

        return await self.send_readings(parts(), deadline_s)

    async def send_readings(self, parts: AsyncIterator[pb.ReadingsPart], deadline_s: float) -> pb.SubmitReply:
        """The parts of a batch as they are. Raises CallFailed."""
        path = access.SUBMIT_READINGS
        send = self._channel.stream_unary(path, pb.ReadingsPart.SerializeToString, pb.SubmitReply.FromString)
        try:
            reply: pb.SubmitReply = await send(parts, timeout=deadline_s)
        except grpc.aio.AioRpcError as error:
            raise self._failed(error) from None
        return reply

    async def stream(self, request: pb.StreamRequest) -> AsyncGenerator[pb.BlockReply, None]:
        """Final blocks as they come. Raises CallFailed."""
        path = access.LEDGER + "StreamBlocks"
        call = self._channel.unary_stream(path, pb.StreamRequest.SerializeToString, pb.BlockReply.FromString)(request)
        try:
            async for reply in call:
                yield reply
        except grpc.aio.AioRpcError as error:
            raise self._failed(error) from None
        finally:
            call.cancel()

    def _failed(self, error: grpc.aio.AioRpcError) -> CallFailed:
        text = f"{self._address}: {error.code().name.lower()}: {error.details()}"
        return CallFailed(text, is_passing=error.code() in _PASSING)


def run(work: Awaitable[Any]) -> Any:
    """Run a coroutine to its end."""

    async def main() -> Any:
        return await work

    return asyncio.run(main())
