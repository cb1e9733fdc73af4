"""The sign guard: no two votes that conflict, whatever happened to the journal; and private keys in files."""

from __future__ import annotations

import os
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.consensus.signing import VoteKind
from coordinator.ledger import sign_guard
from coordinator.ledger.errors import GuardCorrupt, KeyFileError, SigningRefused
from coordinator.ledger.keys import create_key, load_key
from coordinator.ledger.sign_guard import SignGuard, Vote

CHAIN_ID, KEY = b"c" * 32, b"k" * 32
N, Z, F = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE
HEAD, RECORD = 19 + 32 + 32 + 16 + 16, 57 + 16


def vote(kind: VoteKind, view: int = 5, digest: bytes = b"d", *, epoch: int = 0) -> Vote:
    if kind is Z:
        return Vote(kind, epoch, view, 0, bytes(32))
    return Vote(kind, epoch, view, view - 1, digest * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "guard"


def test_what_a_validator_votes_is_remembered_once(path: Path) -> None:
    with SignGuard.create(path, CHAIN_ID, KEY) as guard:
        guard.remember([vote(N)])
        size = path.stat().st_size
        guard.remember([vote(N)])
        assert guard.votes() == (vote(N),)
        assert (size, path.stat().st_size) == (HEAD + RECORD, HEAD + RECORD)
        assert path.stat().st_mode & 0o777 == 0o600


CONFLICTS = {
    "two notarize": (vote(N), vote(N, digest=b"e")),
    "two finalize": (vote(F), vote(F, digest=b"e")),
    "nullify then finalize": (vote(Z), vote(F)),
    "finalize then nullify": (vote(F), vote(Z)),
    "nullify then notarize": (vote(Z), vote(N)),
    "another parent": (vote(N), Vote(N, 0, 5, 3, b"d" * 32)),
}


@pytest.mark.parametrize("again", [False, True], ids=["same process", "after a restart"])
@pytest.mark.parametrize("name", CONFLICTS)
def test_conflicting_votes_are_refused(path: Path, name: str, again: bool) -> None:
    first, second = CONFLICTS[name]
    guard = SignGuard.create(path, CHAIN_ID, KEY)
    guard.remember([first])
    if again:
        guard.close()
        guard = SignGuard(path, CHAIN_ID, KEY)
    with pytest.raises(SigningRefused):
        guard.remember([vote(N, 6), second])
    guard.remember([vote(N, 6, b"x")])
    guard.close()


@pytest.mark.parametrize("name", CONFLICTS)
def test_conflicts_within_one_step_are_refused(path: Path, name: str) -> None:
    with SignGuard.create(path, CHAIN_ID, KEY) as guard, pytest.raises(SigningRefused):
        guard.remember(list(CONFLICTS[name]))


def test_notarize_then_nullify_is_legal_and_so_are_other_views_and_epochs(path: Path) -> None:
    with SignGuard.create(path, CHAIN_ID, KEY) as guard:
        guard.remember([vote(N), vote(Z), vote(N, 6), vote(F, 6), vote(N, digest=b"e", epoch=1)])


def test_the_floor_only_rises_and_survives(path: Path) -> None:
    with SignGuard.create(path, CHAIN_ID, KEY, floor=(1, 10)) as guard:
        for below in (vote(N, 10, epoch=1), vote(N, 99, epoch=0)):
            with pytest.raises(SigningRefused, match="floor"):
                guard.remember([below])
        guard.remember([vote(N, 11, epoch=1), vote(N, 12, epoch=1)])
        guard.raise_floor(1, 11)
        guard.raise_floor(1, 3)
        guard.compact()
        assert path.stat().st_size == HEAD + RECORD
    with SignGuard(path, CHAIN_ID, KEY) as guard:
        assert guard.floor == (1, 11)
        with pytest.raises(SigningRefused):
            guard.remember([vote(N, 12, b"e", epoch=1)])


def test_the_file_stays_small(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_guard, "_COMPACT_RECORDS", 8)
    with SignGuard.create(path, CHAIN_ID, KEY) as guard:
        for view in range(1, 100):
            guard.remember([vote(N, view)])
            guard.raise_floor(0, view)
        assert path.stat().st_size <= HEAD + 9 * RECORD


def test_a_vote_is_in_the_file_before_it_may_leave_and_after_a_failure_none_may(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = SignGuard.create(path, CHAIN_ID, KEY)
    guard.remember([vote(N), vote(Z)])
    assert path.stat().st_size == HEAD + 2 * RECORD, "another process finds it there, if this one is killed now"

    def full(handle: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sign_guard.os, "write", full)
    with pytest.raises(OSError, match="No space"):
        guard.remember([vote(N, 6)])
    monkeypatch.undo()
    with pytest.raises(GuardCorrupt, match="make room"):
        guard.remember([vote(N, 7)])
    guard.close()


def test_several_records_that_never_came_to_the_disk_are_dropped(path: Path) -> None:
    """They are synchronised together, later than they are written: a loss of power leaves zeros, or a part of one."""
    with SignGuard.create(path, CHAIN_ID, KEY) as guard:
        guard.remember([vote(N, view) for view in range(1, 50)])
    whole = path.read_bytes()
    for cut in range(512, len(whole), 512):
        path.write_bytes(whole[:cut] + bytes(len(whole) - cut))
        with SignGuard(path, CHAIN_ID, KEY) as guard:
            assert guard.votes() == tuple(vote(N, view) for view in range(1, 1 + (cut - HEAD) // RECORD))
    path.write_bytes(whole[: HEAD + RECORD] + bytes(RECORD) + whole[HEAD + 2 * RECORD :])
    with pytest.raises(GuardCorrupt, match="damaged"):
        SignGuard(path, CHAIN_ID, KEY)


def test_every_torn_end_is_dropped_and_every_other_damage_is_named(path: Path) -> None:
    with SignGuard.create(path, CHAIN_ID, KEY) as guard:
        guard.remember([vote(N, view) for view in (1, 2, 3)])
    whole = path.read_bytes()
    for size in (*range(HEAD, len(whole), 7), len(whole)):
        path.write_bytes(whole[:size])
        with SignGuard(path, CHAIN_ID, KEY) as guard:
            kept = (size - HEAD) // RECORD
            assert path.stat().st_size == HEAD + kept * RECORD
            guard.remember([vote(N, view) for view in range(1, kept + 1)])
            for view in range(1, kept + 1):
                with pytest.raises(SigningRefused):
                    guard.remember([vote(N, view, b"e")])
    path.write_bytes(whole + bytes(RECORD))
    SignGuard(path, CHAIN_ID, KEY).close()
    assert path.read_bytes() == whole
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x40
        path.write_bytes(damaged)
        with pytest.raises(GuardCorrupt):
            SignGuard(path, CHAIN_ID, KEY)


def test_a_missing_guard_another_chain_or_key_or_a_second_process_is_refused(path: Path) -> None:
    with pytest.raises(GuardCorrupt, match="find out"):
        SignGuard(path, CHAIN_ID, KEY)
    with SignGuard.create(path, CHAIN_ID, KEY):
        for chain_id, key in ((b"d" * 32, KEY), (CHAIN_ID, b"l" * 32), (CHAIN_ID, KEY)):
            with pytest.raises(GuardCorrupt):
                SignGuard(path, chain_id, key)
        with pytest.raises(GuardCorrupt, match="already"):
            SignGuard.create(path, CHAIN_ID, KEY)
    for chain_id, key in ((b"d" * 32, KEY), (CHAIN_ID, b"l" * 32)):
        with pytest.raises(GuardCorrupt, match="another chain or key"):
            SignGuard(path, chain_id, key)


@given(st.lists(st.tuples(st.sampled_from([N, Z, F]), st.integers(1, 3), st.sampled_from([b"a", b"b"])), max_size=25))
def test_what_was_signed_never_conflicts(votes: list[tuple[VoteKind, int, bytes]]) -> None:
    signed: list[Vote] = []
    with _TemporaryGuard() as path:
        for kind, view, digest in votes:
            with SignGuard(path, CHAIN_ID, KEY) as guard:
                try:
                    guard.remember([vote(kind, view, digest)])
                except SigningRefused:
                    continue
            signed.append(vote(kind, view, digest))
    for view in (1, 2, 3):
        mine = [v for v in signed if v.view == view]
        assert all(len({v.digest for v in mine if v.kind is kind}) <= 1 for kind in (N, F))
        assert not {Z, F} <= {v.kind for v in mine}
        assert not any(a.kind is Z and b.kind is N and b not in mine[: mine.index(a)] for a, b in pairwise(mine))


class _TemporaryGuard:
    def __enter__(self) -> Path:
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "guard"
        SignGuard.create(path, CHAIN_ID, KEY).close()
        return path

    def __exit__(self, *details: object) -> None:
        self._folder.cleanup()


def test_keys_are_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    old = os.umask(0)
    try:
        made = create_key(path)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_key(path).public_key == made.public_key
    with pytest.raises(KeyFileError, match="never overwritten"):
        create_key(path)
    for mode in (0o640, 0o604, 0o666):
        path.chmod(mode)
        with pytest.raises(KeyFileError, match="others may use"):
            load_key(path)
    path.chmod(0o600)
    for text in ("", "zz" * 32, "00" * 31, "00" * 33):
        path.write_text(text)
        with pytest.raises(KeyFileError, match="not a private key"):
            load_key(path)
    with pytest.raises(KeyFileError, match="no key"):
        load_key(tmp_path / "other")
