"""What the ledger refuses, by who is at fault: a transaction, a block, or the disk."""

from __future__ import annotations


class Rejected(Exception):
    """A transaction that is valid but cannot be carried out; its sequence number is used, nothing else changes.

    `code` is part of the protocol and stands in the receipt; `detail` is for people.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class TransactionRefused(ValueError):
    """A transaction that may not stand in a block at all: signature, signer, sequence number or validity."""


class Contradiction(RuntimeError):
    """What a transaction proves cannot be true together with the state before it: it stands in no block on that state.

    Mostly the state is an old one, of a node that lags, and a later one agrees with the transaction.
    """


class BlockRefused(ValueError):
    """A block that does not follow from its parent; `field` names what is wrong with it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class BooksBroken(AssertionError):
    """Money appeared or vanished, or an account fell below its limit: the state machine itself is wrong."""


class GenesisError(ValueError):
    """A genesis document that no chain can start from."""


class ReadingsRefused(ValueError):
    """A batch of meter readings that may not be committed; names the device and what is wrong."""


class StoreError(RuntimeError):
    """The ledger file cannot be used; says which part and what to do."""


class StoreCorrupt(StoreError):
    """Stored bytes are not what was written."""


class StoreFull(StoreError):
    """The disk or the file's size limit is used up; nothing of the last commit was kept."""


class SigningRefused(RuntimeError):
    """A vote that conflicts with one signed before, or that lies at or below the guard's floor."""


class JournalCorrupt(StoreError):
    """The journal is missing, of another key or chain, or damaged before its end."""


class GuardCorrupt(StoreError):
    """The sign guard's file is missing, of another key or chain, or damaged before its end."""


class KeyFileError(StoreError):
    """A private key that is missing, malformed, or readable by others."""


class ProofRefused(ValueError):
    """A proof that does not show what it says; names the step that failed."""


class CheckpointError(ValueError):
    """A checkpoint or signed note that is malformed or not signed by the key expected."""
