"""A small chain for tests: four validators, three participants, two devices, one asset."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.consensus.certificate import Certificate
from coordinator.consensus.epochs import boundary_height
from coordinator.consensus.header import Header
from coordinator.consensus.signing import (
    Ed25519Scheme,
    Ed25519Signer,
    Scheme,
    Signer,
    SimulatedScheme,
    SimulatedSigner,
    VoteKind,
    vote_bytes,
)
from coordinator.consensus.validators import ValidatorSet
from coordinator.ledger.genesis import Genesis, decode_genesis, encode_genesis, start
from coordinator.ledger.handlers import CORE
from coordinator.ledger.readings import Column, MeterBatch, SignedColumn, sign_column
from coordinator.ledger.registry import participant_of
from coordinator.ledger.state import Applied, Machine, Module
from coordinator.ledger.store import Finalized, Store
from coordinator.ledger.transaction import SignedTransaction, Transaction, sign_transaction
from protos.gridaccord.v1 import ledger_pb2 as pb

TIME_MS = 1_900_000_800_000
QUARTER_S = 900
VALIDATORS = ("v0", "v1", "v2", "v3")
PARTICIPANTS = ("alice", "bob", "carol")
DEVICES = {"meter-a": "alice", "meter-b": "bob"}
MILLION = 1_000_000


def seed_of(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


@dataclass
class Chain:
    """A chain in memory, and in a store if it has one."""

    real: bool = True
    epoch_length: int = 1000
    modules: Sequence[Module] = (CORE,)
    parameters: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None
    store: Store | None = None

    def __post_init__(self) -> None:
        self.scheme: Scheme = Ed25519Scheme() if self.real else SimulatedScheme()
        self.machine = Machine(self.modules, self.scheme)
        self.signers: dict[str, Signer] = {}
        self.genesis = self._genesis()
        self.chain_id = self.genesis.chain_id
        self.state = start(self.genesis, self.machine)
        if self.path is not None:
            self.store = Store.create(self.path, self.genesis, self.machine)

    def signer(self, name: str) -> Signer:
        if name not in self.signers:
            self.signers[name] = (Ed25519Signer if self.real else SimulatedSigner)(seed_of(name))
        return self.signers[name]

    def key(self, name: str) -> bytes:
        return self.signer(name).public_key

    def content(self) -> dict[str, object]:
        named = lambda names: [{"name": name, "public_key": self.key(name).hex()} for name in names]  # noqa: E731
        return {
            "format": "gridaccord-genesis-1",
            "name": "north",
            "time_ms": TIME_MS,
            "version": 1,
            "epoch_length": self.epoch_length,
            "validators": named(VALIDATORS),
            "participants": named(PARTICIPANTS),
            "devices": [
                {"name": name, "owner": owner, "account": owner, "public_key": self.key(name).hex()}
                for name, owner in DEVICES.items()
            ],
            "assets": [{"name": "EUR", "issuer": "carol"}],
            "accounts": [
                {"owner": name, "asset": "EUR", "balance": 1000 * MILLION, "credit_limit": 10 * MILLION}
                for name in ("alice", "bob")
            ],
            "parameters": dict(self.parameters),
            "modules": {},
        }

    def _genesis(self) -> Genesis:
        return decode_genesis(encode_genesis(self.content()))

    def sequence(self, name: str) -> int:
        found = participant_of(self.state.view, name)
        assert found is not None
        return found.next_sequence

    def transaction(
        self, signer: str, kind: str, content: bytes, *, ahead: int = 0, until: int = 10**6, key: str | None = None
    ) -> SignedTransaction:
        body = Transaction(signer, self.sequence(signer) + ahead, until, kind, content)
        return sign_transaction(self.signer(key or signer), self.chain_id, body)

    def pay(self, payer: str, payee: str, amount: int, *, ahead: int = 0) -> SignedTransaction:
        content = pb.Transfer(to=payee, asset="EUR", amount=amount).SerializeToString()
        return self.transaction(payer, "transfer", content, ahead=ahead)

    def readings(self, signer: str, batch: MeterBatch, *, ahead: int = 0) -> SignedTransaction:
        return self.transaction(signer, "readings", batch.commitment.SerializeToString(), ahead=ahead)

    def column(self, device: str, start_s: int, registers: Sequence[int], *, version: int = 0) -> SignedColumn:
        clocks = tuple((start_s + QUARTER_S * (n + 1)) * 1000 + 7 for n in range(len(registers)))
        column = Column(device, start_s, QUARTER_S, version, clocks, tuple(registers))
        return sign_column(self.signer(device), self.chain_id, column)

    def certificate(self, header: Header, validators: ValidatorSet, kind: VoteKind = VoteKind.FINALIZE) -> Certificate:
        names = {self.key(name): name for name in (*VALIDATORS, *PARTICIPANTS, *self.signers)}
        view = header.height + 3
        message = vote_bytes(kind, header.chain_id, header.epoch, view, view - 1, header.digest)
        signers = tuple(range(validators.size))[: validators.quorum]
        signatures = tuple(self.signer(names[validators.public_keys[index]]).sign(message) for index in signers)
        return Certificate(
            kind, header.chain_id, header.epoch, view, view - 1, header.digest, validators.size, signers, signatures
        )

    def make(
        self,
        *transactions: SignedTransaction,
        certified: bool = True,
        batches: Mapping[int, MeterBatch] | None = None,
        time_ms: int | None = None,
    ) -> Finalized:
        """The next block, in memory only: `state` moves on."""
        validators = self.state.epoch_configs()[0].validators
        when = self.state.header.time_ms + 1000 if time_ms is None else time_ms
        block, applied = self.machine.build(self.state, transactions, when)
        self.state = applied.state
        boundary = block.header.height == boundary_height(block.header.epoch, self.epoch_length)
        certificate = self.certificate(block.header, validators) if certified or boundary else None
        return Finalized(block, applied, certificate, batches or {})

    def add(self, *transactions: SignedTransaction, batches: Mapping[int, MeterBatch] | None = None) -> Applied:
        """The next block, committed to the store if there is one."""
        finalized = self.make(*transactions, batches=batches)
        if self.store is not None:
            self.store.commit([finalized])
        return finalized.applied


def codes(applied: Applied) -> list[str]:
    """What became of the transactions of a block."""
    return [receipt.code for receipt in applied.receipts[:-1]]
