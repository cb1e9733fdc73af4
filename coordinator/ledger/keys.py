"""Private keys in files: 32 bytes in hexadecimal, readable by their owner only."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from coordinator.consensus.signing import Ed25519Signer
from coordinator.ledger.errors import KeyFileError
from coordinator.ledger.files import create_private

_SEED_SIZE = 32


def create_key(path: Path) -> Ed25519Signer:
    """Make a key in a new file, mode 0600, on disk when this returns. Raises KeyFileError where there is a file."""
    seed = secrets.token_bytes(_SEED_SIZE)
    try:
        create_private(path, seed.hex().encode() + b"\n")
    except FileExistsError:
        raise KeyFileError(f"{path}: there is a file already; keys are never overwritten") from None
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
