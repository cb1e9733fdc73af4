"""Who takes part: participants, devices, keys, the validators of coming epochs, the protocol version, reputation.

Validators change with one full epoch of notice: what a quorum of epoch e signals is the committee of epoch e + 2,
because that of e + 1 already stands in the headers of e. A key that votes is rotated the same way, and so is the
protocol version: one step at a time, when a quorum has signalled that it speaks the next.
"""

from __future__ import annotations

from coordinator.consensus.signing import Scheme
from coordinator.consensus.validators import MAX_VALIDATORS, ValidatorSet
from coordinator.ledger.accounts import ROUNDING_OWNER
from coordinator.ledger.codec import INT64_MAX
from coordinator.ledger.envelope import KeyClaim, possesses
from coordinator.ledger.errors import Rejected
from coordinator.ledger.records import (
    KEY_SIZE,
    PARAMETER,
    PROTOCOL,
    Committee,
    Device,
    KeyHolder,
    Participant,
    Protocol,
    checked_name,
    reputation_key,
)
from coordinator.ledger.view import View

PREVIOUS, CURRENT, NEXT, PENDING = "previous", "current", "next", "pending"
_SIGNALS = b"signal/"
VALIDATORS_SUBJECT, VERSION_SUBJECT = b"validators", b"version"


_FIELD = 2**255 - 19
_CURVE_D = -121665 * pow(121666, -1, _FIELD) % _FIELD


def has_small_order(public_key: bytes) -> bool:
    """Whether an Ed25519 key is one of the points whose order divides 8, in any of their encodings.

    Those of order 1, 2 and 4 have y = 1, -1 and 0. One of order 8 doubles to y = 0, so x^2 = -y^2, with which the
    curve -x^2 + y^2 = 1 + d x^2 y^2 is d y^4 + 2 y^2 - 1 = 0. The sign of x, the top bit, makes no difference.
    """
    y_squared = (int.from_bytes(public_key, "little") & (1 << 255) - 1) ** 2
    return y_squared * (y_squared - 1) * (_CURVE_D * y_squared**2 + 2 * y_squared - 1) % _FIELD == 0


def participant_of(view: View, name: str) -> Participant | None:
    """A participant, None where there is none."""
    data = view.get(Participant.key(name))
    return None if data is None else Participant.decode(data)


def device_of(view: View, name: str) -> Device | None:
    """A device, None where there is none."""
    data = view.get(Device.key(name))
    return None if data is None else Device.decode(data)


def committee(view: View, slot: str) -> Committee:
    """The validators of the last epoch (if there is one), this, the next, or the one after."""
    data = view.get(Committee.key(slot))
    assert data is not None, f"genesis, or the end of the first epoch, writes the committee {slot}"
    return Committee.decode(data)


def validator_set(view: View, slot: str, chain_id: bytes, epoch: int) -> ValidatorSet:
    """A committee as consensus knows it."""
    return ValidatorSet(chain_id, epoch, committee(view, slot).public_keys)


def protocol(view: View) -> Protocol:
    """Protocol version in force and scheduled."""
    data = view.get(PROTOCOL)
    assert data is not None, "genesis writes the protocol version"
    return Protocol.decode(data)


def parameter(view: View, name: str) -> str | None:
    """A parameter of genesis."""
    data = view.get(PARAMETER + name.encode())
    return None if data is None else data.decode()


def add_participant(view: View, name: str, public_key: bytes) -> None:
    """Register a participant under a new name and with a new key."""
    checked_name(name)
    if name == ROUNDING_OWNER or participant_of(view, name) is not None:
        raise Rejected("name_taken", f"{name} is in use")
    _take_key(view, public_key, KeyHolder(name, is_device=False))
    view.put(Participant.key(name), Participant(public_key).encode())


def add_device(view: View, name: str, owner: str, account: str, public_key: bytes) -> None:
    """Register a device of a participant."""
    checked_name(name)
    checked_name(account)
    if device_of(view, name) is not None:
        raise Rejected("name_taken", f"device {name} is in use")
    _take_key(view, public_key, KeyHolder(name, is_device=True))
    view.put(Device.key(name), Device(owner, account, public_key).encode())


def rotate_key(view: View, name: str, public_key: bytes) -> None:
    """Give a participant another key; as a validator it votes with it once the pending committee is in office."""
    participant = participant_of(view, name)
    assert participant is not None, "only a registered participant signs"
    _take_key(view, public_key, KeyHolder(name, is_device=False))
    _retire_key(view, participant.public_key, KeyHolder(name, is_device=False, retired=True))
    changed = Participant(public_key, participant.next_sequence, participant.frozen)
    view.put(Participant.key(name), changed.encode())
    pending = committee(view, PENDING)
    if name in pending.names:
        members = tuple((member, public_key if member == name else key) for member, key in pending.members)
        view.put(Committee.key(PENDING), Committee(members).encode())


def rotate_device_key(view: View, name: str, public_key: bytes) -> None:
    """Give a device another key."""
    device = device_of(view, name)
    assert device is not None, "the handler looks it up"
    _take_key(view, public_key, KeyHolder(name, is_device=True))
    _retire_key(view, device.public_key, KeyHolder(name, is_device=True, retired=True))
    view.put(Device.key(name), Device(device.owner, device.account, public_key).encode())


def check_possession(public_key: bytes, chain_id: bytes, claim: KeyClaim, signature: bytes, scheme: Scheme) -> None:
    """Raise Rejected unless the new key itself agrees to be this holder's, registered by this participant."""
    checked_name(claim.name)
    if len(public_key) != KEY_SIZE or not possesses(public_key, chain_id, claim, signature, scheme):
        raise Rejected("no_possession", f"the new key of {claim.name} has not signed for it and {claim.registrar}")


def set_frozen(view: View, name: str, frozen: bool) -> None:
    """Freeze a participant, whose transactions are then rejected, or let it act again."""
    participant = participant_of(view, name)
    if participant is None:
        raise Rejected("unknown_participant", f"{name} is not registered")
    changed = Participant(participant.public_key, participant.next_sequence, frozen)
    view.put(Participant.key(name), changed.encode())


def reputation(view: View, participant: str, counter: str) -> int:
    """How often something was counted for a participant."""
    data = view.get(reputation_key(participant, counter))
    return 0 if data is None else int.from_bytes(data, "big")


def count(view: View, participant: str, counter: str, by: int = 1) -> None:
    """Count something for a participant; a counter stays at its largest value."""
    assert by >= 0, "counters only grow"
    total = min(reputation(view, participant, counter) + by, INT64_MAX)
    if total:
        view.put(reputation_key(participant, checked_name(counter)), total.to_bytes(8, "big"))


def signal_validators(view: View, signer: str, names: tuple[str, ...]) -> bool:
    """Count a validator's wish for a committee; True where with it a quorum has it and it is pending."""
    if not 1 <= len(names) <= MAX_VALIDATORS or len(dict.fromkeys(names)) != len(names):
        raise Rejected("bad_validators", f"{len(names)} validators; 1 to {MAX_VALIDATORS}, each once")
    members = []
    for name in names:
        participant = participant_of(view, name)
        if participant is None or participant.frozen:
            raise Rejected("unknown_participant", f"validator {name[:60]!r} is not registered, or frozen")
        members.append((name, participant.public_key))
    if not _signal(view, VALIDATORS_SUBJECT, signer, Committee(tuple(members)).encode()):
        return False
    view.put(Committee.key(PENDING), Committee(tuple(members)).encode())
    return True


def signal_version(view: View, signer: str, version: int) -> bool:
    """Count a validator's readiness for the next protocol version; True where with it a quorum has it pending."""
    known = protocol(view)
    if version != known.pending_version + 1 or version >= 1 << 16:
        raise Rejected("bad_version", f"version {version}; the one to signal is {known.pending_version + 1}")
    if not _signal(view, VERSION_SUBJECT, signer, version.to_bytes(4, "big")):
        return False
    view.put(PROTOCOL, Protocol(known.version, known.next_version, version).encode())
    return True


def exclude_validator(view: View, name: str, remaining_min: int) -> bool:
    """Take a validator out of the pending committee; False where it is not in it, or too few would remain.

    Signals for a committee with it were given before that was known: they are dropped, to be given again if meant.
    """
    pending = committee(view, PENDING)
    if name not in pending.names or len(pending.members) <= remaining_min:
        return False
    remaining = tuple(member for member in pending.members if member[0] != name)
    view.put(Committee.key(PENDING), Committee(remaining).encode())
    for key, value in tuple(view.items(_SIGNALS + VALIDATORS_SUBJECT + b"/")):
        if name in Committee.decode(value).names:
            view.delete(key)
    return True


def end_epoch(view: View) -> None:
    """After the last block of an epoch: committees and versions move up."""
    view.put(Committee.key(PREVIOUS), committee(view, CURRENT).encode())
    view.put(Committee.key(CURRENT), committee(view, NEXT).encode())
    view.put(Committee.key(NEXT), committee(view, PENDING).encode())
    known = protocol(view)
    view.put(PROTOCOL, Protocol(known.next_version, known.pending_version, known.pending_version).encode())


def _signal(view: View, subject: bytes, signer: str, value: bytes) -> bool:
    """Keep a validator's latest signal; with a quorum of this epoch for the same value, clear them and say so."""
    current = committee(view, CURRENT)
    if signer not in current.names:
        raise Rejected("not_validator", f"{signer} is not a validator of this epoch")
    prefix = _SIGNALS + subject + b"/"
    view.put(prefix + signer.encode(), value)
    agreeing = sum(view.get(prefix + name.encode()) == value for name in current.names)
    if agreeing < current.quorum:
        return False
    for key, _ in tuple(view.items(prefix)):
        view.delete(key)
    return True


def _take_key(view: View, public_key: bytes, holder: KeyHolder) -> None:
    if len(public_key) != KEY_SIZE:
        raise Rejected("bad_key", f"a key of {len(public_key)} bytes; it has {KEY_SIZE}")
    if has_small_order(public_key):
        raise Rejected("bad_key", "the key is a point of small order, for which anyone can sign; make a new one")
    if view.get(KeyHolder.key(public_key)) is not None:
        raise Rejected("key_taken", "the key is in use, or was once; make a new one")
    view.put(KeyHolder.key(public_key), holder.encode())


def _retire_key(view: View, public_key: bytes, holder: KeyHolder) -> None:
    view.put(KeyHolder.key(public_key), holder.encode())
