"""A validator that breaks the protocol on purpose: beside each vote it casts another one that excludes it.

As leader it proposes two blocks, and what it finalizes it nullifies. Others hold signed evidence of that within a view.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from coordinator.consensus.core import Core
from coordinator.consensus.effects import Broadcast, Effect
from coordinator.consensus.inputs import Input
from coordinator.consensus.messages import Message, Proposal, Vote
from coordinator.consensus.signing import Signer, VoteKind, vote_bytes


class EquivocatingCore:
    """A core, and what it must never say. Takes the place of `ChainHost.core`."""

    def __init__(self, core: Core, signer: Signer, chain_id: bytes) -> None:
        self._core, self._signer, self._chain_id = core, signer, chain_id

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def step(self, now_ns: int, event: Input) -> tuple[Effect, ...]:
        """What the core does, and more."""
        effects: list[Effect] = []
        for effect in self._core.step(now_ns, event):
            effects.append(effect)
            if isinstance(effect, Broadcast):
                effects += [Broadcast(extra, effect.recipients) for extra in self._extra(effect.message)]
        return tuple(effects)

    def _extra(self, message: Message) -> Iterator[Message]:
        if isinstance(message, Proposal):
            header = replace(message.header, time_ms=message.header.time_ms + 1)
            signature = self._sign(VoteKind.NOTARIZE, message.epoch, message.view, message.parent_view, header.digest)
            yield replace(message, header=header, signature=signature)
        elif isinstance(message, Vote) and message.kind is VoteKind.FINALIZE:
            signature = self._sign(VoteKind.NULLIFY, message.epoch, message.view, 0, bytes(32))
            yield Vote(VoteKind.NULLIFY, message.epoch, message.view, 0, bytes(32), signature)
        elif isinstance(message, Vote) and message.kind is VoteKind.NOTARIZE:
            digest = hashlib.sha256(message.digest).digest()
            signature = self._sign(VoteKind.NOTARIZE, message.epoch, message.view, message.parent_view, digest)
            yield replace(message, digest=digest, signature=signature)

    def _sign(self, kind: VoteKind, epoch: int, view: int, parent_view: int, digest: bytes) -> bytes:
        return self._signer.sign(vote_bytes(kind, self._chain_id, epoch, view, parent_view, digest))
