"""A validator that breaks the protocol: the real node, whose core or streams do more than they should.

    python -m tests.coordinator.service.byzantine HOME MODE

equivocate  as leader it proposes two blocks to everybody, and it nullifies what it finalizes; where it has lost its
            seat it goes on voting
replay      it sends what it and others sent before, again and again: messages, certificates, transactions
garbage     it sends bytes that are no message, and frames whose parts do not fit
flood       it sends as much as its peers take: stale votes, requests, transactions that nobody can carry out
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from actors.cluster.equivocator import EquivocatingCore
from coordinator.consensus.core import Core
from coordinator.consensus.effects import Broadcast, Effect, Send
from coordinator.consensus.header import Header
from coordinator.consensus.inputs import Input, Received
from coordinator.consensus.messages import GetPayload, GetRange, Message, Vote, Want, encode
from coordinator.consensus.signing import VoteKind, vote_bytes
from coordinator.ledger.block import decode_payload
from coordinator.ledger.transaction import Transaction, sign_transaction
from coordinator.service import node as node_module
from coordinator.service import transport as transport_module
from coordinator.service.frames import Outbox
from coordinator.service.home import Home
from coordinator.service.host import ChainHost
from protos.gridaccord.v1 import service_pb2 as pb

_KEPT = 2_000
_REPLAYED_A_STEP = 8
_GARBAGE_S = 0.05
_USURPED_S, _VIEWS_AHEAD = 0.1, 8
_NICE = 10
"""An attacker has a machine of its own: here it must not take the processor from those whom it attacks."""
_RNG = random.Random(1)


class Parrot:
    """The core, and with every step messages of long ago, its own and those of others."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._heard: deque[Message] = deque(maxlen=_KEPT)
        self._recipients: tuple[bytes, ...] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def step(self, now_ns: int, event: Input) -> tuple[Effect, ...]:
        """What the core does, and more."""
        effects = self._core.step(now_ns, event)
        if isinstance(event, Received):
            self._heard.append(event.message)
        for effect in effects:
            if isinstance(effect, Broadcast):
                self._recipients = effect.recipients
            if isinstance(effect, Broadcast | Send):
                self._heard.append(effect.message)
        again = _RNG.sample(list(self._heard), min(_REPLAYED_A_STEP, len(self._heard)))
        return (*effects, *(Broadcast(message, self._recipients) for message in again if self._recipients))


class ByzantineHost(ChainHost):
    """A chain whose core is wrapped, and that posts what is no message."""

    mode = ""

    async def open(self, force_rejoin: bool = False) -> None:
        """Open, and go wrong from then on."""
        await super().open(force_rejoin)
        if self.mode == "equivocate":
            self.core = EquivocatingCore(self.core, self._signer, self.genesis.chain_id)  # type: ignore[assignment]
            self._spawn(self._vote_without_a_seat())
        elif self.mode == "replay":
            self.core = Parrot(self.core)  # type: ignore[assignment]
            self._spawn(self._repeat_transactions())
        elif self.mode == "garbage":
            self._spawn(self._post_garbage())
        elif self.mode == "flood":
            self._spawn(self._flood())

    def _peers(self) -> list[bytes]:
        keys = self.execution.delivered.epoch_configs()[0].validators.public_keys
        return [key for key in keys if key != self._signer.public_key]

    async def _vote_without_a_seat(self) -> None:
        while True:
            await asyncio.sleep(_USURPED_S)
            peers, status = self._peers(), self.core.status
            if len(peers) < self.execution.delivered.epoch_configs()[0].validators.size:
                continue
            for view in range(status.view, status.view + _VIEWS_AHEAD):
                digest = _RNG.randbytes(32)
                signed = vote_bytes(VoteKind.NOTARIZE, self.genesis.chain_id, status.epoch, view, 0, digest)
                vote = Vote(VoteKind.NOTARIZE, status.epoch, view, 0, digest, self._signer.sign(signed))
                for peer in peers:
                    self._post(peer, encode(vote))

    async def _repeat_transactions(self) -> None:
        while True:
            height = self.writer.store.state.header.height
            await asyncio.sleep(_GARBAGE_S)
            if height:
                block = await asyncio.wrap_future(self.writer.submit(self.writer.store.block, _RNG.randint(1, height)))
                assert block is not None
                for transaction in decode_payload(block.payload):
                    self._spread(transaction.encoded)

    async def _post_garbage(self) -> None:
        while True:
            await asyncio.sleep(_GARBAGE_S)
            for peer in self._peers():
                self._post(peer, _RNG.randbytes(_RNG.choice((0, 1, 40, 200, 20_000, 200_000))))

    async def _flood(self) -> None:
        header: Header = self.execution.delivered.header
        number = 0
        while True:
            await asyncio.sleep(0)
            for message in self._requests(header):
                for peer in self._peers():
                    self._post(peer, encode(message))
            number += 1
            body = Transaction("nobody", number, 10**9, "transfer", _RNG.randbytes(2_000))
            self._spread(sign_transaction(self._signer, self.genesis.chain_id, body).encoded)

    def _requests(self, header: Header) -> Iterator[Message]:
        epoch, view = self.core.status.epoch, self.core.status.view
        yield Want(epoch, _RNG.randint(1, view + 3))
        yield GetRange(1)
        yield GetPayload(header.payload_digest)
        for kind in (VoteKind.NOTARIZE, VoteKind.FINALIZE):
            yield Vote(kind, epoch, max(1, view + _RNG.randint(-40, 1)), 0, _RNG.randbytes(32), _RNG.randbytes(64))


class TornOutbox(Outbox):
    """Now and then the part of a long message that was never begun, or that is too long."""

    def next_frame(self) -> pb.Frame | None:
        """A frame, mostly as it should be."""
        if _RNG.random() < 0.01:
            data = _RNG.randbytes(100)
            return pb.Frame(
                chunk=pb.Chunk(chain_id=bytes(32), digest=data[:32], size=2**31, offset=_RNG.randint(0, 9), data=data)
            )
        return super().next_frame()


def main(home: Path, mode: str) -> None:
    """Run the node."""
    os.nice(_NICE)
    ByzantineHost.mode = mode
    node_module.ChainHost = ByzantineHost  # type: ignore[misc]
    if mode == "garbage":
        transport_module.Outbox = TornOutbox  # type: ignore[misc]

    async def run() -> None:
        await node_module.Node(Home(home)).run()

    asyncio.run(run())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
