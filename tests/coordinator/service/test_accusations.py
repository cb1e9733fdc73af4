"""Faults of peers: one conviction a validator and epoch is enough, and nobody sets the pace of this node's log."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Coroutine
from typing import Any

from coordinator.consensus.effects import PeerFault
from coordinator.consensus.evidence import Evidence
from coordinator.ledger.misconduct import EVIDENCE
from coordinator.ledger.receipt import Receipt
from coordinator.service.accusations import Accusations
from coordinator.service.errors import ServiceError
from coordinator.service.log import Log
from coordinator.service.metrics import ChainMetrics, NodeMetrics
from coordinator.service.outcomes import Outcome
from tests.coordinator.ledger.support import Chain
from tests.coordinator.ledger.test_misconduct import evidence

CULPRIT = b"c" * 32


class Bench:
    """Accusations against a chain in memory; what is submitted stands in the next block."""

    def __init__(self) -> None:
        self.chain, self.submitted, self.fails = Chain(), 0, False
        self._log = io.StringIO()
        self.accusations = Accusations(ChainMetrics(NodeMetrics(), "hub"), Log(self._log), 0.0)

    async def submit(self, kind: str, content: bytes) -> Outcome:
        assert kind == EVIDENCE
        self.submitted += 1
        if self.fails:
            raise ServiceError("not now")
        receipt: Receipt = self.chain.add(self.chain.transaction("v0", kind, content)).receipts[0]
        return Outcome(self.chain.state.header.height, receipt)

    def accuse(self, found: Evidence | None) -> None:
        self.accusations.fault(PeerFault(CULPRIT, "it voted twice", found))

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.getvalue().splitlines()]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0)


def run(scenario: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        bench = Bench()
        bringing = asyncio.create_task(bench.accusations.bring(lambda: bench.chain.state, bench.submit))
        await scenario(bench)
        assert not bringing.done()
        bringing.cancel()

    asyncio.run(main())


def test_one_conviction_of_a_validator_an_epoch_is_enough() -> None:
    async def scenario(bench: Bench) -> None:
        for view in (3, 4, 5):
            bench.accuse(evidence(bench.chain, view=view))
        bench.accuse(evidence(bench.chain, "v2"))
        await bench.until(lambda: len(bench.lines()) == 4 + 2)
        assert bench.submitted == 2
        assert [line["code"] for line in bench.lines() if line["event"] == "evidence submitted"] == ["", ""]

    run(scenario)


def test_what_another_node_brought_is_not_brought_again() -> None:
    async def scenario(bench: Bench) -> None:
        found = evidence(bench.chain)
        bench.chain.add(bench.chain.transaction("v1", EVIDENCE, found.encode()))
        bench.accuse(found)
        bench.accuse(evidence(bench.chain, "v2"))
        await bench.until(lambda: bench.submitted == 1)
        assert [line["code"] for line in bench.lines() if line["event"] == "evidence submitted"] == [""]

    run(scenario)


def test_evidence_that_cannot_be_submitted_is_in_the_log_and_stops_nothing() -> None:
    async def scenario(bench: Bench) -> None:
        bench.fails = True
        found = evidence(bench.chain)
        bench.accuse(found)
        await bench.until(lambda: bench.lines()[-1]["event"] == "evidence not submitted")
        assert bench.lines()[-1]["evidence"] == found.encode().hex()
        bench.fails = False
        bench.accuse(evidence(bench.chain, view=9))
        await bench.until(lambda: bench.lines()[-1]["event"] == "evidence submitted")

    run(scenario)


def test_faults_without_number_cost_a_bounded_log() -> None:
    async def scenario(bench: Bench) -> None:
        for _ in range(5_000):
            bench.accuse(None)
        assert 0 < len(bench.lines()) < 100

    run(scenario)
