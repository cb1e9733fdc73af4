"""A gateway's calls to the nodes of its consortium: its own organization's first, another where that is silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from coordinator.ledger.genesis import Genesis
from coordinator.ledger.keys import load_key
from coordinator.ledger.readings import MeterBatch
from coordinator.ledger.transaction import Transaction, sign_transaction
from coordinator.service.client import Client
from coordinator.service.errors import CallFailed
from coordinator.service.home import Home
from protos.gridaccord.v1 import service_pb2 as pb

_VALID_BLOCKS = 10_000
_PAUSE_S = 0.2
_PATIENCE_S = 180.0
"""How long nodes that are killed and start again may take, all together."""
_GATHER_S = 20.0
"""How long a chain that finalizes already waits for its last nodes."""
_T = TypeVar("_T")


class NodeCalls:
    """Of one organization's gateway on one chain. What cannot be done within minutes raises CallFailed."""

    def __init__(self, home: Path, chain: str) -> None:
        """Raises ConfigurationError."""
        opened = Home(home)
        self.genesis: Genesis = opened.genesis(chain)
        self.organization = opened.settings.organization
        self._signer = load_key(home / "keys" / "participant.key")
        self._credentials = opened.credentials("gateway")
        self._addresses = (opened.settings.listen, *(peer.address for peer in opened.settings.peers))
        self._client: Client | None = None
        self._turn = 0

    async def close(self) -> None:
        """End the connection."""
        if self._client is not None:
            await self._client.__aexit__(None, None, None)
            self._client = None

    async def again(self, call: Callable[[Client], Awaitable[_T]]) -> _T:
        """Until a node answers; a call may be made twice. Raises CallFailed."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            client = self._connected()
            try:
                return await call(client)
            except CallFailed as error:
                if not error.is_passing or time.monotonic() > deadline:
                    raise
                await self._turn_away(client)

    async def ready(self) -> tuple[str, ...]:
        """Until the chain finalizes blocks and all nodes are connected; those that are not after a while."""

        async def status(client: Client) -> pb.StatusReply:
            reply: pb.StatusReply = await client.call("GetStatus", pb.StatusRequest(), 5.0)
            return reply

        deadline = time.monotonic() + _GATHER_S
        while True:
            reply = await self.again(status)
            height = next(chain.height for chain in reply.chains if chain.name == self.genesis.name)
            absent = tuple(peer.name for peer in reply.peers if not peer.connected)
            if height >= 1 and (not absent or time.monotonic() > deadline):
                return absent
            await asyncio.sleep(_PAUSE_S)

    async def send(self, kind: str, content: bytes) -> pb.SubmitReply:
        """A transaction of this organization, until it is final: what became of it. Raises CallFailed.

        Where a node ends meanwhile, another is asked for a receipt, and without one it is signed again; its sequence
        number cannot be used twice.
        """

        async def attempt(client: Client) -> pb.SubmitReply:
            known: pb.ParticipantReply = await client.call(
                "GetParticipant", pb.ParticipantRequest(chain_id=self.genesis.chain_id, participant=self.organization)
            )
            body = Transaction(self.organization, known.next_sequence, known.height + _VALID_BLOCKS, kind, content)
            encoded = sign_transaction(self._signer, self.genesis.chain_id, body).encoded
            request = pb.SubmitRequest(chain_id=self.genesis.chain_id, transaction=encoded, wait=True)
            reply: pb.SubmitReply = await client.call("Submit", request, _PATIENCE_S)
            return reply

        return await self.again(attempt)

    async def deliver(self, batch: MeterBatch) -> pb.SubmitReply:
        """Readings, until they are final; those that an earlier attempt delivered are refused as such."""
        return await self.again(lambda client: client.submit_readings(self.genesis.chain_id, batch))

    async def receipt(self, transaction: bytes) -> pb.ReceiptProof:
        """What became of a final transaction, with its proof. Raises CallFailed."""
        request = pb.TransactionRequest(chain_id=self.genesis.chain_id, digest=transaction)
        return await self.again(lambda client: _call(client, "GetTransaction", request))

    async def blocks(self, from_height: int) -> AsyncIterator[bytes]:
        """Final blocks as they come, from one node after the other."""
        height = from_height
        while True:
            client = self._connected()
            try:
                async for reply in client.stream(pb.StreamRequest(chain_id=self.genesis.chain_id, from_height=height)):
                    height += 1
                    yield reply.block
            except CallFailed:
                await self._turn_away(client)

    def _connected(self) -> Client:
        if self._client is None:
            address = self._addresses[self._turn % len(self._addresses)]
            self._client = Client(address, self._credentials)
        return self._client

    async def _turn_away(self, client: Client) -> None:
        """To the next node, unless another call has done that already."""
        await asyncio.sleep(_PAUSE_S)
        if self._client is client:
            self._turn += 1
            await self.close()


async def _call(client: Client, method: str, request: pb.TransactionRequest) -> pb.ReceiptProof:
    reply: pb.ReceiptProof = await client.call(method, request)
    return reply


def refusals(replies: Sequence[pb.SubmitReply]) -> list[str]:
    """Of those that were not carried out: why."""
    return [f"{reply.code}: {reply.detail}" for reply in replies if reply.code]
