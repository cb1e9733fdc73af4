"""Reads the sections of a genesis document that the modules of settlement want, and names what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.ledger.codec import INT64_MAX
from coordinator.ledger.errors import GenesisError

SMALL = 2**32 - 1
"""The most that a count or a length of time may be."""


def number_of(section: Mapping[str, object], name: str, module: str, least: int = 1, most: int = INT64_MAX) -> int:
    """An integer within bounds."""
    value = section.get(name)
    if type(value) is not int or not least <= value <= most:
        raise GenesisError(f"{module}: {name} is missing, or not an integer from {least} to {most}")
    return value


def text_of(section: Mapping[str, object], name: str, module: str) -> str:
    """A text that is not empty."""
    value = section.get(name)
    if not isinstance(value, str) or not value:
        raise GenesisError(f"{module}: {name} is missing, or not a text")
    return value


def hash_of(value: object, name: str, module: str) -> bytes:
    """32 bytes in hexadecimal."""
    try:
        data = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        data = b""
    if len(data) != 32:
        raise GenesisError(f"{module}: {name} is not 32 bytes in hexadecimal")
    return data
