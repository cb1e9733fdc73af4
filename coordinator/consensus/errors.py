"""Errors of the consensus core, split by who is at fault: a peer's bytes, a certificate, or the host itself."""

from __future__ import annotations


class DecodeError(ValueError):
    """Bytes that are not the one encoding of anything; says which field and why."""


class CertificateRefused(ValueError):
    """A well-formed certificate that proves nothing to this validator set."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LocalMisuse(RuntimeError):
    """The host broke its side of the contract; the message names the input and what to give instead."""


class UnsupportedVersion(LocalMisuse):
    """A quorum activated a protocol version that this software does not speak: upgrade before that epoch begins."""


class SafetyViolation(RuntimeError):
    """More than f validators are faulty, or the application is not deterministic: stop, nothing here can repair it."""


class EvidenceRefused(ValueError):
    """Two messages that do not prove that their signer broke the protocol."""


class ConflictingFinalizations(SafetyViolation):
    """Two valid finalizations that exclude each other; `signers` signed both and are provably faulty."""

    def __init__(self, message: str, signers: tuple[int, ...]) -> None:
        super().__init__(message)
        self.signers = signers
