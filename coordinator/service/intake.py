"""What peers have sent and the core has not taken yet: bounded for each peer, and taken fairly from all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from coordinator.consensus.messages import Message

_PEER_MESSAGES_MAX = 1024


@dataclass(slots=True)
class _Inbox:
    messages: deque[Message] = field(default_factory=deque)
    transactions: deque[bytes] = field(default_factory=deque)
    room: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_full(self) -> bool:
        return len(self.messages) + len(self.transactions) >= _PEER_MESSAGES_MAX


class Intake:
    """Queues by peer. A full one holds its stream back, and with it, by the flow control of HTTP/2, its sender."""

    def __init__(self, wake: asyncio.Event) -> None:
        self._wake = wake
        self._inboxes: dict[bytes, _Inbox] = {}

    async def put(self, peer: bytes, message: Message) -> None:
        """Queue a message, once there is room."""
        (await self._room(peer)).messages.append(message)
        self._wake.set()

    async def put_transaction(self, peer: bytes, transaction: bytes) -> None:
        """Queue a transaction, once there is room."""
        (await self._room(peer)).transactions.append(transaction)
        self._wake.set()

    async def _room(self, peer: bytes) -> _Inbox:
        inbox = self._inboxes.setdefault(peer, _Inbox())
        while inbox.is_full:
            inbox.room.clear()
            self._wake.set()
            await inbox.room.wait()
        return inbox

    def messages(self) -> Iterator[tuple[bytes, Message]]:
        """One message of each peer that has one."""
        for peer, inbox in list(self._inboxes.items()):
            if inbox.messages:
                yield peer, inbox.messages.popleft()

    def transactions(self, limit: int) -> Iterator[bytes]:
        """Some transactions."""
        for inbox in list(self._inboxes.values()):
            while inbox.transactions and limit:
                limit -= 1
                yield inbox.transactions.popleft()

    def let_in(self) -> bool:
        """Wake the streams that have room again; whether anything waits here."""
        waits = False
        for inbox in self._inboxes.values():
            if not inbox.is_full:
                inbox.room.set()
            waits = waits or bool(inbox.messages or inbox.transactions)
        return waits
