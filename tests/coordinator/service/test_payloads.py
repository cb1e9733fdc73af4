"""Payloads of blocks that are not final: whatever consensus has been told is stored can be had, at any moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

from coordinator.consensus.effects import StorePayload
from coordinator.consensus.header import payload_digest
from coordinator.consensus.signing import Ed25519Scheme
from coordinator.ledger.genesis import machine_of
from coordinator.service.host import ChainHost
from coordinator.service.modules import MODULES
from coordinator.service.writer import Batch, Writer
from tests.coordinator.service.lone_chain import SIGNER, genesis, running

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
    """Regression: it was inserted before the old one was deleted."""
    writer = Writer(tmp_path, genesis(), machine_of(genesis(), MODULES, Ed25519Scheme()), SIGNER.public_key)
    writer.open(force_rejoin=False).result()
    writer.write(Batch(payloads={DIGEST: PAYLOAD})).result()
    writer.write(Batch(payloads={DIGEST: PAYLOAD}, drop_payloads=(DIGEST,))).result()
    assert writer.payload(DIGEST).result() == PAYLOAD
    writer.write(Batch(drop_payloads=(DIGEST,))).result()
    assert writer.payload(DIGEST).result() is None
    writer.close()
