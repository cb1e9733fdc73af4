"""Private keys in files: 32 bytes in hexadecimal, readable by their owner only."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from coordinator.consensus.signing import Ed25519Signer
from coordinator.ledger.errors import KeyFileError

_SEED_SIZE = 32


def create_key(path: Path) -> Ed25519Signer:
    """Make a key in a new file, mode 0600, on disk when this returns. Raises KeyFileError where there is a file."""
    seed = secrets.token_bytes(_SEED_SIZE)
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        raise KeyFileError(f"{path}: there is a file already; keys are never overwritten") from None
    with os.fdopen(handle, "w") as stream:
        os.fchmod(stream.fileno(), 0o600)
        stream.write(seed.hex() + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(path)
    return Ed25519Signer(seed)


def load_key(path: Path) -> Ed25519Signer:
    """Raises KeyFileError where the key is missing, malformed, or others may read it."""
    try:
        with path.open("rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            text = stream.read(2 * _SEED_SIZE + 2)
    except FileNotFoundError:
        raise KeyFileError(f"{path}: there is no key; make one, or check the path") from None
    if mode & 0o077:
        raise KeyFileError(f"{path}: mode {mode:04o}, others may use the key; chmod 600, and think of rotating it")
    try:
        seed = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        seed = b""
    if len(seed) != _SEED_SIZE:
        raise KeyFileError(f"{path}: not a private key of {_SEED_SIZE} bytes in hexadecimal")
    return Ed25519Signer(seed)


def sync_folder(path: Path) -> None:
    """Make the entry of a file in its folder durable."""
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
