"""Proofs as a client checks them: from a genesis that it trusts, and nothing that the node merely says."""

from __future__ import annotations

from coordinator.consensus.certificate import decode_certificate
from coordinator.consensus.errors import CertificateRefused
from coordinator.consensus.header import Header, decode_header
from coordinator.consensus.signing import Scheme
from coordinator.ledger import proofs
from coordinator.ledger.boundary import decode_boundary, follow
from coordinator.ledger.errors import ProofRefused
from coordinator.ledger.genesis import Genesis
from coordinator.ledger.merkle import OpeningError
from coordinator.ledger.receipt import Receipt
from coordinator.ledger.records import Account
from coordinator.ledger.state_tree import decode_state_proof, verify_state
from protos.gridaccord.v1 import service_pb2 as pb


def verify_finality(proof: pb.FinalityProof, genesis: Genesis, scheme: Scheme) -> Header:
    """The header that a proof shows to be final. Raises ProofRefused, DecodeError."""
    client = follow(genesis, map(decode_boundary, proof.boundaries), scheme)
    certified, header = decode_header(proof.certified), decode_header(proof.header)
    try:
        client.verify(certified, decode_certificate(proof.certificate))
        if certified.chain_id != genesis.chain_id:
            raise ProofRefused("the header is of another chain")
    except CertificateRefused as error:
        raise ProofRefused(f"finality of height {header.height}: {error}") from None
    proofs.verify_history(header, certified, proof.history)
    return header


def verify_account(
    proof: pb.StateEntryProof, owner: str, asset: str, genesis: Genesis, scheme: Scheme
) -> tuple[Header, Account]:
    """The account after a final block; an empty one where the proof shows that there is none."""
    header, key = verify_finality(proof.finality, genesis, scheme), Account.key(owner, asset)
    value = proof.value if proof.present else None
    try:
        verify_state(header.state_root, key, value, decode_state_proof(proof.proof))
    except OpeningError as error:
        raise ProofRefused(f"account {owner} {asset}: {error}") from None
    return header, Account() if value is None else Account.decode(value)


def verify_receipt(proof: pb.ReceiptProof, digest: bytes, genesis: Genesis, scheme: Scheme) -> tuple[Header, Receipt]:
    """What became of a transaction, and the block it stands in."""
    header = verify_finality(proof.finality, genesis, scheme)
    receipt = proofs.verify_receipt(header, proof.receipt, proof.receipts, proof.inclusion)
    if receipt.transaction != digest:
        raise ProofRefused("receipt: it is of another transaction")
    return header, receipt
