"""A light client: from the genesis validators to those of any epoch, by one boundary header and certificate an epoch.

It trusts the genesis set and that at most f validators of each epoch are faulty. It never needs the blocks between
two boundaries. Two finalizations that exclude each other are reported with the validators that signed both.
"""

from __future__ import annotations

from coordinator.consensus.certificate import Certificate, verify_certificate
from coordinator.consensus.errors import CertificateRefused, ConflictingFinalizations
from coordinator.consensus.header import Header
from coordinator.consensus.signing import Scheme, VoteKind
from coordinator.consensus.validators import ValidatorSet

_REMEMBERED = 256
"""Finalizations kept for comparison, most recent heights first to stay."""


class LightClient:
    """Follows one chain. `epoch_length` is the genesis' number of blocks an epoch."""

    def __init__(self, genesis_validators: ValidatorSet, epoch_length: int, scheme: Scheme) -> None:
        if epoch_length < 1:
            raise ValueError(f"an epoch of {epoch_length} blocks; it has at least 1")
        self._sets = [genesis_validators]
        self._epoch_length = epoch_length
        self._scheme = scheme
        self._seen: dict[int, tuple[Header, Certificate]] = {}

    @property
    def epoch(self) -> int:
        """The newest epoch whose validators are known."""
        return self._sets[-1].epoch

    def validators(self, epoch: int) -> ValidatorSet:
        """The validators of an epoch; KeyError if the client has not got there."""
        offset = epoch - self._sets[0].epoch
        if not 0 <= offset < len(self._sets):
            raise KeyError(f"the validators of epoch {epoch} are not known; the newest known epoch is {self.epoch}")
        return self._sets[offset]

    def verify(self, header: Header, certificate: Certificate) -> None:
        """Raise CertificateRefused unless the certificate finalizes this header under a known epoch's validators."""
        if certificate.kind is not VoteKind.FINALIZE:
            raise CertificateRefused(f"a {certificate.kind.name.lower()} certificate finalizes nothing")
        if certificate.digest != header.digest:
            raise CertificateRefused("it is of another block")
        if certificate.epoch != header.epoch:
            raise CertificateRefused(f"it is of epoch {certificate.epoch}, the header of epoch {header.epoch}")
        first = header.epoch * self._epoch_length
        if not first < header.height <= first + self._epoch_length:
            raise CertificateRefused(f"height {header.height} is not in epoch {header.epoch}")
        try:
            validators = self.validators(header.epoch)
        except KeyError as error:
            raise CertificateRefused(str(error.args[0])) from None
        if header.validators_root != validators.root:
            raise CertificateRefused("the header commits to other validators than those of its epoch")
        verify_certificate(certificate, validators, self._scheme)
        self._compare(header, certificate)

    def advance(self, header: Header, certificate: Certificate, next_validators: ValidatorSet) -> None:
        """Step into the next epoch by the boundary block of the newest one."""
        if header.epoch != self.epoch:
            raise CertificateRefused(f"the next boundary is that of epoch {self.epoch}, this is of {header.epoch}")
        if header.height != (header.epoch + 1) * self._epoch_length:
            raise CertificateRefused(f"height {header.height} is not the last of epoch {header.epoch}")
        self.verify(header, certificate)
        if next_validators.chain_id != header.chain_id or next_validators.epoch != header.epoch + 1:
            raise CertificateRefused("the next validators are of another chain or epoch")
        if next_validators.root != header.next_validators_root:
            raise CertificateRefused("the boundary header commits to other next validators")
        self._sets.append(next_validators)

    def _compare(self, header: Header, certificate: Certificate) -> None:
        known = self._seen.setdefault(header.height, (header, certificate))
        if known[0].digest != header.digest:
            both = tuple(i for i in certificate.signers if i in known[1].signers)
            raise ConflictingFinalizations(f"two different blocks of height {header.height} are finalized", both)
        if len(self._seen) > _REMEMBERED:
            del self._seen[min(self._seen)]
