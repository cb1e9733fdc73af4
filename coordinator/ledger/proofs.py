"""Proof that an event happened: for another chain, for a light client, for anyone who trusts a genesis.

    finalization certificate of h'  ->  header h in the history of h'  ->  receipt in h  ->  event in the receipt

Checked in this order, after the validators of the certificate's epoch are known. Where h has a certificate of its
own, h' = h and the history part is empty. Nothing may follow or be left over at any step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from coordinator.consensus.certificate import (
    MAX_CERTIFICATE_BYTES,
    Certificate,
    decode_certificate,
    verify_certificate,
)
from coordinator.consensus.errors import CertificateRefused, DecodeError
from coordinator.consensus.header import Header, decode_header
from coordinator.consensus.signing import Scheme, VoteKind
from coordinator.consensus.validators import ValidatorSet
from coordinator.ledger.block import TRANSACTIONS_MAX
from coordinator.ledger.errors import ProofRefused
from coordinator.ledger.history import DEPTH_MAX, prove_leaf, verify_inclusion
from coordinator.ledger.merkle import OpeningError
from coordinator.ledger.messages import parse
from coordinator.ledger.receipt import Event, Receipt, decode_receipt
from coordinator.ledger.store import Store
from protos.gridaccord.v1 import ledger_pb2 as pb

PROOF_MAX = MAX_CERTIFICATE_BYTES + 2**20
_HASH_SIZE = 32


@dataclass(frozen=True, slots=True)
class EventProof:
    """An event of block `header` and the way to it. `receipt` is its exact bytes."""

    certificate: Certificate
    certified: Header
    history: tuple[bytes, ...]
    header: Header
    receipt: bytes
    inclusion: tuple[bytes, ...]
    receipts: int
    event: int

    def encode(self) -> bytes:
        """As protobuf."""
        return pb.EventProof(
            certificate=self.certificate.encode(),
            certified=self.certified.encode(),
            history=self.history,
            header=self.header.encode(),
            receipt=self.receipt,
            inclusion=self.inclusion,
            receipts=self.receipts,
            event=self.event,
        ).SerializeToString()


@dataclass(frozen=True, slots=True)
class ProvenEvent:
    """What a proof shows: the event, its receipt, and the header of its block."""

    event: Event
    receipt: Receipt
    header: Header


def decode_event_proof(data: bytes) -> EventProof:
    """Raises DecodeError."""
    message = parse(pb.EventProof, data, PROOF_MAX)
    for path in (message.history, message.inclusion):
        if len(path) > DEPTH_MAX or any(len(value) != _HASH_SIZE for value in path):
            raise DecodeError(f"event proof: a path is not at most {DEPTH_MAX} hashes of {_HASH_SIZE} bytes")
    return EventProof(
        decode_certificate(message.certificate),
        decode_header(message.certified),
        tuple(message.history),
        decode_header(message.header),
        message.receipt,
        tuple(message.inclusion),
        message.receipts,
        message.event,
    )


def verify_event(proof: EventProof, validators: Callable[[int], ValidatorSet], scheme: Scheme) -> ProvenEvent:
    """The event that a proof shows. `validators` gives an epoch's set, or KeyError. Raises ProofRefused.

    `LightClient.validators` is such a function; its chain is the one that the proof must be of.
    """
    _verify_finality(proof, validators, scheme)
    verify_history(proof.header, proof.certified, proof.history)
    receipt = verify_receipt(proof.header, proof.receipt, proof.receipts, proof.inclusion)
    if proof.event >= len(receipt.events):
        raise ProofRefused(f"event: number {proof.event} of a receipt with {len(receipt.events)}")
    return ProvenEvent(receipt.events[proof.event], receipt, proof.header)


def _verify_finality(proof: EventProof, validators: Callable[[int], ValidatorSet], scheme: Scheme) -> None:
    certificate, certified = proof.certificate, proof.certified
    try:
        members = validators(certified.epoch)
    except KeyError:
        raise ProofRefused(f"certificate: the validators of epoch {certified.epoch} are not known") from None
    if certificate.kind is not VoteKind.FINALIZE:
        raise ProofRefused(f"certificate: a {certificate.kind.name.lower()} certificate finalizes nothing")
    if certificate.digest != certified.digest or certified.chain_id != members.chain_id:
        raise ProofRefused("certificate: it is of another block, or the block of another chain")
    if certified.validators_root != members.root:
        raise ProofRefused("certificate: the header commits to other validators than those of its epoch")
    try:
        verify_certificate(certificate, members, scheme)
    except CertificateRefused as error:
        raise ProofRefused(f"certificate: {error}") from None


def verify_history(header: Header, certified: Header, history: Sequence[bytes]) -> None:
    """That a block stands in the history of a certified one, or is that one. Raises ProofRefused."""
    if header == certified:
        if history:
            raise ProofRefused("history: hashes are given where none are needed")
        return
    if header.height >= certified.height:
        raise ProofRefused(f"history: height {header.height} is not before the certified {certified.height}")
    try:
        verify_inclusion(certified.history_root, certified.height, header.height, header.digest, history)
    except OpeningError as error:
        raise ProofRefused(f"history: {error}") from None


def verify_receipt(header: Header, encoded: bytes, count: int, inclusion: Sequence[bytes]) -> Receipt:
    """The receipt in these bytes, as one of `count` that stand in a block. Raises ProofRefused."""
    try:
        receipt = decode_receipt(encoded)
    except DecodeError as error:
        raise ProofRefused(f"receipt: {error}") from None
    if (receipt.chain_id, receipt.height) != (header.chain_id, header.height):
        raise ProofRefused("receipt: it is of another block")
    if not receipt.place < count <= TRANSACTIONS_MAX + 1:
        raise ProofRefused(f"receipt: place {receipt.place} of {count}")
    try:
        verify_inclusion(header.receipts_root, count, receipt.place, encoded, inclusion)
    except OpeningError as error:
        raise ProofRefused(f"receipt: {error}") from None
    return receipt


def prove_event(store: Store, height: int, place: int, event: int, certified_from: int = 0) -> EventProof:
    """The proof of an event by its block, receipt and number. Raises ProofRefused where there is none.

    The certificate is of a block at `certified_from` or above: whoever reads the proof may know late epochs only.
    """
    block, receipts = store.block(height), store.receipts(height)
    if block is None or not 0 <= place < len(receipts) or not 0 <= event < len(receipts[place].events):
        raise ProofRefused(f"height {height}: there is no event {event} in receipt {place}")
    certified_height = store.certified_from(max(height, certified_from))
    if certified_height is None:
        raise ProofRefused(f"height {height}: nothing is final yet from height {certified_from} on")
    certified, certificate = store.block(certified_height), store.certificate(certified_height)
    assert certified is not None
    assert certificate is not None
    history = () if certified_height == height else store.history.prove_inclusion(height, certified_height)
    leaves = [receipt.encode() for receipt in receipts]
    return EventProof(
        certificate,
        certified.header,
        history,
        block.header,
        leaves[place],
        prove_leaf(leaves, place),
        len(leaves),
        event,
    )
