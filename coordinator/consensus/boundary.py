"""R12: the end of an epoch and the beginning of the next."""

from __future__ import annotations

from coordinator.consensus import journaled, rejoin, standstill, view_entry
from coordinator.consensus.effects import EpochBegun
from coordinator.consensus.epochs import EpochConfig
from coordinator.consensus.errors import LocalMisuse, UnsupportedVersion
from coordinator.consensus.state import State

REMEMBERED_EPOCHS = 8
"""Boundary certificates kept in memory; older ones the host serves from its store."""


def on_epoch_known(state: State, known: EpochConfig) -> None:
    """The validators and version of a coming epoch, which a finalized transaction fixed one epoch ahead."""
    check_version(state, known)
    if known.epoch <= state.epoch:
        return
    if known.validators.chain_id != state.validators.chain_id:
        raise LocalMisuse(f"epoch {known.epoch} was announced with the validators of another chain")
    earlier = state.epochs.get(known.epoch)
    if earlier is not None and earlier != known:
        raise LocalMisuse(f"epoch {known.epoch} was announced twice with different validators or versions")
    state.epochs[known.epoch] = known
    state.set_recipients()
    state.dirty = True


def check_version(state: State, known: EpochConfig) -> None:
    """Refuse, by name and before the epoch begins, a version that this software does not speak."""
    config = state.config
    if not config.lowest_version <= known.version <= config.highest_version:
        raise UnsupportedVersion(
            f"epoch {known.epoch} uses protocol version {known.version}, this software speaks "
            f"{config.lowest_version} to {config.highest_version}: upgrade it before that epoch begins"
        )


def try_begin_epoch(state: State) -> None:
    """R12: once the last block is delivered, which needs its own finalization, the next epoch begins on it.

    Sources: commonware marshal ("Re-proposals are only valid for the last block of the epoch"); Ava msm README.
    """
    if not state.is_over:
        return
    coming = state.epochs.get(state.epoch + 1)
    if coming is None:
        return
    if coming.validators.root != state.delivered.next_validators_root:
        raise LocalMisuse(f"the validators given for epoch {coming.epoch} are not those that its boundary commits to")
    remember_boundary(state)
    must_ask = state.rejoin is not None or rejoin.has_other_members(state.validators, coming.validators)
    del state.epochs[state.epoch]
    state.open_epoch(coming.epoch)
    state.standstills = 0
    state.out.append(EpochBegun(state.epoch))
    journaled.replay_coming(state)
    rejoin.begin_next_epoch(state, must_ask)
    begin(state)


def remember_boundary(state: State) -> None:
    """Keep what answers those who are still in the epoch that ends."""
    if state.final_certificate is not None and state.final_digest == state.delivered.digest:
        state.boundaries[state.epoch] = state.final_certificate
    if len(state.boundaries) > REMEMBERED_EPOCHS:
        del state.boundaries[next(iter(state.boundaries))]


def begin(state: State) -> None:
    """Enter the first view, or the one that the journal says."""
    view_entry.enter(state, max(state.final_view + 1, journaled.view_to_enter(state)))
    standstill.arm(state)
    state.dirty = True
