"""Checkpoints and signed notes: the published cases, and what a strict parser refuses."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.consensus.signing import Ed25519Scheme, Ed25519Signer
from coordinator.ledger.checkpoint import (
    Checkpoint,
    CheckpointError,
    NoteKey,
    origin_of,
    parse_checkpoint,
    parse_note,
    parse_note_key,
    sign_note,
    verify_checkpoint,
    verify_note,
)

VECTORS = Path(__file__).parents[3].parent / "shared" / "vectors"
PARSE_CASES = VECTORS / "transparency-dev-formats" / "checkpoint_parse_cases.json"
NOTE = VECTORS / "c2sp" / "signed_note_example.json"
SIGNER, CHAIN_ID = Ed25519Signer(b"k" * 32), b"c" * 32
KEY = NoteKey("north-1", SIGNER.public_key)
SCHEME = Ed25519Scheme()
CHECKPOINT = Checkpoint(origin_of(CHAIN_ID), 42, b"r" * 32)


def cases() -> list[dict[str, Any]]:
    return json.loads(PARSE_CASES.read_text(encoding="utf-8"))["cases"] if PARSE_CASES.is_file() else []


@pytest.mark.skipif(not PARSE_CASES.is_file(), reason="the shared test vectors are not beside the repository")
@pytest.mark.parametrize("case", cases(), ids=lambda case: case["desc"])
def test_published_parse_cases(case: dict[str, Any]) -> None:
    if case["want_err"]:
        with pytest.raises(CheckpointError):
            parse_checkpoint(case["checkpoint"])
        return
    found = parse_checkpoint(case["checkpoint"])
    assert (found.origin, found.size, found.root.decode(), found.extensions) == (
        case["origin"],
        case["size"],
        case["hash_utf8"],
        case["rest"],
    )
    assert found.text == case["checkpoint"]


@pytest.mark.skipif(not NOTE.is_file(), reason="the shared test vectors are not beside the repository")
def test_the_published_note_verifies() -> None:
    case = json.loads(NOTE.read_text(encoding="utf-8"))
    key = parse_note_key(case["vkey"])
    assert key.text == case["vkey"]
    note = parse_note(case["note"].encode())
    verify_note(note, key, SCHEME)
    changed = parse_note(case["note"].replace("example message", "exomple message").encode())
    with pytest.raises(CheckpointError, match="not valid"):
        verify_note(changed, key, SCHEME)


def test_a_checkpoint_is_signed_and_verified() -> None:
    note = sign_note(CHECKPOINT.text, KEY.name, SIGNER)
    assert verify_checkpoint(note, KEY, CHAIN_ID, SCHEME) == CHECKPOINT
    for key, chain_id in ((KEY, b"d" * 32), (NoteKey("south", KEY.public_key), CHAIN_ID)):
        with pytest.raises(CheckpointError):
            verify_checkpoint(note, key, chain_id, SCHEME)


@given(st.data())
def test_a_changed_note_is_refused(data: st.DataObject) -> None:
    note = bytearray(sign_note(CHECKPOINT.text, KEY.name, SIGNER))
    note[data.draw(st.integers(0, len(note) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CheckpointError):
        verify_checkpoint(bytes(note), KEY, CHAIN_ID, SCHEME)


@pytest.mark.parametrize(
    "text",
    [
        "o\n007\ncm9vdA==\n",
        "o\n7\ncm9vdA\n",
        "o\n7\ncm9vdB==\n",
        "o\n 7\ncm9vdA==\n",
        "o\n\u0667\ncm9vdA==\n",
        "o\r\n7\ncm9vdA==\n",
    ],
)
def test_other_forms_of_the_same_are_refused(text: str) -> None:
    with pytest.raises(CheckpointError):
        parse_checkpoint(text)


@given(st.text(max_size=80) | st.text("o7\n=+ —A", max_size=30))
def test_arbitrary_text_is_parsed_or_refused(text: str) -> None:
    for parse in (
        lambda: parse_checkpoint(text).text == text,
        lambda: parse_note(text.encode()),
        lambda: parse_note_key(text),
    ):
        with suppress(CheckpointError):
            parse()


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_a_note_or_refused(data: bytes) -> None:
    with suppress(CheckpointError):
        parse_note(data)
