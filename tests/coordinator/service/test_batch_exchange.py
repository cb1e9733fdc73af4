"""A batch on its way from a peer: whole and in order, or given up; never more than the commitment allows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from coordinator.service.batch_exchange import WINDOW_BYTES, Fetches, NotHere, Wanted
from coordinator.service.frames import CHUNK_BYTES
from protos.gridaccord.v1 import ledger_pb2
from protos.gridaccord.v1 import service_pb2 as pb

CHAIN, PEER, ROOT = bytes(32), b"p" * 32, b"r" * 32
SIZE = 2 * WINDOW_BYTES + 3 * CHUNK_BYTES + 17
WANTED = Wanted(ledger_pb2.ReadingsCommitment(root=ROOT, size=SIZE // 16, columns=18))
Answer = Callable[[pb.BatchRequest], list[pb.BatchPart]]


def parts(data: bytes, request: pb.BatchRequest) -> list[pb.BatchPart]:
    end = min(len(data), request.offset + WINDOW_BYTES)
    return [
        pb.BatchPart(root=ROOT, size=len(data), offset=offset, data=data[offset : offset + CHUNK_BYTES])
        for offset in range(request.offset, end, CHUNK_BYTES)
    ]


class Peer:
    """Answers each request as the test says, and remembers what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.asked: list[int] = []
        self.fetches = Fetches(CHAIN, self._post)

    def _post(self, peer: bytes, frame: pb.Frame) -> bool:
        assert peer == PEER
        self.asked.append(frame.batch_request.offset)
        for part in self._answer(frame.batch_request):
            asyncio.get_running_loop().call_soon(self.fetches.received, PEER, part)
        return True

    def fetch(self, wanted: Wanted = WANTED) -> bytes | None:
        async def scenario() -> bytes | None:
            async with asyncio.timeout(20):
                return await self.fetches.fetch(PEER, wanted)

        return asyncio.run(scenario())


@pytest.mark.parametrize("size", [1, CHUNK_BYTES, WINDOW_BYTES, WINDOW_BYTES + 1, SIZE])
def test_a_batch_comes_whole_a_window_at_a_time(size: int) -> None:
    data = random.Random(size).randbytes(size)
    peer = Peer(lambda request: parts(data, request))
    assert peer.fetch() == data
    assert peer.asked == list(range(0, size, WINDOW_BYTES))


def test_a_peer_that_has_not_got_it_says_so() -> None:
    with pytest.raises(NotHere):
        Peer(lambda request: [pb.BatchPart(root=ROOT)]).fetch()


def changed(part: pb.BatchPart, **fields: int | bytes) -> pb.BatchPart:
    found = pb.BatchPart()
    found.CopyFrom(part)
    for name, value in fields.items():
        setattr(found, name, value)
    return found


@pytest.mark.parametrize(
    "spoil",
    [
        lambda sent: sent[1:],
        lambda sent: [sent[0], sent[0]],
        lambda sent: [changed(sent[0], data=b"")],
        lambda sent: [changed(sent[0], data=bytes(CHUNK_BYTES + 1))],
        lambda sent: [changed(sent[0], size=5)],
        lambda sent: [sent[0], changed(sent[1], size=SIZE + 1)],
        lambda sent: [changed(sent[0], size=WANTED.bytes_max + 1)],
    ],
    ids=["gap", "twice", "empty", "long", "more than it says", "another size", "more than was committed"],
)
def test_a_peer_that_sends_something_else_is_given_up(
    spoil: Callable[[list[pb.BatchPart]], list[pb.BatchPart]],
) -> None:
    data = bytes(SIZE)
    assert Peer(lambda request: spoil(parts(data, request))).fetch() is None


def test_what_nobody_asked_for_is_dropped() -> None:
    data = bytes(CHUNK_BYTES)
    peer = Peer(lambda request: [changed(parts(data, request)[0], root=b"x" * 32), *parts(data, request)])
    peer.fetches.received(b"q" * 32, pb.BatchPart(root=ROOT, size=1, data=b"1"))
    assert peer.fetch() == data


def test_a_peer_that_is_away_is_given_up_at_once() -> None:
    async def scenario() -> bytes | None:
        return await Fetches(CHAIN, lambda peer, frame: False).fetch(PEER, WANTED)

    assert asyncio.run(scenario()) is None
