"""Payloads of blocks that are not final: whatever consensus has been told is stored can be had, at any moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

from coordinator.consensus.effects import StorePayload
from coordinator.consensus.header import payload_digest
from coordinator.ledger.store import Store
from coordinator.service.host import ChainHost
from tests.coordinator.ledger.support import Chain
from tests.coordinator.service.lone_chain import running

PAYLOAD = b"of a block that has just been proposed"
DIGEST = payload_digest(PAYLOAD)


class Forgetful(ChainHost):
    """Forgets what is no longer in use in the same turn in which a payload comes, and has nothing in memory."""

    def payload_between_coming_and_being_told(self) -> bytes:
        """Regression: a final block whose height asked to forget came between the payload and PayloadStored."""
        self._store_payload(StorePayload(DIGEST, PAYLOAD))
        self._forget()
        self.execution.payloads.drop(DIGEST)
        return self.execution.payloads.get(DIGEST)


def test_a_payload_that_consensus_is_about_to_be_told_of_is_not_forgotten(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, Forgetful) as host:
            assert isinstance(host, Forgetful)
            await host.new_block.wait()
            assert host.payload_between_coming_and_being_told() == PAYLOAD
            for _ in range(3):
                await host.new_block.wait()
            host.execution.payloads.drop(DIGEST)
            assert host.execution.payloads.get(DIGEST) == PAYLOAD, "and it has gone to the disk"

    asyncio.run(scenario())


def test_a_payload_dropped_and_stored_again_before_the_disk_was_free_is_kept(tmp_path: Path) -> None:
    """Regression: the commit inserted before it deleted."""
    chain = Chain()
    with Store.create(tmp_path / "ledger.sqlite", chain.genesis, chain.machine) as store:
        store.put_payload(DIGEST, PAYLOAD)
        store.commit(payloads={DIGEST: PAYLOAD}, drop_payloads=(DIGEST,))
        assert store.payload(DIGEST) == PAYLOAD
