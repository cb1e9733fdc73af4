"""Durable before sent: what leaves when, with a disk whose writes end when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from coordinator.consensus.effects import Broadcast, Deliver, Persist
from coordinator.consensus.journal import VoteRecord
from coordinator.consensus.messages import Want
from coordinator.consensus.signing import VoteKind
from coordinator.service.commits import Commits
from coordinator.service.metrics import ChainMetrics, NodeMetrics
from tests.coordinator.ledger.support import Chain

VOTE = Persist(VoteRecord(VoteKind.NULLIFY, 0, 1, 0, bytes(32)))
PEER = b"p" * 32
MESSAGE = Broadcast(Want(0, 1), (PEER,))


class Disk:
    """Takes batches; each write ends when `finish` is called."""

    is_journal_long = False

    def __init__(self) -> None:
        self.batches: list[Any] = []
        self._pending: list[Future[float]] = []

    def write(self, batch: Any) -> Future[float]:
        self.batches.append(batch)
        self._pending.append(Future())
        return self._pending[-1]

    async def finish(self) -> None:
        self._pending.pop(0).set_result(0.001)
        for _ in range(5):
            await asyncio.sleep(0)


class Bench:
    """Commits over such a disk, and what left."""

    def __init__(self) -> None:
        self.disk, self.sent, self.final = Disk(), [], []  # type: ignore[var-annotated]
        self._tasks: list[asyncio.Task[None]] = []
        self.commits = Commits(
            self.disk,  # type: ignore[arg-type]
            ChainMetrics(NodeMetrics(), "hub"),
            lambda peer, data: self.sent.append(data),
            lambda finalized: self.final.extend(finalized),
            self._spawn,
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    async def flush(self) -> None:
        self.commits.flush()
        for _ in range(5):
            await asyncio.sleep(0)

    def send(self, data: bytes) -> None:
        self.commits.send(MESSAGE, (PEER,), data)


def run(scenario: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        await scenario(Bench())

    asyncio.run(main())


def test_nothing_leaves_before_what_it_rests_on_is_durable() -> None:
    async def scenario(bench: Bench) -> None:
        bench.commits.persist(VOTE)
        bench.send(b"vote")
        await bench.flush()
        assert bench.sent == []
        await bench.disk.finish()
        assert bench.sent == [b"vote"]

    run(scenario)


def test_steps_during_a_write_share_the_next_one_and_leave_in_order() -> None:
    async def scenario(bench: Bench) -> None:
        for data in (b"1", b"2", b"3"):
            bench.commits.persist(VOTE)
            bench.send(data)
            await bench.flush()
        bench.send(b"rests on nothing new")
        await bench.flush()
        assert len(bench.disk.batches) == 1
        await bench.disk.finish()
        assert bench.sent == [b"1"]
        assert len(bench.disk.batches) == 2
        await bench.disk.finish()
        assert bench.sent == [b"1", b"2", b"3", b"rests on nothing new"]

    run(scenario)


def test_a_block_without_its_own_certificate_waits_for_the_one_that_finalizes_it(tmp_path: Path) -> None:
    """Regression: requests for what is missing must leave meanwhile, and the ledger takes both blocks together."""

    async def scenario(bench: Bench) -> None:
        chain = Chain()
        first, second = chain.make(certified=False), chain.make()
        bench.commits.deliver(Deliver(first.block.header, None), first)
        bench.send(b"give me the next payload")
        await bench.flush()
        assert bench.sent == [b"give me the next payload"]
        assert bench.disk.batches == []
        bench.commits.deliver(Deliver(second.block.header, second.certificate), second)
        await bench.flush()
        assert bench.disk.batches[0].finalized == [first, second]
        assert bench.final == []
        await bench.disk.finish()
        assert bench.final == [first, second]

    run(scenario)


def test_a_payload_can_be_read_while_it_waits_for_the_disk_and_the_last_word_on_it_counts() -> None:
    async def scenario(bench: Bench) -> None:
        bench.commits.persist(VOTE)
        await bench.flush()
        bench.commits.store(b"kept", b"1")
        bench.commits.drop([b"kept", b"gone"])
        bench.commits.store(b"kept", b"2")
        bench.commits.store(b"dropped", b"3")
        assert bench.commits.payload(b"dropped") == b"3"
        bench.commits.drop([b"dropped"])
        await bench.disk.finish()
        written = bench.disk.batches[1]
        assert written.payloads == {b"kept": b"2"}
        assert set(written.drop_payloads) == {b"kept", b"gone", b"dropped"}

    run(scenario)
