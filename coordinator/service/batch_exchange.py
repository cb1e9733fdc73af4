"""Batches of readings between validators: whoever lacks one asks for it by its root, a window at a time.

The one who asks sets the pace, so nobody is sent more than he takes, and holds no more than the commitment on the chain
allows. A peer that serves reads one window for each request and keeps nothing. Frames that were not asked for are
dropped. Whether the bytes are the batch is for the caller to check.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from coordinator.consensus.errors import DecodeError
from coordinator.ledger.errors import TransactionRefused
from coordinator.ledger.handlers import READINGS
from coordinator.ledger.messages import parse
from coordinator.ledger.readings import BATCH_MAX, BATCH_READINGS_MAX
from coordinator.ledger.transaction import Transaction
from coordinator.service.frames import CHUNK_BYTES
from protos.gridaccord.v1 import ledger_pb2
from protos.gridaccord.v1 import service_pb2 as pb

WINDOW_BYTES = 16 * CHUNK_BYTES
_WINDOW_S = 10.0
_COLUMN_BYTES, _READING_BYTES = 512, 16
_COMMITMENT_MAX = 256
_ROOT_SIZE = 32

PostFrame = Callable[[bytes, pb.Frame], bool]
"""Sends a frame to a peer by its key; False where that is not possible now."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A batch by what the chain says of it; height and place of the transaction where they are known."""

    commitment: ledger_pb2.ReadingsCommitment
    height: int = 0
    place: int = 0

    @property
    def root(self) -> bytes:
        """The root over its readings."""
        return self.commitment.root

    @property
    def bytes_max(self) -> int:
        """More bytes than any batch with this commitment has."""
        commitment = self.commitment
        return min(BATCH_MAX, _READING_BYTES * commitment.size + _COLUMN_BYTES * (commitment.columns + 1))


def commitment_of(transaction: Transaction) -> ledger_pb2.ReadingsCommitment:
    """What a transaction of kind `readings` commits to. Raises DecodeError."""
    return parse(ledger_pb2.ReadingsCommitment, transaction.content, _COMMITMENT_MAX)


def check_commitment(transaction: Transaction) -> None:
    """Raise TransactionRefused where a transaction of kind `readings` commits to nothing that could exist."""
    if transaction.kind != READINGS:
        return
    try:
        commitment = commitment_of(transaction)
    except DecodeError as error:
        raise TransactionRefused(f"readings: {error}") from None
    if len(commitment.root) != _ROOT_SIZE or not 0 < commitment.columns <= commitment.size <= BATCH_READINGS_MAX:
        raise TransactionRefused("readings: a root or sizes that no batch has")


class NotHere(Exception):
    """The peer says that it has not got the batch."""


class _Transfer:
    """A batch on its way from one peer."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._parts: list[bytes] = []
        self._size: int | None = None
        self.received = 0
        self.is_broken = self.is_missing = False
        self.progress = asyncio.Event()

    @property
    def is_whole(self) -> bool:
        return self._size is not None and self.received == self._size

    @property
    def encoded(self) -> bytes:
        return b"".join(self._parts)

    def add(self, part: pb.BatchPart) -> None:
        """Take the next part; anything else breaks the transfer."""
        if not part.size:
            self.is_missing = True
        elif (
            part.size > self._wanted.bytes_max
            or self._size not in (None, part.size)
            or part.offset != self.received
            or not 0 < len(part.data) <= min(CHUNK_BYTES, part.size - self.received)
        ):
            self.is_broken = True
        else:
            self._size = part.size
            self._parts.append(part.data)
            self.received += len(part.data)
        self.progress.set()


class Fetches:
    """What this node asks for."""

    def __init__(self, chain_id: bytes, post: PostFrame) -> None:
        self._chain_id = chain_id
        self._post = post
        self._transfers: dict[tuple[bytes, bytes], _Transfer] = {}

    async def fetch(self, peer: bytes, wanted: Wanted) -> bytes | None:
        """The bytes that a peer has under a root; None where it cannot be reached or does not do as asked.

        Raises NotHere.
        """
        key = (peer, wanted.root)
        if key in self._transfers:
            return None
        transfer = self._transfers[key] = _Transfer(wanted)
        try:
            while not transfer.is_whole:
                if not self._post(peer, self._request(wanted, transfer.received)):
                    return None
                async with asyncio.timeout(_WINDOW_S):
                    await self._window(transfer)
                if transfer.is_missing:
                    raise NotHere
                if transfer.is_broken:
                    return None
        except TimeoutError:
            return None
        finally:
            del self._transfers[key]
        return transfer.encoded

    def _request(self, wanted: Wanted, offset: int) -> pb.Frame:
        request = pb.BatchRequest(
            chain_id=self._chain_id, root=wanted.root, height=wanted.height, place=wanted.place, offset=offset
        )
        return pb.Frame(batch_request=request)

    @staticmethod
    async def _window(transfer: _Transfer) -> None:
        end = transfer.received + WINDOW_BYTES
        while not (transfer.is_whole or transfer.is_missing or transfer.is_broken or transfer.received >= end):
            transfer.progress.clear()
            await transfer.progress.wait()

    def received(self, peer: bytes, part: pb.BatchPart) -> None:
        """A part of an answer; dropped where nobody asked this peer."""
        transfer = self._transfers.get((peer, part.root))
        if transfer is not None:
            transfer.add(part)
