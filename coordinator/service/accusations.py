"""What peers do that no honest peer does: counted, logged at a bounded rate, and brought before the chain if provable.

Every node that saw both votes holds the same evidence. Each waits a random time and looks at the chain first, so that
mostly one transaction is enough. One conviction in an epoch costs the seat like a hundred do, so a node brings no more
against a validator that has one: else the culprit would set the pace of everybody's work. A restart forgets evidence
that is not on the chain yet; other nodes have it, and the log.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from coordinator.consensus.effects import PeerFault
from coordinator.consensus.evidence import Evidence
from coordinator.ledger.errors import TransactionRefused
from coordinator.ledger.misconduct import EVIDENCE, accused_by, offences
from coordinator.ledger.state import LedgerState
from coordinator.service.access import Bucket
from coordinator.service.errors import ServiceError
from coordinator.service.log import Log
from coordinator.service.metrics import ChainMetrics
from coordinator.service.outcomes import Outcome

_EVIDENCE_MAX = 64
_WAIT_DELAYS = 20
"""The longest wait, in network delays: others have the transaction after one, and a block with it after a few."""
_LINES_A_S, _LINES_BURST = 1.0, 20.0

Submit = Callable[[str, bytes], Awaitable[Outcome]]
"""Signs and submits a transaction of this node's own."""


class Accusations:
    """Those of one chain."""

    def __init__(self, metrics: ChainMetrics, log: Log, delay_s: float) -> None:
        self._metrics = metrics
        self._log = log
        self._wait_s = _WAIT_DELAYS * delay_s
        self._lines: dict[bytes, Bucket] = {}
        self._evidence: asyncio.Queue[Evidence] = asyncio.Queue(_EVIDENCE_MAX)

    def fault(self, effect: PeerFault) -> None:
        """A fault that the core reports."""
        self._metrics.peer_faults.inc()
        evidence = effect.evidence
        if evidence is not None and not self._evidence.full():
            self._evidence.put_nowait(evidence)
        bucket = self._lines.setdefault(effect.peer, Bucket(_LINES_A_S, _LINES_BURST))
        if bucket.take() > 0:
            bucket.give_back()
            return
        shown = "" if evidence is None else evidence.encode().hex()
        self._log.warning("peer fault", peer=effect.peer.hex(), reason=effect.reason, evidence=shown)

    async def bring(self, state: Callable[[], LedgerState], submit: Submit) -> None:
        """Bring evidence before the chain as it comes, for ever. `state` gives the last delivered one."""
        while True:
            evidence = await self._evidence.get()
            await asyncio.sleep(random.uniform(0.0, self._wait_s))
            if is_news(state(), evidence):
                await self._bring(evidence, submit)

    async def _bring(self, evidence: Evidence, submit: Submit) -> None:
        try:
            outcome = await submit(EVIDENCE, evidence.encode())
        except (TransactionRefused, ServiceError) as error:
            self._log.warning("evidence not submitted", reason=str(error), evidence=evidence.encode().hex())
            return
        self._log.info("evidence submitted", height=outcome.height, code=outcome.receipt.code)


def is_news(state: LedgerState, evidence: Evidence) -> bool:
    """Whether evidence still counts and its validator has not been convicted of anything in that epoch."""
    accused = accused_by(state.view, state.epoch_configs()[0].epoch, evidence)
    if accused is None:
        return False
    return all(offence.epoch != evidence.epoch for offence in offences(state.view, accused))
