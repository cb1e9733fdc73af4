"""The core transaction kinds: money, registration, keys, signals of validators, misconduct, commitments to readings."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message

from coordinator.ledger import accounts, misconduct, registry
from coordinator.ledger.codec import Writer
from coordinator.ledger.envelope import PAYLOAD_MAX, Holder, KeyClaim
from coordinator.ledger.errors import Rejected
from coordinator.ledger.messages import parse
from coordinator.ledger.readings import BATCH_COLUMNS_MAX, BATCH_READINGS_MAX
from coordinator.ledger.state import Module
from coordinator.ledger.view import Context
from protos.gridaccord.v1 import ledger_pb2 as pb

READINGS = "readings"
READINGS_COMMITTED = "readings_committed"
_ROOT_SIZE = 32
_M = TypeVar("_M", bound=Message)


def _content(kind: type[_M], content: bytes) -> _M:
    return parse(kind, content, PAYLOAD_MAX)


def _transfer(context: Context, content: bytes) -> None:
    message = _content(pb.Transfer, content)
    _check_owner(context, message.to)
    accounts.transfer(context.view, message.asset, context.signer, message.to, message.amount)


def _mint(context: Context, content: bytes) -> None:
    message = _content(pb.Issue, content)
    _check_issuer(context, message.asset)
    _check_owner(context, message.owner)
    accounts.mint(context.view, message.asset, message.owner, message.amount)


def _burn(context: Context, content: bytes) -> None:
    message = _content(pb.Issue, content)
    _check_issuer(context, message.asset)
    if message.owner != context.signer:
        raise Rejected("not_owner", f"an issuer burns its own money, not that of {message.owner[:60]!r}")
    accounts.burn(context.view, message.asset, message.owner, message.amount)


def _credit_limit(context: Context, content: bytes) -> None:
    message = _content(pb.CreditLimit, content)
    _check_issuer(context, message.asset)
    _check_owner(context, message.owner)
    accounts.set_credit_limit(context.view, message.asset, message.owner, message.limit)


def _register_participant(context: Context, content: bytes) -> None:
    message = _content(pb.NewParticipant, content)
    if context.signer not in registry.committee(context.view, registry.CURRENT).names:
        raise Rejected("not_validator", f"{context.signer} is not a validator of this epoch")
    claim = KeyClaim(Holder.PARTICIPANT, message.participant, context.signer)
    _check_possession(context, message.public_key, claim, message.possession)
    registry.add_participant(context.view, message.participant, message.public_key)


def _register_device(context: Context, content: bytes) -> None:
    message = _content(pb.NewDevice, content)
    account = message.account or context.signer
    _check_owner(context, account)
    claim = KeyClaim(Holder.DEVICE, message.device, context.signer, account)
    _check_possession(context, message.public_key, claim, message.possession)
    registry.add_device(context.view, message.device, context.signer, account, message.public_key)


def _rotate_key(context: Context, content: bytes) -> None:
    message = _content(pb.NewKey, content)
    if message.device:
        raise Rejected("malformed", "rotate_key is about the signer's own key; use rotate_device_key")
    claim = KeyClaim(Holder.PARTICIPANT, context.signer, context.signer)
    _check_possession(context, message.public_key, claim, message.possession)
    registry.rotate_key(context.view, context.signer, message.public_key)


def _rotate_device_key(context: Context, content: bytes) -> None:
    message = _content(pb.NewKey, content)
    device = registry.device_of(context.view, message.device)
    if device is None or device.owner != context.signer:
        raise Rejected("not_owner", f"{context.signer} did not register device {message.device[:60]!r}")
    claim = KeyClaim(Holder.DEVICE, message.device, context.signer, device.account)
    _check_possession(context, message.public_key, claim, message.possession)
    registry.rotate_device_key(context.view, message.device, message.public_key)


def _signal_validators(context: Context, content: bytes) -> None:
    message = _content(pb.ValidatorSignal, content)
    if registry.signal_validators(context.view, context.signer, tuple(message.validators)):
        context.emit("validators_pending", Writer().uint64(context.block.epoch + 2).encoded)


def _signal_version(context: Context, content: bytes) -> None:
    message = _content(pb.VersionSignal, content)
    if registry.signal_version(context.view, context.signer, message.version):
        context.emit("version_pending", Writer().uint32(message.version).uint64(context.block.epoch + 2).encoded)


def _readings(context: Context, content: bytes) -> None:
    """The batch is checked by those who hold it (`readings.py`); here it becomes part of the chain."""
    message = _content(pb.ReadingsCommitment, content)
    bounded = message.size <= BATCH_READINGS_MAX and message.columns <= BATCH_COLUMNS_MAX
    sizes = bounded and 0 < message.columns <= message.size and message.corrections <= message.size
    if len(message.root) != _ROOT_SIZE or not sizes or not 0 <= message.start_s < message.end_s:
        raise Rejected("malformed", "a commitment to readings whose root, sizes or times cannot be")
    registry.count(context.view, context.signer, READINGS, message.size)
    if message.corrections:
        registry.count(context.view, context.signer, "corrections", message.corrections)
    context.emit(READINGS_COMMITTED, message.root)


def _check_owner(context: Context, name: str) -> None:
    if registry.participant_of(context.view, name) is None:
        raise Rejected("unknown_participant", f"{name[:60]!r} is not registered")


def _check_issuer(context: Context, asset: str) -> None:
    if accounts.asset_of(context.view, asset).issuer != context.signer:
        raise Rejected("not_issuer", f"{context.signer} does not issue {asset}")


def _check_possession(context: Context, public_key: bytes, claim: KeyClaim, possession: bytes) -> None:
    registry.check_possession(public_key, context.block.chain_id, claim, possession, context.block.scheme)


CORE = Module(
    name="core",
    handlers={
        "transfer": _transfer,
        "mint": _mint,
        "burn": _burn,
        "credit_limit": _credit_limit,
        "register_participant": _register_participant,
        "register_device": _register_device,
        "rotate_key": _rotate_key,
        "rotate_device_key": _rotate_device_key,
        "signal_validators": _signal_validators,
        "signal_version": _signal_version,
        misconduct.EVIDENCE: misconduct.convict,
        READINGS: _readings,
    },
)
"""Every chain has these."""
