"""Votes of one kind in one view: one vote a validator, signatures verified only when a quorum depends on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Value = tuple[int, bytes]
"""What a vote is for: parent view and digest."""


@dataclass(slots=True)
class Ballot:
    """A validator's vote; `verified` once its signature has been checked or it is this node's own."""

    value: Value
    signature: bytes
    verified: bool


class Tally:
    """The first vote of each validator stands; later different ones are for the evidence."""

    __slots__ = ("ballots", "counts")

    def __init__(self) -> None:
        self.ballots: dict[int, Ballot] = {}
        self.counts: dict[Value, int] = {}

    def add(self, signer: int, value: Value, signature: bytes, verified: bool = False) -> bool:
        """Count a vote; False if the validator has voted already."""
        if signer in self.ballots:
            return False
        self.ballots[signer] = Ballot(value, signature, verified)
        self.counts[value] = self.counts.get(value, 0) + 1
        return True

    def count(self, value: Value) -> int:
        """Votes for a value, verified or not."""
        return self.counts.get(value, 0)

    def remove(self, signer: int) -> None:
        """Forget a vote whose signature is not valid; its sender may still vote."""
        ballot = self.ballots.pop(signer)
        self.counts[ballot.value] -= 1

    def verify(self, value: Value, quorum: int, is_valid: Callable[[int, bytes], bool]) -> tuple[list[int], list[int]]:
        """Verify votes for a value up to the quorum: (signers of valid votes, signers whose votes were removed)."""
        valid: list[int] = []
        removed: list[int] = []
        for signer, ballot in list(self.ballots.items()):
            if ballot.value != value or len(valid) == quorum:
                continue
            if ballot.verified or is_valid(signer, ballot.signature):
                ballot.verified = True
                valid.append(signer)
            else:
                self.remove(signer)
                removed.append(signer)
        return sorted(valid), removed
