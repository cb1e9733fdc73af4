"""Blocks by the ledger's state machine: what has been executed above the last delivered block, and the payloads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from coordinator.consensus.effects import Build
from coordinator.consensus.header import Header
from coordinator.consensus.signing import Scheme
from coordinator.ledger.block import Block
from coordinator.ledger.errors import BlockRefused
from coordinator.ledger.receipt import END_OF_BLOCK
from coordinator.ledger.state import Applied, LedgerState, Machine

_VERIFIED_MAX = 100_000
_PAYLOADS_BYTES = 32 * 2**20


class CachedScheme:
    """Remembers which signatures are valid: a transaction is checked when it comes, and not again in each block."""

    def __init__(self, scheme: Scheme) -> None:
        self._scheme = scheme
        self._valid: dict[tuple[bytes, bytes, bytes], None] = {}

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether the key signed the message."""
        claim = (public_key, message, signature)
        if claim in self._valid:
            return True
        if not self._scheme.verify(public_key, message, signature):
            return False
        if len(message) <= 1024:
            self._valid[claim] = None
            if len(self._valid) > _VERIFIED_MAX:
                del self._valid[next(iter(self._valid))]
        return True


class Payloads:
    """Payloads of blocks, those used last, in memory; the others are read from the disk.

    Final ones too: consensus counts on what was stored once, and the blocks of a chain at rest share one payload.
    """

    def __init__(self, read: Callable[[bytes], bytes | None]) -> None:
        self._read = read
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = 0

    def put(self, digest: bytes, payload: bytes) -> None:
        """Keep one that is durable or about to be."""
        if digest not in self._kept:
            self._bytes += len(payload)
        self._kept[digest] = payload
        self._kept.move_to_end(digest)
        while self._bytes > _PAYLOADS_BYTES and len(self._kept) > 1:
            self._bytes -= len(self._kept.popitem(last=False)[1])

    def get(self, digest: bytes) -> bytes:
        """A payload that was stored."""
        found = self._kept.get(digest)
        if found is None:
            found = self._read(digest)
            assert found is not None, f"payload {digest.hex()} was stored and is gone"
        self.put(digest, found)
        return found

    def drop(self, digest: bytes) -> None:
        """Nothing refers to it any more."""
        self._bytes -= len(self._kept.pop(digest, b""))


class Execution:
    """The states after the last delivered block and after the blocks above it that this node has executed."""

    def __init__(self, machine: Machine, state: LedgerState, payloads: Payloads) -> None:
        self.machine = machine
        self.delivered = state
        self.payloads = payloads
        self._applied: dict[bytes, Applied] = {}

    def state_after(self, digest: bytes) -> LedgerState | None:
        """The state after a block, if it is the delivered one or executed."""
        if digest == self.delivered.header.digest:
            return self.delivered
        applied = self._applied.get(digest)
        return None if applied is None else applied.state

    def parent_of(self, template: Build) -> LedgerState:
        """The state that a block is to be built on."""
        parent = self.state_after(template.parent.digest)
        assert parent is not None, "one builds on what is certified or delivered"
        return parent

    def candidate(self, header: Header) -> tuple[LedgerState, Block] | None:
        """What is to be executed for a verdict; None where another block was delivered in its place meanwhile."""
        parent = self.state_after(header.parent_digest)
        return None if parent is None else (parent, Block(header, self.payloads.get(header.payload_digest)))

    def known(self, digest: bytes) -> Applied | None:
        """What a block does, if it has been executed."""
        return self._applied.get(digest)

    def apply(self, parent: LedgerState, block: Block) -> Applied | None:
        """Execute a block; None if it is invalid, for ever and for everybody. Changes nothing here: any thread may."""
        try:
            return self.machine.apply(parent, block)
        except BlockRefused:
            return None

    def keep(self, applied: Applied) -> None:
        """Remember what a block above the delivered one does."""
        header = applied.state.header
        if header.height > self.delivered.header.height:
            self._applied[header.digest] = applied

    def deliver(self, header: Header) -> tuple[Block, Applied]:
        """The next final block. Raises BlockRefused, which means that more than f validators are faulty."""
        block = Block(header, self.payloads.get(header.payload_digest))
        applied = self._applied.get(header.digest) or self.machine.apply(self.delivered, block)
        self.delivered = applied.state
        height = header.height
        self._applied = {digest: one for digest, one in self._applied.items() if one.state.header.height > height}
        return block, applied


def transactions_of(applied: Applied) -> list[bytes]:
    """Digests of the transactions of a block."""
    return [receipt.transaction for receipt in applied.receipts if receipt.transaction != END_OF_BLOCK]
