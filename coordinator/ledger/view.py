"""The state as a block sees it while it is carried out: reads, writes, and what transaction handlers are given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from coordinator.consensus.signing import Scheme
from coordinator.ledger.errors import Rejected
from coordinator.ledger.receipt import EVENT_PAYLOAD_MAX, EVENTS_MAX, Event
from coordinator.ledger.state_tree import KEY_MAX, VALUE_MAX, StateTree


class View:
    """Reads and writes one tree after another. To undo, put back the `tree` of before: trees never change."""

    def __init__(self, tree: StateTree) -> None:
        self.tree = tree
        self._touched: dict[bytes, None] = {}

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None where there is none."""
        return self.tree.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        """Write an entry."""
        self.tree = self.tree.set(key, value)
        self._touched[key] = None

    def delete(self, key: bytes) -> None:
        """Remove an entry, if it is there."""
        self.tree = self.tree.delete(key)
        self._touched[key] = None

    def items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Entries as they are now whose key starts with this, in the order of their keys."""
        return self.tree.items(prefix)

    @property
    def touched(self) -> tuple[bytes, ...]:
        """Every key written since the start, also by what was undone, in the order of the first write."""
        return tuple(self._touched)


@dataclass(frozen=True, slots=True)
class Records:
    """A module's own entries: keys are relative to its prefix, so that modules cannot touch each other's."""

    view: View
    prefix: bytes

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None where there is none."""
        return self.view.get(self.prefix + key)

    def put(self, key: bytes, value: bytes) -> None:
        """Write an entry. Raises Rejected where it is too long."""
        if len(self.prefix) + len(key) > KEY_MAX or len(value) > VALUE_MAX:
            raise Rejected("too_long", f"an entry of {len(key)} + {len(value)} bytes under {self.prefix!r}")
        self.view.put(self.prefix + key, value)

    def delete(self, key: bytes) -> None:
        """Remove an entry, if it is there."""
        self.view.delete(self.prefix + key)

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Entries as they are now, in the order of their keys."""
        skip = len(self.prefix)
        return ((key[skip:], value) for key, value in self.view.items(self.prefix + prefix))


@dataclass(frozen=True, slots=True)
class BlockContext:
    """What a rule may know of the block it runs in, all of it agreed. Escrow rules use the height, never the time."""

    chain_id: bytes
    height: int
    epoch: int
    time_ms: int
    version: int
    scheme: Scheme


@dataclass(slots=True)
class Context:
    """What a handler or an end-of-block rule works with. `signer` is empty at the end of a block and in genesis."""

    view: View
    block: BlockContext
    records: Records
    signer: str = ""
    events: list[Event] = field(default_factory=list)

    def emit(self, kind: str, payload: bytes) -> None:
        """Add an event to the receipt; anyone can prove it to another chain (`proofs.py`)."""
        if len(self.events) >= EVENTS_MAX or len(payload) > EVENT_PAYLOAD_MAX:
            raise Rejected("too_long", f"event {kind}: at most {EVENTS_MAX} a receipt, {EVENT_PAYLOAD_MAX} bytes each")
        self.events.append(Event(kind, payload))


class _NoScheme:
    """Reading a state checks no signatures."""

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        return False


def reading_context(view: View) -> Context:
    """To read a state through what handlers use; what it says of the block means nothing."""
    return Context(view, BlockContext(b"", 0, 0, 0, 0, _NoScheme()), Records(view, b""))
