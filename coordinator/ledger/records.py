"""What the state holds: records with their keys, each with one byte form.

Key                                 record
account/<owner> 0x00 <asset>        Account; absent where balance and credit limit are both zero
asset/<asset>                       Asset: issuer, minted, burned
escrow/<id>                         Escrow: owner, asset, amount
participant/<id>                    Participant: key, next sequence number, frozen
device/<id>                         Device: owner, account, key
key/<32 bytes>                      KeyHolder: who signs with it; retired keys stay, so that none is used again
reputation/<participant> 0x00 <counter>   a count, 8 bytes
signal/<subject>/<participant>      what a validator of this epoch wishes
validators/current, next, pending   Committee: of this epoch, the next, and the one after
validators/previous                 Committee of the epoch before; absent in epoch 0
misconduct/<participant> 0x00 <offence>   misconduct.Offence: evidence that was counted
protocol                            Protocol: version of this epoch, the next, and the one after
parameter/<name>                    a parameter of genesis, as text

Other parts of the state machine keep theirs under their own prefix (see `state.Module`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from coordinator.ledger.codec import Reader, Writer
from coordinator.ledger.errors import Rejected

KEY_SIZE = 32
ACCOUNT = b"account/"
ASSET = b"asset/"
ESCROW = b"escrow/"
PARTICIPANT = b"participant/"
DEVICE = b"device/"
KEY = b"key/"
REPUTATION = b"reputation/"
VALIDATORS = b"validators/"
MISCONDUCT = b"misconduct/"
PROTOCOL = b"protocol"
PARAMETER = b"parameter/"
ESCROW_ID_MAX = 64

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,47}", re.ASCII)
_ASSET_NAME = re.compile(r"[A-Za-z0-9]{1,16}", re.ASCII)


def checked_name(name: str) -> str:
    """The name of a participant, a device or a counter. Raises Rejected."""
    if not _NAME.fullmatch(name):
        raise Rejected("bad_name", f"{name[:60]!r}: letters, digits and . _ : -, at most 48, a letter or digit first")
    return name


def checked_asset(name: str) -> str:
    """The name of an asset. Raises Rejected."""
    if not _ASSET_NAME.fullmatch(name):
        raise Rejected("bad_name", f"asset {name[:20]!r}: letters and digits, at most 16")
    return name


@dataclass(frozen=True, slots=True)
class Account:
    """Money of one owner in one asset, in micro-units; the balance may fall to minus the credit limit."""

    balance: int = 0
    credit_limit: int = 0

    @staticmethod
    def key(owner: str, asset: str) -> bytes:
        """Where it stands."""
        return ACCOUNT + owner.encode() + b"\0" + asset.encode()

    def encode(self) -> bytes:
        """The one byte form."""
        return Writer().int64(self.balance).int64(self.credit_limit).encoded

    @classmethod
    def decode(cls, data: bytes) -> Account:
        """Raises DecodeError."""
        reader = Reader(data)
        account = cls(reader.int64(), reader.int64())
        reader.end()
        return account


def account_owner(key: bytes) -> tuple[str, str]:
    """Owner and asset of an account's key."""
    owner, _, asset = key.removeprefix(ACCOUNT).partition(b"\0")
    return owner.decode(), asset.decode()


@dataclass(frozen=True, slots=True)
class Asset:
    """What money is counted in: who may mint it (nobody by transaction where empty), and totals in micro-units.

    The totals are 128 bits wide: minting and burning in turn cannot fill them, so that no credit is ever refused
    for what an issuer did before.
    """

    issuer: str
    minted: int = 0
    burned: int = 0

    @staticmethod
    def key(asset: str) -> bytes:
        """Where it stands."""
        return ASSET + asset.encode()

    def encode(self) -> bytes:
        """The one byte form."""
        return Writer().text(self.issuer).uint128(self.minted).uint128(self.burned).encoded

    @classmethod
    def decode(cls, data: bytes) -> Asset:
        """Raises DecodeError."""
        reader = Reader(data)
        asset = cls(reader.text(), reader.uint128(), reader.uint128())
        reader.end()
        return asset


@dataclass(frozen=True, slots=True)
class Escrow:
    """Money set aside: it left its owner's account and has not arrived anywhere."""

    owner: str
    asset: str
    amount: int

    @staticmethod
    def key(escrow_id: bytes) -> bytes:
        """Where it stands."""
        assert len(escrow_id) <= ESCROW_ID_MAX, f"an escrow id of {len(escrow_id)} bytes; at most {ESCROW_ID_MAX}"
        return ESCROW + escrow_id

    def encode(self) -> bytes:
        """The one byte form."""
        return Writer().text(self.owner).text(self.asset).int64(self.amount).encoded

    @classmethod
    def decode(cls, data: bytes) -> Escrow:
        """Raises DecodeError."""
        reader = Reader(data)
        escrow = cls(reader.text(), reader.text(), reader.int64())
        reader.end()
        return escrow


@dataclass(frozen=True, slots=True)
class Participant:
    """Who signs transactions: the key, the sequence number of the next one, and whether frozen."""

    public_key: bytes
    next_sequence: int = 0
    frozen: bool = False

    @staticmethod
    def key(participant: str) -> bytes:
        """Where it stands."""
        return PARTICIPANT + participant.encode()

    def encode(self) -> bytes:
        """The one byte form."""
        return Writer().raw(self.public_key).uint64(self.next_sequence).flag(self.frozen).encoded

    @classmethod
    def decode(cls, data: bytes) -> Participant:
        """Raises DecodeError."""
        reader = Reader(data)
        participant = cls(reader.raw(KEY_SIZE), reader.uint64(), reader.flag())
        reader.end()
        return participant


@dataclass(frozen=True, slots=True)
class Device:
    """A meter or a controllable resource: who registered it, whose account it works for, and its own key."""

    owner: str
    account: str
    public_key: bytes

    @staticmethod
    def key(device: str) -> bytes:
        """Where it stands."""
        return DEVICE + device.encode()

    def encode(self) -> bytes:
        """The one byte form."""
        return Writer().text(self.owner).text(self.account).raw(self.public_key).encoded

    @classmethod
    def decode(cls, data: bytes) -> Device:
        """Raises DecodeError."""
        reader = Reader(data)
        device = cls(reader.text(), reader.text(), reader.raw(KEY_SIZE))
        reader.end()
        return device


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Who signs with a key. `retired` once it was rotated away."""

    name: str
    is_device: bool
    retired: bool = False

    @staticmethod
    def key(public_key: bytes) -> bytes:
        """Where it stands."""
        return KEY + public_key

    def encode(self) -> bytes:
        """The one byte form."""
        return Writer().text(self.name).flag(self.is_device).flag(self.retired).encoded

    @classmethod
    def decode(cls, data: bytes) -> KeyHolder:
        """Raises DecodeError."""
        reader = Reader(data)
        holder = cls(reader.text(), reader.flag(), reader.flag())
        reader.end()
        return holder


@dataclass(frozen=True, slots=True)
class Committee:
    """The validators of an epoch, in the order of their index: participant and the key it votes with."""

    members: tuple[tuple[str, bytes], ...]

    @staticmethod
    def key(slot: str) -> bytes:
        """Where it stands: previous, current, next or pending."""
        return VALIDATORS + slot.encode()

    @property
    def public_keys(self) -> tuple[bytes, ...]:
        """Keys by index."""
        return tuple(key for _, key in self.members)

    @property
    def names(self) -> tuple[str, ...]:
        """Participants by index."""
        return tuple(name for name, _ in self.members)

    @property
    def quorum(self) -> int:
        """n - f with f = (n - 1) // 3."""
        return len(self.members) - (len(self.members) - 1) // 3

    def encode(self) -> bytes:
        """The one byte form."""
        writer = Writer().uint32(len(self.members))
        for name, key in self.members:
            writer.text(name).raw(key)
        return writer.encoded

    @classmethod
    def decode(cls, data: bytes) -> Committee:
        """Raises DecodeError."""
        reader = Reader(data)
        members = tuple((reader.text(), reader.raw(KEY_SIZE)) for _ in range(reader.uint32()))
        reader.end()
        return cls(members)


@dataclass(frozen=True, slots=True)
class Protocol:
    """The protocol version of this epoch, of the next, and of the one after."""

    version: int
    next_version: int
    pending_version: int

    def encode(self) -> bytes:
        """The one byte form."""
        return Writer().uint32(self.version).uint32(self.next_version).uint32(self.pending_version).encoded

    @classmethod
    def decode(cls, data: bytes) -> Protocol:
        """Raises DecodeError."""
        reader = Reader(data)
        protocol = cls(reader.uint32(), reader.uint32(), reader.uint32())
        reader.end()
        return protocol


def reputation_key(participant: str, counter: str) -> bytes:
    """Where a participant's count of something stands."""
    return REPUTATION + participant.encode() + b"\0" + counter.encode()
