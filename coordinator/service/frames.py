"""Consensus messages as frames of a stream: many small ones together, a long one in parts that others may overtake.

Bounded on both sides: an outbox drops its oldest small messages when its peer does not keep up (consensus repairs what
is lost), an assembly holds one long message at a time and checks its hash.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator

from coordinator.consensus.messages import MAX_MESSAGE_BYTES
from coordinator.service.errors import PeerRefused
from protos.gridaccord.v1 import service_pb2 as pb

SMALL_BYTES = 16 * 2**10
CHUNK_BYTES = 64 * 2**10
FRAME_BYTES = 128 * 2**10
TRANSACTIONS_BYTES = 1 * 2**20 + 4096
STREAM_MESSAGE_BYTES = max(FRAME_BYTES, TRANSACTIONS_BYTES) + CHUNK_BYTES + 4096
"""What a frame may have at most, with a part of readings beside the rest; gRPC refuses more before it is read."""
_SMALL_MAX = 4_096
_LONG_BYTES_MAX = 4 * MAX_MESSAGE_BYTES
_TRANSACTION_BYTES_MAX = 16 * 2**20
_BATCH_FRAMES_MAX = 48
_MESSAGES_A_FRAME = 256


class Outbox:
    """What waits to be sent to one peer."""

    def __init__(self) -> None:
        self._small: deque[tuple[bytes, bytes]] = deque()
        self._long: deque[tuple[bytes, bytes, bytes]] = deque()
        self._transactions: deque[tuple[bytes, bytes]] = deque()
        self._batch_frames: deque[pb.Frame] = deque()
        self._long_bytes = self._transaction_bytes = 0
        self._sent = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._small) + len(self._long) + len(self._transactions) + len(self._batch_frames)

    def put(self, chain_id: bytes, message: bytes) -> None:
        """Queue a consensus message."""
        if len(message) <= SMALL_BYTES:
            if len(self._small) >= _SMALL_MAX:
                self._small.popleft()
                self.dropped += 1
            self._small.append((chain_id, message))
        elif self._long_bytes + len(message) <= _LONG_BYTES_MAX:
            self._long.append((chain_id, message, hashlib.sha256(message).digest()))
            self._long_bytes += len(message)
        else:
            self.dropped += 1

    def put_transaction(self, chain_id: bytes, transaction: bytes) -> None:
        """Queue a transaction on its way to the other validators."""
        if self._transaction_bytes + len(transaction) > _TRANSACTION_BYTES_MAX:
            self.dropped += 1
            return
        self._transactions.append((chain_id, transaction))
        self._transaction_bytes += len(transaction)

    def put_batch_frame(self, frame: pb.Frame) -> bool:
        """Queue a request for readings or a part of an answer; whether there was room."""
        if len(self._batch_frames) >= _BATCH_FRAMES_MAX:
            self.dropped += 1
            return False
        self._batch_frames.append(frame)
        return True

    def next_frame(self) -> pb.Frame | None:
        """The next frame: votes first, then a part of a long message or transactions, with readings beside them."""
        frame, size = pb.Frame(), 0
        while self._small and size < SMALL_BYTES and len(frame.messages) < _MESSAGES_A_FRAME:
            chain_id, message = self._small.popleft()
            frame.messages.add(chain_id=chain_id, consensus=message)
            size += len(message)
        if size:
            return frame
        if not (self._long or self._transactions or self._batch_frames):
            return None
        if self._batch_frames:
            frame = self._batch_frames.popleft()
        if self._long:
            frame.chunk.CopyFrom(self._next_chunk())
        elif self._transactions:
            self._take_transactions(frame)
        return frame

    def _next_chunk(self) -> pb.Chunk:
        chain_id, message, digest = self._long[0]
        data = message[self._sent : self._sent + CHUNK_BYTES]
        chunk = pb.Chunk(chain_id=chain_id, digest=digest, size=len(message), offset=self._sent, data=data)
        self._sent += len(data)
        if self._sent == len(message):
            self._long.popleft()
            self._long_bytes -= len(message)
            self._sent = 0
        return chunk

    def _take_transactions(self, frame: pb.Frame) -> None:
        chain_id, size = self._transactions[0][0], 0
        entry = frame.messages.add(chain_id=chain_id)
        while self._transactions and self._transactions[0][0] == chain_id and size < CHUNK_BYTES:
            _, transaction = self._transactions.popleft()
            entry.transactions.append(transaction)
            size += len(transaction)
        self._transaction_bytes -= size


class Assembly:
    """Puts the parts of long messages together again."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._current: tuple[bytes, bytes, int] | None = None
        self._received = 0

    def add(self, chunk: pb.Chunk) -> tuple[bytes, bytes] | None:
        """Chain and message, once whole. Raises PeerRefused."""
        key = (chunk.chain_id, chunk.digest, chunk.size)
        if chunk.offset == 0:
            if chunk.size > MAX_MESSAGE_BYTES:
                raise PeerRefused(f"a message of {chunk.size} bytes; at most {MAX_MESSAGE_BYTES}")
            self._current, self._parts, self._received = key, [], 0
        if key != self._current or chunk.offset != self._received or not 0 < len(chunk.data) <= CHUNK_BYTES:
            raise PeerRefused("the parts of a long message are not in order")
        self._parts.append(chunk.data)
        self._received += len(chunk.data)
        if self._received > chunk.size:
            raise PeerRefused("a long message is longer than it says")
        if self._received < chunk.size:
            return None
        message = b"".join(self._parts)
        self._current, self._parts = None, []
        if hashlib.sha256(message).digest() != chunk.digest:
            raise PeerRefused("a long message is not the one whose hash it gives")
        return chunk.chain_id, message


def messages_of(frame: pb.Frame, assembly: Assembly) -> Iterator[tuple[bytes, bytes]]:
    """Chain and bytes of the consensus messages that a frame completes. Raises PeerRefused."""
    for entry in frame.messages:
        if entry.consensus:
            yield entry.chain_id, entry.consensus
    if frame.HasField("chunk"):
        whole = assembly.add(frame.chunk)
        if whole is not None:
            yield whole
