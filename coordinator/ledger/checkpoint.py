"""Signed checkpoints of a chain's history in the C2SP forms, for people and for transparency-log monitors.

A checkpoint (tlog-checkpoint) is an origin, a tree size and a root hash, one a line, then optional extension lines.
A signed note is a text, an empty line, and signature lines; the signature is over the text with its last newline.
Key ids are the first four bytes of SHA-256(name || 0x0A || 0x01 || public key); 0x01 is Ed25519.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from coordinator.consensus.signing import Scheme, Signer
from coordinator.ledger.errors import CheckpointError
from coordinator.ledger.store import Store

NOTE_MAX = 2**20
SIGNATURES_MAX = 100
_ED25519 = b"\x01"
_SIGNATURE_START = "\u2014 "
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,19}", re.ASCII)
_SIZE_END = 1 << 64
_ROOT_SIZE = 32


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: `extensions` is what follows the root, as it stands."""

    origin: str
    size: int
    root: bytes
    extensions: str = ""

    @property
    def text(self) -> str:
        """The body of a note."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n{self.extensions}"


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """A signature line: who, by name and key id, and the signature."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A text and its signatures; nothing is verified yet."""

    text: str
    signatures: tuple[NoteSignature, ...]


@dataclass(frozen=True, slots=True)
class NoteKey:
    """Who may sign: a name and an Ed25519 key."""

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys of one name apart."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public_key).digest()[:4]

    @property
    def text(self) -> str:
        """The verifier key as it is published."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(_ED25519 + self.public_key).decode()}"


def parse_checkpoint(text: str) -> Checkpoint:
    """A checkpoint from the body of a note. Raises CheckpointError."""
    parts = text.split("\n", 3)
    if len(parts) < 4:
        raise CheckpointError("a checkpoint has an origin, a size and a root, each with its newline")
    origin, size, root, extensions = parts
    if not origin or not origin.isprintable():
        raise CheckpointError("the origin is empty or not plain text")
    if not _DECIMAL.fullmatch(size) or int(size) >= _SIZE_END:
        raise CheckpointError(f"the size {size[:24]!r} is not a decimal number below 2^64 without leading zeros")
    return Checkpoint(origin, int(size), _base64(root, "root"), extensions)


def parse_note(data: bytes) -> Note:
    """A signed note. Raises CheckpointError."""
    if len(data) > NOTE_MAX:
        raise CheckpointError(f"a note of {len(data)} bytes; at most {NOTE_MAX}")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError:
        raise CheckpointError("a note is UTF-8") from None
    if any(ord(character) < 0x20 and character != "\n" for character in whole):
        raise CheckpointError("a note holds no control characters but newlines")
    text, gap, signatures = whole.rpartition("\n\n")
    if not gap or not signatures.endswith("\n"):
        raise CheckpointError("a note is a text, an empty line, and signature lines, each with its newline")
    lines = signatures[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise CheckpointError(f"{len(lines)} signatures; at most {SIGNATURES_MAX}")
    return Note(text + "\n", tuple(_signature(line) for line in lines))


def parse_note_key(text: str) -> NoteKey:
    """A published verifier key. Raises CheckpointError."""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    key = _base64(encoded, "key")
    _check_name(name)
    if len(key) != 33 or key[:1] != _ED25519:
        raise CheckpointError("the key is not an Ed25519 key")
    found = NoteKey(name, key[1:])
    if found.key_id.hex() != key_id:
        raise CheckpointError("the key id is not that of name and key")
    return found


def sign_note(text: str, name: str, signer: Signer) -> bytes:
    """A note with one signature."""
    _check_name(name)
    if not text.endswith("\n"):
        raise CheckpointError("the text of a note ends with a newline")
    key = NoteKey(name, signer.public_key)
    line = base64.b64encode(key.key_id + signer.sign(text.encode())).decode()
    return f"{text}\n{_SIGNATURE_START}{name} {line}\n".encode()


def verify_note(note: Note, key: NoteKey, scheme: Scheme) -> None:
    """Raise CheckpointError unless this key signed the note; signatures of others are ignored."""
    mine = [line for line in note.signatures if (line.name, line.key_id) == (key.name, key.key_id)]
    if not mine:
        raise CheckpointError(f"{key.name} has not signed the note")
    if not all(scheme.verify(key.public_key, note.text.encode(), line.signature) for line in mine):
        raise CheckpointError(f"a signature of {key.name} is not valid")


def origin_of(chain_id: bytes) -> str:
    """The name of a chain's history as a log."""
    return f"gridaccord/{chain_id.hex()}"


def checkpoint_of(store: Store) -> Checkpoint:
    """The history with the tip: one leaf a header, genesis first."""
    history = store.state.history
    return Checkpoint(origin_of(store.genesis.chain_id), history.size, history.root)


def verify_checkpoint(data: bytes, key: NoteKey, chain_id: bytes, scheme: Scheme) -> Checkpoint:
    """The checkpoint of this chain that this key signed. Raises CheckpointError."""
    note = parse_note(data)
    verify_note(note, key, scheme)
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != origin_of(chain_id):
        raise CheckpointError("the checkpoint is of another chain")
    if len(checkpoint.root) != _ROOT_SIZE:
        raise CheckpointError(f"the root has {len(checkpoint.root)} bytes; it has {_ROOT_SIZE}")
    return checkpoint


def _signature(line: str) -> NoteSignature:
    name, _, encoded = line.removeprefix(_SIGNATURE_START).partition(" ")
    if not line.startswith(_SIGNATURE_START):
        raise CheckpointError("a signature line begins with an em dash and a space")
    _check_name(name)
    blob = _base64(encoded, "signature")
    if len(blob) < 5:
        raise CheckpointError("a signature line holds a key id and a signature")
    return NoteSignature(name, blob[:4], blob[4:])


def _check_name(name: str) -> None:
    if not name or "+" in name or any(character.isspace() or not character.isprintable() for character in name):
        raise CheckpointError(f"the name {name[:60]!r} is empty or holds a space or a plus sign")


def _base64(text: str, what: str) -> bytes:
    """Standard base64 in its one form."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise CheckpointError(f"the {what} is not base64") from None
    if not value or base64.b64encode(value).decode() != text:
        raise CheckpointError(f"the {what} is empty, or base64 in another form than the usual one")
    return value
