"""Who is at the other end: X.509 certificates of the consortium, each bound to one Ed25519 key, with roles.

TLS proves that the peer holds a certificate of the consortium's authority. What the certificate says beyond that stands
in its subject alternative names:

    DNS  <base32 of the Ed25519 key>.gridaccord, node.gridaccord         what a dialer asks for
    URI  gridaccord:name:<node>, gridaccord:organization:<name>, gridaccord:role:<role>, one each role
    URI  gridaccord:key:<hex>          the Ed25519 key: a validator's consensus key
    URI  gridaccord:binding:<hex>      that key's signature of the certificate's public key

so that not even the authority can give a validator's name to somebody who does not hold the consensus key.
"""

from __future__ import annotations

import base64
import datetime
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from coordinator.consensus.signing import Ed25519Scheme, Signer
from coordinator.service.errors import PeerRefused

ANY_NODE = "node.gridaccord"
_URI = "gridaccord:"
_BINDING_DOMAIN = b"gridaccord/service/v1/binding"
_ANSWER_DOMAIN = b"gridaccord/service/v1/answer"
_CLOCK_SKEW = datetime.timedelta(minutes=5)
_SCHEME = Ed25519Scheme()


class Role(enum.StrEnum):
    """What a certificate is for; `access.ALLOWED` says what each may call."""

    VALIDATOR = "validator"
    COORDINATOR = "coordinator"
    GATEWAY = "gateway"
    AUDITOR = "auditor"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a certificate of the consortium says."""

    name: str
    organization: str
    public_key: bytes
    roles: tuple[Role, ...]
    serial: int
    not_before: datetime.datetime
    not_after: datetime.datetime


@dataclass(frozen=True, slots=True)
class Credentials:
    """A private TLS key, its certificate, and the authority's certificate, in PEM."""

    key: bytes
    certificate: bytes
    authority: bytes


@dataclass(frozen=True, slots=True)
class Authority:
    """The consortium's certificate authority."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def server_name(public_key: bytes) -> str:
    """The DNS name by which a dialer asks for the holder of a consensus key, and nobody else."""
    return base64.b32encode(public_key).decode().rstrip("=").lower() + ".gridaccord"


def make_authority(name: str, now: datetime.datetime, days: int) -> Authority:
    """A new authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} authority")])
    certificate = (
        _builder(subject, subject, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(key, certificate)


def issue(
    authority: Authority,
    signer: Signer,
    name: str,
    organization: str,
    roles: Sequence[Role],
    not_before: datetime.datetime,
    days: int,
) -> Credentials:
    """A new TLS key with a certificate for the holder of an Ed25519 key."""
    key = ec.generate_private_key(ec.SECP256R1())
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    uris = [
        f"name:{name}",
        f"organization:{organization}",
        *(f"role:{role}" for role in roles),
        f"key:{signer.public_key.hex()}",
        f"binding:{signer.sign(_BINDING_DOMAIN + spki).hex()}",
    ]
    names: list[x509.GeneralName] = [x509.DNSName(server_name(signer.public_key)), x509.DNSName(ANY_NODE)]
    names += [x509.UniformResourceIdentifier(_URI + uri) for uri in uris]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = (
        _builder(subject, authority.certificate.subject, key.public_key(), not_before, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(usages, critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return Credentials(key_pem(key), certificate_pem(certificate), certificate_pem(authority.certificate))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, not_before: datetime.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_before + datetime.timedelta(days=days))
    )


def make_revocations(authority: Authority, serials: Sequence[int], now: datetime.datetime) -> bytes:
    """The signed list of certificates that are valid no more, in PEM."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.certificate.subject)
    builder = builder.last_update(now).next_update(now + datetime.timedelta(days=3650))
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def read_revocations(data: bytes, authority: bytes) -> frozenset[int]:
    """Serial numbers in a list that the authority has signed. Raises PeerRefused."""
    revoked = x509.load_pem_x509_crl(data)
    key = x509.load_pem_x509_certificate(authority).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not revoked.is_signature_valid(key):
        raise PeerRefused("the list of revoked certificates is not signed by the consortium's authority")
    return frozenset(entry.serial_number for entry in revoked)


@lru_cache(maxsize=1024)
def read_identity(certificate: bytes, authority: bytes) -> Identity:
    """What a PEM certificate says. Raises PeerRefused; whether it is expired or revoked is another question."""
    try:
        parsed, root = x509.load_pem_x509_certificate(certificate), x509.load_pem_x509_certificate(authority)
        parsed.verify_directly_issued_by(root)
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as error:
        raise PeerRefused(f"its certificate is not one of the consortium's: {error or 'bad signature'}") from None
    found: dict[str, list[str]] = {}
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        kind, _, value = uri.removeprefix(_URI).partition(":")
        found.setdefault(kind, []).append(value)
    spki = parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        (name,), (organization,) = found["name"], found["organization"]
        (key,), (binding,) = map(bytes.fromhex, found["key"]), map(bytes.fromhex, found["binding"])
        roles = tuple(Role(role) for role in found.get("role", ()))
    except (KeyError, ValueError):
        raise PeerRefused("its certificate lacks a name, key, binding or known role") from None
    if not _SCHEME.verify(key, _BINDING_DOMAIN + spki, binding):
        raise PeerRefused(f"the certificate of {name} is not bound to its consensus key")
    times = parsed.not_valid_before_utc, parsed.not_valid_after_utc
    return Identity(name, organization, key, roles, parsed.serial_number, *times)


def check_current(identity: Identity, revoked: frozenset[int], now: datetime.datetime) -> None:
    """Raise PeerRefused where a certificate is expired, not valid yet, or revoked."""
    if now > identity.not_after:
        raise PeerRefused(f"the certificate of {identity.name} expired at {identity.not_after:%Y-%m-%d %H:%M} UTC")
    if now < identity.not_before - _CLOCK_SKEW:
        raise PeerRefused(
            f"the certificate of {identity.name} is not valid before {identity.not_before:%Y-%m-%d %H:%M}"
        )
    if identity.serial in revoked:
        raise PeerRefused(f"the certificate {identity.serial:x} of {identity.name} is revoked")


def answer_challenge(credentials: Credentials, nonce: bytes, dialer: bytes, answerer: bytes) -> tuple[bytes, bytes]:
    """The certificate in DER, and its key's signature for this dialer and this nonce."""
    key = load_pem_private_key(credentials.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey), "issued keys are on P-256"
    signature = key.sign(_ANSWER_DOMAIN + nonce + dialer + answerer, ec.ECDSA(hashes.SHA256()))
    return x509.load_pem_x509_certificate(credentials.certificate).public_bytes(Encoding.DER), signature


def check_answer(
    certificate: bytes, signature: bytes, authority: bytes, nonce: bytes, dialer: bytes, answerer: bytes
) -> Identity:
    """The identity of the peer that was dialed: gRPC does not show a dialer the certificate. Raises PeerRefused."""
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        key = parsed.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(signature, _ANSWER_DOMAIN + nonce + dialer + answerer, ec.ECDSA(hashes.SHA256()))
    except (ValueError, AssertionError, InvalidSignature):
        raise PeerRefused("it does not hold the key of the certificate that it shows") from None
    identity = read_identity(certificate_pem(parsed), authority)
    if identity.public_key != answerer:
        raise PeerRefused(f"it is {identity.name}, with another consensus key than the one dialed")
    return identity


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key in PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """A certificate in PEM."""
    return certificate.public_bytes(Encoding.PEM)


def load_authority(key: bytes, certificate: bytes) -> Authority:
    """An authority from PEM."""
    loaded = load_pem_private_key(key, None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey), "the authority's key is on P-256"
    return Authority(loaded, x509.load_pem_x509_certificate(certificate))
