"""Messages on a stream: whole, in order, bounded, votes before long ones."""

from __future__ import annotations

import random

import pytest

from coordinator.consensus.messages import MAX_MESSAGE_BYTES
from coordinator.service.errors import PeerRefused
from coordinator.service.frames import CHUNK_BYTES, SMALL_BYTES, Assembly, Outbox, messages_of
from protos.gridaccord.v1 import service_pb2 as pb

CHAIN = bytes(32)


def drain(outbox: Outbox) -> list[pb.Frame]:
    frames = []
    while (frame := outbox.next_frame()) is not None:
        frames.append(frame)
    return frames


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_put_in_comes_out(seed: int) -> None:
    rng = random.Random(seed)
    outbox, assembly = Outbox(), Assembly()
    sizes = [rng.choice((1, 200, SMALL_BYTES, SMALL_BYTES + 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 7)) for _ in range(20)]
    sent = [rng.randbytes(size) for size in sizes]
    for message in sent:
        outbox.put(CHAIN, message)
    received = [message for frame in drain(outbox) for _, message in messages_of(frame, assembly)]
    assert sorted(received) == sorted(sent), f"seed {seed}"
    for long in (True, False):
        of_kind = [message for message in received if (len(message) > SMALL_BYTES) is long]
        assert of_kind == [message for message in sent if (len(message) > SMALL_BYTES) is long], f"seed {seed}"


def test_a_vote_overtakes_a_long_message() -> None:
    outbox = Outbox()
    outbox.put(CHAIN, bytes(3 * CHUNK_BYTES))
    first = outbox.next_frame()
    outbox.put(CHAIN, b"vote")
    second = outbox.next_frame()
    assert first is not None
    assert first.HasField("chunk")
    assert second is not None
    assert second.messages[0].consensus == b"vote"


def test_a_peer_that_does_not_read_costs_bounded_memory() -> None:
    outbox = Outbox()
    for _ in range(10_000):
        outbox.put(CHAIN, b"vote")
        outbox.put_transaction(CHAIN, bytes(10_000))
    for _ in range(100):
        outbox.put(CHAIN, bytes(2**20))
    assert len(outbox) < 8_000
    assert outbox.dropped > 0


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ([pb.Chunk(size=MAX_MESSAGE_BYTES + 1, data=b"x")], "at most"),
        ([pb.Chunk(size=10, offset=5, data=b"x")], "not in order"),
        ([pb.Chunk(size=10, data=b"")], "not in order"),
        ([pb.Chunk(size=2, data=b"xyz")], "longer than it says"),
        ([pb.Chunk(size=3, data=b"xyz")], "whose hash"),
        ([pb.Chunk(size=9, data=b"x"), pb.Chunk(size=8, offset=1, data=b"x")], "not in order"),
    ],
)
def test_wrong_parts_are_refused(chunks: list[pb.Chunk], reason: str) -> None:
    assembly = Assembly()
    with pytest.raises(PeerRefused, match=reason):
        for chunk in chunks:
            assembly.add(chunk)
