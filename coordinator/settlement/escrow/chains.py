"""Light clients of other chains, as entries of a chain's own state (P4): they advance by boundaries only, in order.

Kept are the validators of a chain's current and previous epoch. An older block is proved by a descendant's
certificate and its `history_root`.

Key                        entry
chain/<chain id>           blocks an epoch, current epoch
keys/<chain id><epoch>     public keys of the epoch's validators
"""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.consensus.certificate import decode_certificate
from coordinator.consensus.errors import CertificateRefused, ConflictingFinalizations
from coordinator.consensus.header import decode_header
from coordinator.consensus.light_client import LightClient
from coordinator.consensus.signing import Scheme
from coordinator.consensus.validators import MAX_VALIDATORS, ValidatorSet
from coordinator.ledger.boundary import decode_boundary
from coordinator.ledger.codec import Reader, Writer
from coordinator.ledger.errors import ProofRefused, Rejected
from coordinator.ledger.proofs import decode_event_proof, verify_event
from coordinator.ledger.view import Records
from coordinator.settlement.escrow.proofs import ProvenEvent, ProvenFork
from coordinator.settlement.escrow.types import HASH_SIZE

ESCROW_EVENT = "escrow"
_CHAIN, _KEYS = b"chain/", b"keys/"


@dataclass(frozen=True, slots=True)
class Chains:
    """The light clients in some records; the `Verifier` of the escrow protocol."""

    records: Records
    scheme: Scheme

    def follow(self, chain_id: bytes, epoch_length: int, public_keys: tuple[bytes, ...], epoch: int = 0) -> None:
        """Begin to follow a chain from validators that are trusted."""
        if len(chain_id) != HASH_SIZE or epoch_length < 1 or not 1 <= len(public_keys) <= MAX_VALIDATORS:
            raise Rejected("bad_chain", "a chain has an id of 32 bytes, blocks in an epoch and validators")
        if len(set(public_keys)) != len(public_keys):
            raise Rejected("bad_chain", "two validators have the same key; give each its own")
        if self.records.get(_CHAIN + chain_id) is not None:
            raise Rejected("chain_taken", f"chain {chain_id.hex()[:16]} is followed already; its light client stays")
        self.records.put(_CHAIN + chain_id, Writer().uint64(epoch_length).uint64(epoch).encoded)
        self._put_keys(chain_id, epoch, public_keys)

    def epoch(self, chain_id: bytes) -> int:
        """The latest epoch whose validators are known. Raises Rejected for a chain that is not followed."""
        return self._chain(chain_id)[1]

    def epoch_length(self, chain_id: bytes) -> int:
        """Blocks in an epoch of a chain that is followed. Raises Rejected for others."""
        return self._chain(chain_id)[0]

    def validators(self, chain_id: bytes, epoch: int) -> ValidatorSet:
        """The validators of the current or previous epoch of a chain; KeyError for others."""
        data = self.records.get(_keys_key(chain_id, epoch))
        if data is None:
            raise KeyError(f"the validators of epoch {epoch} are not kept; relay boundaries, or prove by a descendant")
        reader = Reader(data)
        keys = tuple(reader.raw(32) for _ in range(reader.uint32()))
        reader.end()
        return ValidatorSet(chain_id, epoch, keys)

    def advance(self, boundary: bytes) -> int:
        """Step into a chain's next epoch; the epoch reached."""
        step = decode_boundary(boundary)
        chain_id = step.header.chain_id
        length, epoch = self._chain(chain_id)
        client = LightClient(self.validators(chain_id, epoch), length, self.scheme)
        try:
            client.advance(step.header, step.certificate, ValidatorSet(chain_id, epoch + 1, step.next_validators))
        except CertificateRefused as error:
            raise Rejected("proof_refused", f"boundary of epoch {step.header.epoch}: {error}") from None
        self.records.put(_CHAIN + chain_id, Writer().uint64(length).uint64(epoch + 1).encoded)
        self._put_keys(chain_id, epoch + 1, step.next_validators)
        if epoch:
            self.records.delete(_keys_key(chain_id, epoch - 1))
        return epoch + 1

    def event(self, proof: bytes, kind: str = ESCROW_EVENT) -> ProvenEvent:
        """An event of this kind on a chain that is followed."""
        decoded = decode_event_proof(proof)
        chain_id = decoded.certified.chain_id
        self._chain(chain_id)
        try:
            proven = verify_event(decoded, lambda epoch: self.validators(chain_id, epoch), self.scheme)
        except ProofRefused as error:
            raise Rejected("proof_refused", str(error)) from None
        if proven.event.kind != kind or proven.header.chain_id != chain_id:
            raise Rejected("proof_refused", f"the proof is of an event {proven.event.kind!r}")
        return ProvenEvent(chain_id, decoded.certified.epoch, proven.header.height, proven.event.payload)

    def fork(self, proof: bytes) -> ProvenFork:
        """Two finalized headers of one height, each behind its length with its certificate: see `encode_fork`."""
        reader = Reader(proof)
        pairs = [(decode_header(reader.bytes()), decode_certificate(reader.bytes())) for _ in range(2)]
        reader.end()
        chain_id, epoch = pairs[0][0].chain_id, pairs[0][0].epoch
        length, _ = self._chain(chain_id)
        try:
            client = LightClient(self.validators(chain_id, epoch), length, self.scheme)
            for header, certificate in pairs:
                client.verify(header, certificate)
        except ConflictingFinalizations:
            return ProvenFork(chain_id, pairs[0][0].height)
        except (CertificateRefused, KeyError) as error:
            raise Rejected("proof_refused", f"fork: {error}") from None
        raise Rejected("proof_refused", "fork: both blocks can be honest")

    def _chain(self, chain_id: bytes) -> tuple[int, int]:
        data = self.records.get(_CHAIN + chain_id)
        if data is None:
            raise Rejected("unknown_chain", f"chain {chain_id.hex()[:16]} is not followed here")
        reader = Reader(data)
        length, epoch = reader.uint64(), reader.uint64()
        reader.end()
        return length, epoch

    def _put_keys(self, chain_id: bytes, epoch: int, public_keys: tuple[bytes, ...]) -> None:
        writer = Writer().uint32(len(public_keys))
        for key in public_keys:
            writer.raw(key)
        self.records.put(_keys_key(chain_id, epoch), writer.encoded)


def encode_fork(first: tuple[bytes, bytes], second: tuple[bytes, bytes]) -> bytes:
    """A fork's proof from two encoded headers, each with its encoded certificate."""
    writer = Writer()
    for header, certificate in (first, second):
        writer.bytes(header).bytes(certificate)
    return writer.encoded


def _keys_key(chain_id: bytes, epoch: int) -> bytes:
    return _KEYS + chain_id + epoch.to_bytes(8, "big")
