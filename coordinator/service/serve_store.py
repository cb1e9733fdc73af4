"""Answers to peers that catch up, from the ledger file; run in the disk's thread."""

from __future__ import annotations

from coordinator.consensus.messages import Blocks, Message
from coordinator.ledger.store import Store


def serve_block(store: Store, digest: bytes) -> Message | None:
    """A finalized header by its digest."""
    header = store.header_of(digest)
    return None if header is None else Blocks((header,), None)


def serve_range(store: Store, from_height: int, limit: int) -> Message | None:
    """Headers from a height on, up to the highest within the limit that has a finalization of its own."""
    headers = list(store.headers(from_height, limit))
    if headers and headers[0].height != from_height:
        return None
    while headers:
        certificate = store.certificate(headers[-1].height)
        if certificate is not None:
            return Blocks(tuple(headers), certificate)
        headers.pop()
    return None
