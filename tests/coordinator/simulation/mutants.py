"""Protocol mutants: each drops one guard of the core or one duty of its host, and must be noticed.

    python -m tests.coordinator.simulation.mutants [NAME ...]

prints the table: which seed or directed run notices which mutant, with which words. The budget of a mutant is how
many seeds are tried in order; the directed runs stand in `directed.py`. The oracles have mutants of their own at the
end: what is left unseen when an oracle is blind shows that the oracle, not luck, noticed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from coordinator.consensus import (
    certificate,
    certify,
    guards,
    journaled,
    notarize,
    nullify,
    rejoin,
    repair,
    standstill,
    validators,
    voting,
)
from coordinator.consensus.effects import Deliver, Persist
from coordinator.consensus.host import DurabilityCheck
from coordinator.consensus.journal import CertificateRecord, VoteRecord
from coordinator.consensus.state import State
from coordinator.simulation.disk import Disk, Entry
from coordinator.simulation.options import ALL_FAULTS
from coordinator.simulation.simulation import run_seed
from tests.coordinator.simulation import directed

Patch = tuple[Any, str, Any]
BUDGET = 100


@dataclass(frozen=True)
class Mutant:
    """What is dropped; a directed run that notices, or a number of seeds of which one must."""

    name: str
    drops: str
    patches: tuple[Patch, ...]
    directed: Callable[[], None] | None = None
    budget: int = BUDGET
    first_seed: int = 0
    """Where the search begins: the seed that is known to notice, in continuous integration."""


@dataclass(frozen=True)
class Verdict:
    """Who noticed a mutant, and how; `killer` is None if nobody did."""

    killer: str | None
    words: str
    seeds: int


def _always(_value: object) -> Callable[..., object]:
    return lambda *_: _value


def _nothing(*_: object, **__: object) -> None:
    return None


_disk_append = Disk.append
_replay = journaled.replay
_keep_proposal = notarize.keep_proposal
_set_verdict = certify.set_verdict


def _append_without_votes(disk: Disk, entry: Entry) -> None:
    if not isinstance(entry, VoteRecord):
        _disk_append(disk, entry)


def _append_without_certificates(disk: Disk, entry: Entry) -> None:
    if not isinstance(entry, CertificateRecord):
        _disk_append(disk, entry)


def _replay_without_votes(state: Any, records: tuple[Any, ...]) -> None:
    _replay(state, tuple(record for record in records if not isinstance(record, VoteRecord)))


def _accept_second_proposal(state: Any, sender: bytes, proposal: Any) -> None:
    current = state.rounds.get(proposal.view)
    rival = current is not None and current.proposal is not None and current.proposal.value != proposal.value
    if rival and proposal.view > state.final_view:
        current.proposal, current.my_notarize = None, None
        state.dirty = True
    _keep_proposal(state, sender, proposal)


def _before_without_assertion(check: DurabilityCheck, effect: object) -> None:
    if isinstance(effect, Persist | Deliver):
        check.dirty = True


def _verify_without_quorum(one: Any, members: Any, scheme: Any, is_known: Any = None) -> None:
    """Everything but the number of signers."""
    fields = (one.kind, one.chain_id, one.epoch, one.view, one.parent_view, one.digest)
    signed = certificate.vote_bytes(*fields)
    for signer, signature in zip(one.signers, one.signatures, strict=True):
        if not scheme.verify(members.public_keys[signer], signed, signature):
            raise certificate.CertificateRefused("the signature is not valid")


def _vote_before_stored(state: Any, proposal: Any) -> None:
    state.add_block(proposal.header)
    if notarize.is_timely(state, proposal.header, proposal.parent_view):
        notarize.vote(state)


MUTANTS = (
    Mutant(
        "quorum",
        "a quorum is q - 1",
        ((validators, "quorum", lambda size: size - validators.max_faulty(size) - 1),),
    ),
    Mutant(
        "finalize-after-nullify",
        "R4: F although Z was voted",
        ((guards, "may_finalize", lambda current: current.my_finalize is None),),
    ),
    Mutant(
        "nullify-after-finalize",
        "R7: Z although F was voted",
        ((guards, "may_nullify", lambda current: not current.my_nullify),),
        directed.nullify_after_finalize,
    ),
    Mutant(
        "notarize-after-nullify",
        "R3: N although Z was voted",
        ((guards, "may_notarize", lambda current: current.my_notarize is None),),
    ),
    Mutant(
        "second-proposal",
        "R3: a second proposal replaces the first",
        ((notarize, "keep_proposal", _accept_second_proposal),),
    ),
    Mutant(
        "ancestry-gap", "R3: skipped views need no nullification", ((guards, "missing_nullifications", _always([])),)
    ),
    Mutant(
        "parent-below-final",
        "R3: a parent below finality will do",
        ((guards, "is_parent_below", lambda _, proposal: proposal.parent_view < proposal.view),),
        directed.parent_below_finality,
    ),
    Mutant("leader-unchecked", "R3: anybody proposes", ((guards, "is_from_leader", _always(True)),)),
    Mutant("no-journal", "votes are not written", ((Disk, "append", _append_without_votes),)),
    Mutant(
        "send-before-sync",
        "messages leave before the journal is durable",
        (
            (DurabilityCheck, "needs_sync", _always(False)),
            (DurabilityCheck, "before", _before_without_assertion),
        ),
    ),
    Mutant("skip-sync", "synchronising does nothing", ((Disk, "sync", lambda disk: disk.entries[disk.synced :]),)),
    Mutant("replay-forgets", "replay skips what this node voted", ((journaled, "replay", _replay_without_votes),)),
    Mutant(
        "own-votes-not-counted",
        "P5: own votes are not counted after a restart",
        ((journaled, "recount_own_votes", _nothing),),
        directed.all_restart_after_nullify,
    ),
    Mutant("certificates-unverified", "certificates are taken as they come", ((voting, "verify", _nothing),)),
    Mutant(
        "signers-uncounted",
        "a certificate needs no quorum of signers",
        ((voting, "verify_certificate", _verify_without_quorum),),
    ),
    Mutant(
        "epoch-unchecked",
        "P13: messages of other epochs count",
        ((repair, "is_this_epoch", _always(True)),),
        directed.votes_of_another_epoch,
    ),
    Mutant(
        "payload-not-awaited",
        "R3: N before payload and verdict",
        ((notarize, "_vote_when_certified", _vote_before_stored),),
    ),
    Mutant(
        "verdict-ignored",
        "R4: an invalid block is certified",
        ((certify, "set_verdict", lambda state, block, _: _set_verdict(state, block, True)),),
    ),
    Mutant(
        "boundary-built-on",
        "R12: the last block of an epoch is like any other",
        ((guards, "is_boundary", _always(False)),),
    ),
    Mutant(
        "rejoin-skipped",
        "a node that lost records votes at once",
        ((rejoin, "begin", lambda state, nonce: setattr(state, "rejoin_nonce", None)),),
    ),
    Mutant(
        "floor-ignored",
        "a node that rejoins votes as soon as it was answered",
        ((guards, "is_above_floor", lambda state: state.rejoin is None),),
    ),
    Mutant(
        "next-epoch-forgotten",
        "a rejoin ends with its epoch",
        ((rejoin, "begin_next_epoch", lambda state, _: setattr(state, "rejoin", None)),),
        directed.lost_disk_at_the_end_of_an_epoch,
    ),
    Mutant(
        "timeouts-do-not-grow",
        "R11: delta stays as configured",
        ((State, "delta_ns", property(lambda state: state.config.delta_ns)),),
        directed.slow_network,
    ),
    Mutant(
        "no-retry",
        "R8: a lost nullify vote is not repeated",
        ((nullify, "on_retry", _nothing),),
        directed.lost_nullify_votes,
    ),
    Mutant(
        "no-standstill",
        "R10: nothing is offered again",
        (
            (standstill, "cast_everything", _nothing),
            (nullify, "on_retry", _nothing),
        ),
        directed.lost_nullify_votes_and_standstill,
    ),
    Mutant(
        "no-help",
        "R9: who lags is not helped",
        (
            (repair, "help_forward", _nothing),
            (repair, "nudge_leader", _nothing),
        ),
        directed.laggard_is_helped,
    ),
    Mutant("no-view-timeouts", "R7: a silent leader is waited for", ((nullify, "on_timeout", _nothing),)),
    Mutant(
        "votes-unbounded",
        "P13: votes of any view are kept",
        ((guards, "is_vote_in_window", lambda state, view: view > state.final_view),),
    ),
    Mutant("requests-unpaced", "R10: every request at every step", ((guards, "is_request_due", _always(True)),)),
    Mutant("answers-unbounded", "every request is answered", ((repair, "may_answer", _always(True)),)),
    Mutant(
        "legal-votes-accused",
        "N and Z are taken for evidence",
        ((voting, "_EXCLUDES", {**voting._EXCLUDES, voting.VoteKind.NULLIFY: voting.VoteKind.NOTARIZE}),),
    ),
    Mutant(
        "time-unchecked",
        "a block may be earlier than its parent",
        ((guards, "fault_of_child", directed.fault_of_child_without_time),),
    ),
)


def judge(mutant: Mutant) -> Verdict:
    """Run the mutant until something notices it."""
    with ExitStack() as stack:
        for target, name, replacement in mutant.patches:
            stack.enter_context(patch.object(target, name, replacement))
        if mutant.directed is not None:
            return _judge_directed(mutant.directed)
        for number in range(mutant.budget):
            seed = mutant.first_seed + number
            outcome = run_seed(seed, ALL_FAULTS)
            if outcome.failure is not None:
                return Verdict(
                    f"seed {seed}", f"{outcome.failure_kind}: {outcome.failure.split(': ', 1)[1]}", number + 1
                )
    return Verdict(None, "survives", mutant.budget)


def _judge_directed(run: Callable[[], None]) -> Verdict:
    try:
        run()
    except Exception as error:
        return Verdict(f"directed.{run.__name__}", f"{type(error).__name__}: {error}", 0)
    return Verdict(None, f"survives directed.{run.__name__}", 0)


def main(names: list[str]) -> int:
    """Print the table; 1 if a mutant survives."""
    survivors = 0
    print("| mutant | drops | noticed by | words | s |\n|---|---|---|---|---|")
    for mutant in MUTANTS:
        if names and mutant.name not in names:
            continue
        started = time.monotonic()
        verdict = judge(mutant)
        survivors += verdict.killer is None
        seconds = time.monotonic() - started
        words = verdict.words[:110]
        print(f"| {mutant.name} | {mutant.drops} | {verdict.killer} | {words} | {seconds:.1f} |", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
