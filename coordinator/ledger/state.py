"""The state machine: block application as a pure function (state, block) -> (state, receipts).

A `Machine` is a tuple of modules. Each module names its transaction kinds with a handler each, may add an
end-of-block rule, records at genesis and a check of its own books, and keeps its entries under its name in the same
state tree. The core module is in `handlers.py`; settlement adds its own.

A transaction with a bad signature, an unknown or frozen signer, a wrong sequence number or past its validity makes
the whole block invalid: a proposer can know. One that cannot be carried out (`Rejected`) uses its sequence number,
changes nothing else, and its receipt says why. Any other exception is a bug and stops the chain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from coordinator.consensus.epochs import EpochConfig, boundary_height, epoch_of
from coordinator.consensus.errors import DecodeError
from coordinator.consensus.header import Header, payload_digest
from coordinator.consensus.signing import Scheme
from coordinator.ledger.block import Block, decode_payload, encode_payload, fits, transactions_root
from coordinator.ledger.errors import BlockRefused, BooksBroken, Contradiction, Rejected, TransactionRefused
from coordinator.ledger.history import Frontier, leaves_root
from coordinator.ledger.invariants import check_changes
from coordinator.ledger.receipt import DONE, END_OF_BLOCK, Receipt
from coordinator.ledger.records import Participant
from coordinator.ledger.registry import (
    CURRENT,
    NEXT,
    end_epoch,
    parameter,
    participant_of,
    protocol,
    validator_set,
)
from coordinator.ledger.state_tree import StateTree
from coordinator.ledger.transaction import SignedTransaction
from coordinator.ledger.view import BlockContext, Context, Records, View

SUPPORTED_VERSIONS = (1,)
EPOCH_LENGTH = "epoch_length"

Handler = Callable[[Context, bytes], None]
EndOfBlock = Callable[[Context], None]
GenesisRule = Callable[[Context, Mapping[str, object]], None]
Check = Callable[[View], None]


@dataclass(frozen=True, slots=True)
class Module:
    """A part of the state machine.

    `handlers` by transaction kind; a handler raises Rejected (or DecodeError) before or after writing, either way
    nothing stays. `end_of_block` runs once a block after its transactions, in the order of modules; it must not raise.
    `genesis` writes first records from the section of the genesis document that bears the module's name. `check`
    raises BooksBroken where the module's own books do not add up.
    """

    name: str
    handlers: Mapping[str, Handler]
    end_of_block: EndOfBlock | None = None
    genesis: GenesisRule | None = None
    check: Check | None = None

    @property
    def prefix(self) -> bytes:
        """Where its entries stand."""
        return self.name.encode() + b"/"


@dataclass(frozen=True, slots=True)
class LedgerState:
    """Everything the next block depends on: the last header, the entries, and the history with that header in it."""

    header: Header
    tree: StateTree
    history: Frontier

    @property
    def view(self) -> View:
        """To read from; writes to it change nothing here."""
        return View(self.tree)

    @property
    def epoch_length(self) -> int:
        """Blocks in an epoch, from genesis."""
        text = parameter(self.view, EPOCH_LENGTH)
        assert text is not None, "genesis writes the length of an epoch"
        return int(text)

    def epoch_configs(self) -> tuple[EpochConfig, EpochConfig]:
        """Validators and version of the epoch that the next block belongs to, and of the one after it."""
        view, chain_id = self.view, self.header.chain_id
        epoch = epoch_of(self.header.height + 1, self.epoch_length)
        known = protocol(view)
        return (
            EpochConfig(validator_set(view, CURRENT, chain_id, epoch), known.version),
            EpochConfig(validator_set(view, NEXT, chain_id, epoch + 1), known.next_version),
        )


@dataclass(frozen=True, slots=True)
class Applied:
    """What a block does: the state after it, its receipts in order, and the keys that it may have changed."""

    state: LedgerState
    receipts: tuple[Receipt, ...]
    touched: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class _Outcome:
    tree: StateTree
    transactions: tuple[SignedTransaction, ...]
    receipts: tuple[Receipt, ...]
    touched: tuple[bytes, ...]


class Machine:
    """Modules put together, and the protocol versions they speak. Holds no state of a chain."""

    def __init__(
        self, modules: Sequence[Module], scheme: Scheme, versions: tuple[int, ...] = SUPPORTED_VERSIONS
    ) -> None:
        self.modules = tuple(modules)
        self.scheme = scheme
        self.versions = versions
        self._handlers: dict[str, tuple[Module, Handler]] = {}
        for module in self.modules:
            for kind, handler in module.handlers.items():
                assert kind not in self._handlers, f"two modules handle {kind}"
                self._handlers[kind] = (module, handler)

    def apply(self, state: LedgerState, block: Block) -> Applied:
        """The state after a block. Raises BlockRefused, which names the field, where it does not follow."""
        header = block.header
        self._check_place(state, header)
        if payload_digest(block.payload) != header.payload_digest:
            raise BlockRefused("payload_digest", "the payload is another one")
        try:
            transactions = decode_payload(block.payload)
        except DecodeError as error:
            raise BlockRefused("payload", str(error)) from None
        outcome = self._execute(state, header.time_ms, transactions)
        roots = _roots(state, outcome)
        for field, root in roots.items():
            if getattr(header, field) != root:
                raise BlockRefused(field, f"{getattr(header, field).hex()[:16]}, execution gives {root.hex()[:16]}")
        return _applied(state, header, outcome)

    def build(self, state: LedgerState, candidates: Iterable[SignedTransaction], time_ms: int) -> tuple[Block, Applied]:
        """A block of those candidates that may stand in it, in their order; the rest are left out."""
        considered = tuple(candidates)
        outcome = self._execute(state, time_ms, considered[: fits(considered)], leave_out=True)
        payload = encode_payload(outcome.transactions)
        current, following = state.epoch_configs()
        parent = state.header
        header = Header(
            version=current.version,
            chain_id=parent.chain_id,
            epoch=current.epoch,
            height=parent.height + 1,
            time_ms=time_ms,
            parent_digest=parent.digest,
            validators_root=current.validators.root,
            next_validators_root=following.validators.root,
            payload_digest=payload_digest(payload),
            **_roots(state, outcome),
        )
        return Block(header, payload), _applied(state, header, outcome)

    def check_admissible(self, state: LedgerState, signed: SignedTransaction) -> None:
        """Raise TransactionRefused where a transaction could not stand in the next block."""
        self._admit(View(state.tree), self._context(state, state.header.time_ms + 1), signed)

    def check_modules(self, tree: StateTree) -> None:
        """Raise BooksBroken where a module's own books do not add up."""
        for module in self.modules:
            if module.check is not None:
                module.check(View(tree))

    def _context(self, state: LedgerState, time_ms: int) -> BlockContext:
        height = state.header.height + 1
        epoch = epoch_of(height, state.epoch_length)
        version = protocol(state.view).version
        return BlockContext(state.header.chain_id, height, epoch, time_ms, version, self.scheme)

    def _check_place(self, state: LedgerState, header: Header) -> None:
        """Everything in a header that does not need its payload."""
        parent = state.header
        current, following = state.epoch_configs()
        if current.version not in self.versions:
            raise BlockRefused("version", f"{current.version} is in force, this software speaks {self.versions}")
        expected: dict[str, int | bytes] = {
            "version": current.version,
            "chain_id": parent.chain_id,
            "epoch": current.epoch,
            "height": parent.height + 1,
            "parent_digest": parent.digest,
            "history_root": state.history.root,
            "validators_root": current.validators.root,
            "next_validators_root": following.validators.root,
        }
        for field, value in expected.items():
            if getattr(header, field) != value:
                raise BlockRefused(field, f"{_shown(getattr(header, field))}, {_shown(value)} follows from the parent")
        if header.time_ms <= parent.time_ms:
            raise BlockRefused("time_ms", f"{header.time_ms} is not after the parent's {parent.time_ms}")

    def _execute(
        self, state: LedgerState, time_ms: int, transactions: Sequence[SignedTransaction], leave_out: bool = False
    ) -> _Outcome:
        """Carry out transactions. One that may not stand in the block is left out, or refuses the block."""
        block, view = self._context(state, time_ms), View(state.tree)
        included: list[SignedTransaction] = []
        receipts = []
        for signed in transactions:
            before = view.tree
            try:
                self._admit(view, block, signed)
                receipts.append(self._carry_out(view, block, signed, len(included)))
            except (TransactionRefused, Contradiction) as error:
                if not leave_out:
                    raise BlockRefused("payload", f"transaction {len(included)}: {error}") from None
                view.tree = before
            else:
                included.append(signed)
        receipts.append(self._end_of_block(view, block, len(included)))
        if block.height == boundary_height(block.epoch, state.epoch_length):
            end_epoch(view)
        try:
            check_changes(state.tree, view.tree, view.touched)
        except BooksBroken as error:
            raise BooksBroken(f"height {block.height}: {error}") from None
        return _Outcome(view.tree, tuple(included), tuple(receipts), view.touched)

    def _admit(self, view: View, block: BlockContext, signed: SignedTransaction) -> None:
        """Check what a proposer can know, and use the sequence number."""
        transaction = signed.transaction
        participant = participant_of(view, transaction.signer)
        if participant is None:
            raise TransactionRefused(f"signer {transaction.signer!r} is not registered")
        if participant.frozen:
            raise TransactionRefused(f"signer {transaction.signer} is frozen")
        if transaction.sequence != participant.next_sequence:
            expected = participant.next_sequence
            raise TransactionRefused(f"sequence {transaction.sequence}; the next of {transaction.signer} is {expected}")
        if transaction.valid_until_height < block.height:
            raise TransactionRefused(f"valid until height {transaction.valid_until_height}, this is {block.height}")
        if not signed.envelope.is_signed_by(participant.public_key, block.chain_id, self.scheme):
            raise TransactionRefused(f"the signature is not of {transaction.signer}'s key for this chain")
        used = Participant(participant.public_key, participant.next_sequence + 1, participant.frozen)
        view.put(Participant.key(transaction.signer), used.encode())

    def _carry_out(self, view: View, block: BlockContext, signed: SignedTransaction, place: int) -> Receipt:
        transaction, before = signed.transaction, view.tree
        receipt = Receipt(block.chain_id, block.height, place, signed.digest(block.chain_id), DONE, ())
        try:
            module, handler = self._handler(transaction.kind)
            context = Context(view, block, Records(view, module.prefix), transaction.signer)
            handler(context, transaction.content)
        except (Rejected, DecodeError) as error:
            view.tree = before
            code = error.code if isinstance(error, Rejected) else "malformed"
            return replace(receipt, code=code, detail=str(error))
        return replace(receipt, events=tuple(context.events))

    def _handler(self, kind: str) -> tuple[Module, Handler]:
        found = self._handlers.get(kind)
        if found is None:
            raise Rejected("unknown_kind", f"no part of the state machine carries out {kind!r}")
        return found

    def _end_of_block(self, view: View, block: BlockContext, place: int) -> Receipt:
        events = []
        for module in self.modules:
            if module.end_of_block is not None:
                context = Context(view, block, Records(view, module.prefix))
                module.end_of_block(context)
                events += context.events
        return Receipt(block.chain_id, block.height, place, END_OF_BLOCK, DONE, tuple(events))


def _shown(value: int | bytes) -> str:
    return value.hex()[:16] if isinstance(value, bytes) else str(value)


def _roots(state: LedgerState, outcome: _Outcome) -> dict[str, bytes]:
    return {
        "transactions_root": transactions_root(state.header.chain_id, outcome.transactions),
        "state_root": outcome.tree.root,
        "receipts_root": leaves_root([receipt.encode() for receipt in outcome.receipts]),
        "history_root": state.history.root,
    }


def _applied(state: LedgerState, header: Header, outcome: _Outcome) -> Applied:
    after = LedgerState(header, outcome.tree, state.history.append(header.digest))
    return Applied(after, outcome.receipts, outcome.touched)
