"""Boundaries of epochs: what a light client needs to step from the validators of one to those of the next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from coordinator.consensus.certificate import MAX_CERTIFICATE_BYTES, Certificate, decode_certificate
from coordinator.consensus.errors import CertificateRefused, DecodeError
from coordinator.consensus.header import Header, decode_header
from coordinator.consensus.light_client import LightClient
from coordinator.consensus.signing import Scheme
from coordinator.consensus.validators import MAX_VALIDATORS, ValidatorSet
from coordinator.ledger.errors import ProofRefused
from coordinator.ledger.genesis import Genesis
from coordinator.ledger.messages import parse
from protos.gridaccord.v1 import ledger_pb2 as pb

_BOUNDARY_MAX = MAX_CERTIFICATE_BYTES + MAX_VALIDATORS * 40 + 1024


@dataclass(frozen=True, slots=True)
class Boundary:
    """The last block of an epoch, its own finalization, and the keys of the next epoch's validators."""

    header: Header
    certificate: Certificate
    next_validators: tuple[bytes, ...]

    def message(self) -> pb.Boundary:
        """As a protobuf message."""
        return pb.Boundary(
            header=self.header.encode(),
            certificate=self.certificate.encode(),
            next_validators=self.next_validators,
        )

    def encode(self) -> bytes:
        """As protobuf."""
        return self.message().SerializeToString()


def decode_boundary(data: bytes) -> Boundary:
    """Raises DecodeError."""
    return checked_boundary(parse(pb.Boundary, data, _BOUNDARY_MAX))


def checked_boundary(message: pb.Boundary) -> Boundary:
    """A boundary from its message. Raises DecodeError."""
    keys = tuple(message.next_validators)
    if not 1 <= len(keys) <= MAX_VALIDATORS or any(len(key) != 32 for key in keys) or len(set(keys)) != len(keys):
        raise DecodeError("boundary: the keys of the next validators are not so many different keys")
    return Boundary(decode_header(message.header), decode_certificate(message.certificate), keys)


def follow(genesis: Genesis, boundaries: Iterable[Boundary], scheme: Scheme) -> LightClient:
    """A light client that starts from genesis and has walked these. Raises ProofRefused, which names the epoch."""
    client = LightClient(genesis.validators, genesis.epoch_length, scheme)
    for boundary in boundaries:
        header = boundary.header
        following = ValidatorSet(genesis.chain_id, header.epoch + 1, boundary.next_validators)
        try:
            client.advance(header, boundary.certificate, following)
        except CertificateRefused as error:
            raise ProofRefused(f"boundary of epoch {header.epoch}: {error}") from None
    return client
