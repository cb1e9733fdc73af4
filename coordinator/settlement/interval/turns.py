"""Whose turn it is: one validator speaks first and the others only if nothing comes, so that not all say the same.

Nothing depends on it but the number of transactions: clocks may differ and turns may be ignored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

TURN_BLOCKS = 4
"""After so many blocks in vain it is the next one's turn as well."""


def is_turn(subject: bytes, names: Sequence[str], me: str, blocks_in_vain: int) -> bool:
    """Whether `me` may speak on a subject that has waited for so many blocks."""
    first = hashlib.sha256(subject).digest()[0] % len(names)
    place = (names.index(me) - first) % len(names)
    return blocks_in_vain >= place * TURN_BLOCKS
