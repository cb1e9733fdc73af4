"""Epochs: a fixed number of blocks each, one validator set and one protocol version each, known one epoch ahead."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from coordinator.consensus.validators import ValidatorSet


@dataclass(frozen=True, slots=True)
class EpochConfig:
    """Who validates an epoch and which protocol version its blocks carry."""

    validators: ValidatorSet
    version: int

    @property
    def epoch(self) -> int:
        """The epoch's number."""
        return self.validators.epoch


def epoch_of(height: int, epoch_length: int) -> int:
    """The epoch of a block; genesis, height 0, belongs to epoch 0 and is the block that epoch 0 begins after."""
    return max(0, height - 1) // epoch_length


def boundary_height(epoch: int, epoch_length: int) -> int:
    """Height of the last block of an epoch."""
    return (epoch + 1) * epoch_length


def next_version(current: int, signalled: Iterable[int], quorum: int) -> int:
    """The version of the epoch after next, from the versions that distinct validators signalled in finalized blocks.

    Versions go up one at a time, and only when a quorum speaks the next one.
    """
    ready = sum(1 for version in signalled if version > current)
    return current + 1 if ready >= quorum else current
