"""Batches of readings for peers that lack them: read from the disk in a thread of its own, a window a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from coordinator.consensus.errors import DecodeError
from coordinator.ledger.block import decode_payload
from coordinator.ledger.database import open_database, snapshot
from coordinator.ledger.handlers import READINGS
from coordinator.ledger.store import Store
from coordinator.service.batch_exchange import WINDOW_BYTES, PostFrame, commitment_of
from coordinator.service.batch_file import BatchFile
from coordinator.service.frames import CHUNK_BYTES
from protos.gridaccord.v1 import service_pb2 as pb

_SERVED_AT_ONCE = 2


class Serving:
    """What this node is asked for: read from the disk in a thread of its own."""

    def __init__(self, chain_id: bytes, post: PostFrame, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._chain_id = chain_id
        self._post = post
        self._spawn = spawn
        self._thread = ThreadPoolExecutor(1, "serve-readings")
        self._asking: dict[bytes, int] = {}
        self._last: tuple[bytes, bytes] = b"", b""
        """Root and bytes of the batch that was read last: the next window is probably of the same."""

    def open(self, store: Store, batches: Path) -> None:
        """Read from this ledger and this file of batches. Raises StoreError."""
        self._thread.submit(self._open, store, batches).result()

    def _open(self, source: Store, batches: Path) -> None:
        self._connection = open_database(source.path, read_only=True)
        self._store = Store(source.path, self._connection, source.genesis, source.state)
        self._file = BatchFile(batches)

    def close(self) -> None:
        """Release the files."""
        self._thread.submit(self._close).result()
        self._thread.shutdown()

    def _close(self) -> None:
        if hasattr(self, "_file"):
            self._store.close()
            self._file.close()

    def requested(self, peer: bytes, request: pb.BatchRequest) -> None:
        """Answer, unless the peer has asked for too much at once."""
        asking = self._asking.get(peer, 0)
        if asking < _SERVED_AT_ONCE:
            self._asking[peer] = asking + 1
            self._spawn(self._answer(peer, request))

    def forget(self) -> None:
        """Keep nothing in memory of what may be pruned now."""
        self._last = b"", b""

    async def _answer(self, peer: bytes, request: pb.BatchRequest) -> None:
        try:
            loop = asyncio.get_running_loop()
            for part in await loop.run_in_executor(self._thread, self._window, request):
                if not self._post(peer, pb.Frame(batch_part=part)):
                    return
        finally:
            self._asking[peer] -= 1

    def _window(self, request: pb.BatchRequest) -> list[pb.BatchPart]:
        encoded = self._read(request)
        if encoded is None:
            return [pb.BatchPart(chain_id=self._chain_id, root=request.root)]
        self._last = request.root, encoded
        size, first = len(encoded), request.offset
        return [
            pb.BatchPart(
                chain_id=self._chain_id,
                root=request.root,
                size=size,
                offset=offset,
                data=encoded[offset : offset + CHUNK_BYTES],
            )
            for offset in range(first, min(size, first + WINDOW_BYTES), CHUNK_BYTES)
        ]

    def _read(self, request: pb.BatchRequest) -> bytes | None:
        if self._last[0] == request.root:
            return self._last[1]
        waiting = self._file.get(request.root)
        return self._committed(request) if waiting is None else waiting

    def _committed(self, request: pb.BatchRequest) -> bytes | None:
        """The batch in the ledger, if the transaction at that height and place commits to this root."""
        if not 0 < request.height < 2**62:
            return None
        with snapshot(self._connection):
            block = self._store.block(request.height)
            if block is None or _root_at(block.payload, request.place) != request.root:
                return None
            batch = self._store.readings.batch(request.height, request.place)
        return None if batch is None else batch.encode()


def _root_at(payload: bytes, place: int) -> bytes | None:
    """The root that the transaction at a place of a final block commits to, None where it does not."""
    transactions = decode_payload(payload)
    if place >= len(transactions) or transactions[place].transaction.kind != READINGS:
        return None
    try:
        return commitment_of(transactions[place].transaction).root
    except DecodeError:
        return None
