"""The business of simulated chains: a hub and regions that settle by escrow, on proofs of each other's final blocks.

Operations in blocks: proofs of events (`ledger.proofs.EventProof`), boundaries that move a light client on
(`ledger.boundary.Boundary`), OPENs, nettings, mandates and local spending. An operation that is refused does nothing,
so leaders, Byzantine ones among them, may include what they like. The light clients are state of the chain (P4).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from coordinator.consensus.certificate import verify_certificate
from coordinator.consensus.errors import CertificateRefused, DecodeError
from coordinator.consensus.signing import Scheme, VoteKind
from coordinator.consensus.validators import ValidatorSet
from coordinator.ledger.boundary import Boundary, decode_boundary
from coordinator.ledger.codec import Reader, Writer
from coordinator.ledger.errors import ProofRefused
from coordinator.ledger.proofs import decode_event_proof, verify_event
from coordinator.settlement.escrow.admission import reserve
from coordinator.settlement.escrow.encoding import encode_event, read_leg, write_leg
from coordinator.settlement.escrow.errors import EscrowRefused, RegionHalted
from coordinator.settlement.escrow.hub_record import accept_receipt, end_of_block, open_netting, open_payment
from coordinator.settlement.escrow.invariants import HubObserved, RegionObserved
from coordinator.settlement.escrow.proofs import ProvenEvent
from coordinator.settlement.escrow.records import HubTransition, RegionTransition
from coordinator.settlement.escrow.region_record import Moment, on_hub_event
from coordinator.settlement.escrow.types import NEUTRAL, Leg
from coordinator.simulation.application import EVENT_KIND, Operations

ASSET = "EUR"
OWNER, SHOP = b"owner", b"shop"
PROOF, BOUNDARY, OPEN, NETTING, MANDATE, SPEND = b"P", b"B", b"O", b"N", b"M", b"S"
_REFUSALS = (EscrowRefused, ProofRefused, CertificateRefused, DecodeError, KeyError)


def owner_signature(account: bytes, message: bytes) -> bytes:
    """The simulated signature of an account's owner."""
    return hashlib.sha512(b"owner" + account + message).digest()


def owner_signed(account: bytes, message: bytes, signature: bytes) -> bool:
    """Whether it is."""
    return signature == owner_signature(account, message)


def encode_legs(nonce: bytes, legs: tuple[Leg, ...]) -> bytes:
    """A netting's nonce and legs."""
    writer = Writer().raw(nonce).uint32(len(legs))
    for leg in legs:
        write_leg(writer, leg)
    return writer.encoded


def decode_legs(data: bytes) -> tuple[bytes, tuple[Leg, ...]]:
    """A netting's nonce and legs. Raises DecodeError."""
    reader = Reader(data)
    nonce = reader.raw(32)
    legs = tuple(read_leg(reader) for _ in range(min(reader.uint32(), 64)))
    reader.end()
    return nonce, legs


@dataclass(frozen=True, slots=True)
class Follower:
    """A light client as a value: the validators of every epoch of another chain, from genesis on."""

    length: int
    sets: tuple[ValidatorSet, ...]

    @property
    def epoch(self) -> int:
        """The newest known."""
        return len(self.sets) - 1

    def validators(self, epoch: int) -> ValidatorSet:
        """The validators of an epoch, or KeyError."""
        if not 0 <= epoch < len(self.sets):
            raise KeyError(epoch)
        return self.sets[epoch]

    def advanced(self, boundary: Boundary, scheme: Scheme) -> Follower:
        """One epoch further. Raises CertificateRefused."""
        header, certificate = boundary.header, boundary.certificate
        if header.epoch != self.epoch or header.height != (header.epoch + 1) * self.length:
            raise CertificateRefused("it is not the next boundary")
        if certificate.kind is not VoteKind.FINALIZE or certificate.digest != header.digest:
            raise CertificateRefused("its certificate finalizes something else")
        verify_certificate(certificate, self.sets[-1], scheme)
        following = ValidatorSet(header.chain_id, header.epoch + 1, boundary.next_validators)
        if following.root != header.next_validators_root or header.validators_root != self.sets[-1].root:
            raise CertificateRefused("it commits to other validators")
        return replace(self, sets=(*self.sets, following))

    def proven(self, proof: bytes, scheme: Scheme) -> ProvenEvent:
        """The event that a proof shows. Raises ProofRefused or DecodeError."""
        decoded = decode_event_proof(proof)
        shown = verify_event(decoded, self.validators, scheme)
        if shown.event.kind != EVENT_KIND:
            raise ProofRefused("event: of another kind")
        return ProvenEvent(shown.header.chain_id, decoded.certificate.epoch, shown.header.height, shown.event.payload)


def _root(*parts: Any) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


@dataclass(frozen=True, slots=True)
class HubLedger:
    """The hub's books, what an observer saw happen in them, and a light client for each region."""

    observed: HubObserved
    followers: tuple[tuple[str, Follower], ...]
    scheme: Scheme

    def root(self) -> bytes:
        """Of the books and light clients; histories follow from the chain."""
        epochs = tuple((name, follower.sets[-1].root) for name, follower in self.followers)
        return _root(self.observed.books.snapshot(), epochs)

    def follower(self, name: str) -> Follower:
        """The light client of a region."""
        return dict(self.followers)[name]

    def execute(self, operations: Operations, height: int, epoch: int) -> tuple[HubLedger, tuple[bytes, ...]] | None:
        """A block: its operations, then the end-of-block rules."""
        ledger, events = self, list[bytes]()
        for operation in operations:
            ledger, new = ledger.did(operation, height)
            events += new
        while (step := end_of_block(ledger.observed.books, height)) is not None:
            ledger, new = ledger._wrote(step)
            events += new
        observed = replace(ledger.observed, height=height)
        return replace(ledger, observed=observed), tuple(events)

    def did(self, operation: bytes, height: int) -> tuple[HubLedger, list[bytes]]:
        """One operation; nothing if it is refused."""
        try:
            return self._do(operation[:1], operation[1:], height)
        except _REFUSALS:
            return self, []

    def _do(self, kind: bytes, content: bytes, height: int) -> tuple[HubLedger, list[bytes]]:
        books = self.observed.books
        if kind == OPEN:
            return self._wrote(open_payment(books, content, height))
        if kind == NETTING:
            return self._net(content, height)
        if kind == PROOF:
            return self._wrote(accept_receipt(books, self._proven(content), height))
        if kind == BOUNDARY:
            return self._followed(decode_boundary(content)), []
        return self, []

    def _proven(self, proof: bytes) -> ProvenEvent:
        chain_id = decode_event_proof(proof).certified.chain_id
        for _, follower in self.followers:
            if follower.sets[0].chain_id == chain_id:
                return follower.proven(proof, self.scheme)
        raise ProofRefused("certificate: of a chain that is not registered")

    def _followed(self, boundary: Boundary) -> HubLedger:
        followers, observed = [], self.observed
        for name, follower in self.followers:
            if follower.sets[0].chain_id == boundary.header.chain_id:
                follower = follower.advanced(boundary, self.scheme)
                observed = replace(observed, books=observed.books.reached(name, follower.epoch))
            followers.append((name, follower))
        return replace(self, observed=observed, followers=tuple(followers))

    def _net(self, content: bytes, height: int) -> tuple[HubLedger, list[bytes]]:
        nonce, legs = decode_legs(content)
        ledger, events = self, list[bytes]()
        for leg in legs:
            if leg.amount < 0:
                step = reserve(ledger.observed.books, nonce, leg.region, leg.asset, -leg.amount)
                ledger, new = ledger._wrote(step)
                events += new
        ledger, new = ledger._wrote(open_netting(ledger.observed.books, nonce, legs, height))
        return ledger, events + new

    def _wrote(self, transition: HubTransition) -> tuple[HubLedger, list[bytes]]:
        if transition == HubTransition():
            return self, []
        after = replace(self, observed=self.observed.after(transition))
        return after, [encode_event(event) for event in transition.events]


@dataclass(frozen=True, slots=True)
class RegionLedger:
    """A region's books, what an observer saw happen in them, and its light client of the hub."""

    observed: RegionObserved
    hub: Follower
    scheme: Scheme

    def root(self) -> bytes:
        """Of the books and the light client."""
        return _root(self.observed.books.snapshot(), self.hub.sets[-1].root)

    def execute(self, operations: Operations, height: int, epoch: int) -> tuple[RegionLedger, tuple[bytes, ...]] | None:
        """A block; None for a COMMIT that does not fit: only a block on a parent that is not final can meet one."""
        ledger, events = self, list[bytes]()
        try:
            for operation in operations:
                ledger, new = ledger.did(operation, height, epoch)
                events += new
        except RegionHalted:
            return None
        return ledger, tuple(events)

    def did(self, operation: bytes, height: int, epoch: int = 0) -> tuple[RegionLedger, list[bytes]]:
        """One operation; nothing if it is refused."""
        try:
            return self._do(operation[:1], operation[1:], Moment(height, epoch))
        except _REFUSALS:
            return self, []

    def _do(self, kind: bytes, content: bytes, moment: Moment) -> tuple[RegionLedger, list[bytes]]:
        books = self.observed.books
        if kind == PROOF:
            transition = on_hub_event(books, self.hub.proven(content, self.scheme), moment)
            if transition == RegionTransition():
                return self, []
            return self._observing(self.observed.after(transition)), [encode_event(one) for one in transition.events]
        if kind == BOUNDARY:
            return replace(self, hub=self.hub.advanced(decode_boundary(content), self.scheme)), []
        if kind == MANDATE:
            nonce, legs = decode_legs(content)
            mandates = {**books.mandates, (nonce, NEUTRAL, ASSET): legs[0].amount}
            return self._observing(replace(self.observed, books=replace(books, mandates=mandates))), []
        amount = int.from_bytes(content[:2], "big")
        if kind == SPEND and 0 < amount <= books.free(OWNER, ASSET):
            spent = books.transferred(OWNER, SHOP, ASSET, amount)
            return self._observing(replace(self.observed, books=spent)), []
        return self, []

    def _observing(self, observed: RegionObserved) -> RegionLedger:
        return replace(self, observed=observed)


def tried(ledger: HubLedger | RegionLedger, operation: bytes, height: int) -> HubLedger | RegionLedger:
    """The books after an operation at a node that may lag: what contradicts its stale state waits."""
    try:
        return ledger.did(operation, height)[0]
    except RegionHalted:
        return ledger
