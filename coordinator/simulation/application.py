"""What the simulated chains agree on: a registry of validators, and one kind of business (nothing, or escrow).

State is a value and execution a pure function of the parent's state and the block, so it is computed once for all
nodes of a run, and once more, from genesis, at its end (I11).

Validators change by operations in blocks. Whatever stands in the registry when epoch e ends is the set of epoch e + 2:
one full epoch of notice, in which headers commit to it as `next_validators_root`.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace
from typing import Protocol

from coordinator.consensus.effects import Build
from coordinator.consensus.epochs import EpochConfig
from coordinator.consensus.header import Header, payload_digest
from coordinator.consensus.signing import (
    Ed25519Scheme,
    Ed25519Signer,
    Scheme,
    Signer,
    SimulatedScheme,
    SimulatedSigner,
)
from coordinator.consensus.validators import ValidatorSet
from coordinator.ledger.history import Frontier, leaves_root
from coordinator.ledger.receipt import DONE, END_OF_BLOCK, Event, Receipt
from coordinator.simulation.options import Options

Seat = tuple[int, int]
"""Who holds a seat: number of the node, generation of its key."""
Seats = tuple[Seat, ...]
Operations = tuple[bytes, ...]

ROTATE, SWAP, INVALID = b"rotate", b"swap", b"invalid"
EVENT_KIND = "simulated"
_ZERO = bytes(32)
_VERSION = 1


class Books(Protocol):
    """A chain's business state: an immutable value."""

    def root(self) -> bytes:
        """What the header commits to."""

    def execute(self, operations: Operations, height: int, epoch: int) -> tuple[Books, tuple[bytes, ...]] | None:
        """The books and events after a block's operations; None if the block is invalid."""


@dataclass(frozen=True, slots=True)
class Notes:
    """No business: operations are notes, and only their number counts."""

    count: int = 0

    def root(self) -> bytes:
        """The number of notes."""
        return self.count.to_bytes(32, "big")

    def execute(self, operations: Operations, height: int, epoch: int) -> tuple[Books, tuple[bytes, ...]] | None:
        """Count."""
        return Notes(self.count + len(operations)), operations[:1]


@dataclass(frozen=True, slots=True)
class Registry:
    """Seats: `current` in the epoch of the next block, `coming` in the one after it, `pending` in the one after that.

    `generations` are the key generations of all nodes, seated or not.
    """

    current: Seats
    coming: Seats
    pending: Seats
    generations: tuple[int, ...]

    def root(self) -> bytes:
        """A hash of everything."""
        return hashlib.sha256(repr((self.current, self.coming, self.pending, self.generations)).encode()).digest()

    def epoch_ended(self) -> Registry:
        """After the last block of an epoch."""
        return replace(self, current=self.coming, coming=self.pending)

    def changed(self, operation: bytes) -> Registry | None:
        """After `rotate SEAT` or `swap SEAT NODE`; None if it does not apply."""
        words = operation.split()
        seat = int(words[1])
        if not seat < len(self.pending):
            return None
        generations = list(self.generations)
        node = self.pending[seat][0]
        if words[0] == SWAP:
            node = int(words[2])
            if any(sitting == node for sitting, _ in self.pending):
                return None
        else:
            generations[node] += 1
        seats = (*self.pending[:seat], (node, generations[node]), *self.pending[seat + 1 :])
        return replace(self, pending=seats, generations=tuple(generations))


@dataclass(frozen=True, slots=True)
class ChainState:
    """After a block. `history` is over the digests of all headers up to and with this one, `events` are its own."""

    header: Header
    registry: Registry
    history: Frontier
    books: Books
    events: tuple[bytes, ...] = ()


def encode_operations(operations: Operations) -> bytes:
    """A payload: each operation behind its length."""
    return b"".join(len(operation).to_bytes(4, "big") + operation for operation in operations)


def decode_operations(payload: bytes) -> Operations:
    """The operations of a payload; what is cut short is left out, as any block whose root differs is invalid anyway."""
    operations, offset = [], 0
    while offset + 4 <= len(payload):
        end = offset + 4 + int.from_bytes(payload[offset : offset + 4], "big")
        operations.append(payload[offset + 4 : end])
        offset = end
    return tuple(operations)


def receipts(chain_id: bytes, height: int, events: tuple[bytes, ...]) -> list[bytes]:
    """The leaves of a block's receipts tree: one receipt an event."""
    return [
        Receipt(chain_id, height, place, END_OF_BLOCK, DONE, (Event(EVENT_KIND, event),)).encode()
        for place, event in enumerate(events)
    ]


class Application:
    """One chain's genesis, keys, validator sets and execution."""

    def __init__(self, name: str, options: Options, seed: int, books: Books) -> None:
        self.name = name
        self.chain_id = hashlib.sha256(f"simulated chain {name} of seed {seed}".encode()).digest()
        self.length = options.epoch_length
        self.nodes = options.validators + options.spares
        self._real = options.real_signatures
        self.scheme: Scheme = Ed25519Scheme() if self._real else SimulatedScheme()
        self._signers: dict[Seat, Signer] = {}
        self._sets: dict[tuple[int, Seats], EpochConfig] = {}
        self._states: dict[bytes, ChainState | None] = {}
        seats = tuple((node, 0) for node in range(options.validators))
        self._first = Registry(seats, seats, seats, (0,) * self.nodes)
        self.genesis = self._genesis(self._first, books)

    def begin_with(self, books: Books) -> None:
        """Other books at genesis, before anything has run."""
        self.genesis = self._genesis(self._first, books)

    def _genesis(self, registry: Registry, books: Books) -> ChainState:
        header = Header(
            _VERSION,
            self.chain_id,
            0,
            0,
            0,
            _ZERO,
            _ZERO,
            _state_root(registry, books),
            leaves_root(()),
            Frontier().root,
            self.epoch_config(0, registry.current).validators.root,
            self.epoch_config(1, registry.coming).validators.root,
            payload_digest(b""),
        )
        return ChainState(header, registry, Frontier().append(header.digest), books)

    def signer(self, node: int, generation: int) -> Signer:
        """A node's key."""
        seat = (node, generation)
        if seat not in self._signers:
            secret = hashlib.sha256(f"{self.name} {node} {generation}".encode()).digest()
            self._signers[seat] = Ed25519Signer(secret) if self._real else SimulatedSigner(secret)
        return self._signers[seat]

    def epoch_config(self, epoch: int, seats: Seats) -> EpochConfig:
        """The validators of an epoch."""
        key = (epoch, seats)
        if key not in self._sets:
            keys = tuple(self.signer(*seat).public_key for seat in seats)
            self._sets[key] = EpochConfig(ValidatorSet(self.chain_id, epoch, keys), _VERSION)
        return self._sets[key]

    def epochs_after(self, state: ChainState) -> tuple[EpochConfig, EpochConfig]:
        """The sets of the next block's epoch and of the one after it."""
        epoch = state.header.height // self.length
        registry = state.registry
        return self.epoch_config(epoch, registry.current), self.epoch_config(epoch + 1, registry.coming)

    def build(self, parent: ChainState, template: Build, operations: Operations) -> tuple[Header, bytes]:
        """A block on a parent; what does not apply is left out."""
        kept = tuple(operation for operation in operations if _applies(parent, operation))
        payload = encode_operations(kept)
        after = self._execute(parent, kept, template.height, template.epoch)
        if after is None:
            kept, payload = (), encode_operations(())
            after = self._execute(parent, (), template.height, template.epoch)
        assert after is not None, "an empty block is valid"
        return self._header(parent, template, kept, payload, after), payload

    def build_invalid(self, parent: ChainState, template: Build) -> tuple[Header, bytes]:
        """A well-formed block that every honest application refuses."""
        payload = encode_operations((INVALID,))
        empty = self._execute(parent, (), template.height, template.epoch)
        assert empty is not None, "an empty block is valid"
        return self._header(parent, template, (INVALID,), payload, empty), payload

    def _header(
        self, parent: ChainState, template: Build, operations: Operations, payload: bytes, after: _Executed
    ) -> Header:
        registry, books, events = after
        current, coming = self.epochs_after(parent)
        return Header(
            version=template.version,
            chain_id=self.chain_id,
            epoch=template.epoch,
            height=template.height,
            time_ms=template.time_ms,
            parent_digest=parent.header.digest,
            transactions_root=leaves_root(operations),
            state_root=_state_root(registry, books),
            receipts_root=leaves_root(receipts(self.chain_id, template.height, events)),
            history_root=parent.history.root,
            validators_root=current.validators.root,
            next_validators_root=coming.validators.root,
            payload_digest=payload_digest(payload),
        )

    def execute(self, parent: ChainState, header: Header, payload: bytes) -> ChainState | None:
        """The state after a block; None if it is invalid. Every block is executed once a run."""
        if header.digest not in self._states:
            self._states[header.digest] = self.execute_anew(parent, header, payload)
        return self._states[header.digest]

    def execute_anew(self, parent: ChainState, header: Header, payload: bytes) -> ChainState | None:
        """The same, computed from nothing but its arguments."""
        operations = decode_operations(payload)
        after = self._execute(parent, operations, header.height, header.epoch)
        if after is None or header.payload_digest != payload_digest(payload):
            return None
        registry, books, events = after
        receipts_root = leaves_root(receipts(self.chain_id, header.height, events))
        roots = (leaves_root(operations), _state_root(registry, books), receipts_root, parent.history.root)
        stated = (header.transactions_root, header.state_root, header.receipts_root, header.history_root)
        current, coming = self.epochs_after(parent)
        sets = (header.validators_root, header.next_validators_root)
        if roots != stated or sets != (current.validators.root, coming.validators.root):
            return None
        return ChainState(header, registry, parent.history.append(header.digest), books, events)

    def state(self, digest: bytes) -> ChainState | None:
        """The state after a block that somebody executed."""
        if digest == self.genesis.header.digest:
            return self.genesis
        return self._states.get(digest)

    def _execute(self, parent: ChainState, operations: Operations, height: int, epoch: int) -> _Executed | None:
        registry = parent.registry
        business = []
        for operation in operations:
            if operation == INVALID:
                return None
            if operation.startswith((ROTATE, SWAP)):
                changed = registry.changed(operation)
                if changed is None:
                    return None
                registry = changed
            else:
                business.append(operation)
        if height % self.length == 0:
            registry = registry.epoch_ended()
        after = parent.books.execute(tuple(business), height, epoch)
        return None if after is None else (registry, *after)


_Executed = tuple[Registry, Books, tuple[bytes, ...]]


def _state_root(registry: Registry, books: Books) -> bytes:
    return hashlib.sha256(registry.root() + books.root()).digest()


def _applies(parent: ChainState, operation: bytes) -> bool:
    """A change of the registry is offered one a block, so it either applies to the parent's or not at all."""
    if operation.startswith((ROTATE, SWAP)):
        return parent.registry.changed(operation) is not None
    return operation != INVALID


def draw_change(rng: random.Random, registry: Registry) -> bytes:
    """A rotation of a key, or a seat for a node that has none, if there is one."""
    seat = rng.randrange(len(registry.pending))
    seated = [node for node, _ in registry.pending]
    spares = [node for node in range(len(registry.generations)) if node not in seated]
    if spares and rng.random() < 0.5:
        return b"%s %d %d" % (SWAP, seat, rng.choice(spares))
    return b"%s %d" % (ROTATE, seat)
