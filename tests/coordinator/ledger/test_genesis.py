"""Genesis: its hash is the chain's name, and a document that no chain can start from is refused with a reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from coordinator.consensus.errors import DecodeError
from coordinator.ledger.errors import GenesisError
from coordinator.ledger.genesis import decode_genesis, encode_genesis, start
from coordinator.ledger.handlers import CORE
from coordinator.ledger.invariants import check_books
from coordinator.ledger.state import Machine, Module
from coordinator.ledger.view import Context
from tests.coordinator.ledger.support import Chain

CHAIN = Chain()
Content = dict[str, Any]


def changed(**fields: object) -> bytes:
    return encode_genesis({**CHAIN.content(), **fields})


def test_the_chain_id_is_the_hash_of_the_exact_bytes() -> None:
    assert CHAIN.chain_id == hashlib.sha256(CHAIN.genesis.encoded).digest()
    assert decode_genesis(CHAIN.genesis.encoded + b" ").chain_id != CHAIN.chain_id
    header = CHAIN.state.header
    assert (header.height, header.epoch, header.chain_id) == (0, 0, CHAIN.chain_id)
    assert header.validators_root == CHAIN.genesis.validators.root
    check_books(CHAIN.state.tree)


MALFORMED = {
    "not JSON": b"{",
    "UTF-8": b"\xff\xfe",
    "key twice": CHAIN.genesis.encoded.replace(b'"name"', b'"format": "x", "name"', 1),
    "not an integer": changed(time_ms=1.5),
    "not an integer ": CHAIN.genesis.encoded.replace(b"1000,", b"NaN,", 1),
    "format": changed(format="other"),
    "no fewer and no more": changed(surprise=1),
    "a list": b"[]",
    "deep": b"[" * 200_000,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_document_is_refused(name: str) -> None:
    with pytest.raises(DecodeError):
        decode_genesis(MALFORMED[name])


def entry(section: str, **fields: object) -> Callable[[Content], Content]:
    def change(content: Content) -> Content:
        content[section][0] |= fields
        return content

    return change


def put(**fields: object) -> Callable[[Content], Content]:
    return lambda content: content | fields


IMPOSSIBLE = {
    "validators: there are none": put(validators=[]),
    "validators: not a list": put(validators={}),
    "bad_name": entry("validators", name="a b"),
    "name_taken": entry("participants", name="v0"),
    "key_taken": entry("participants", public_key=CHAIN.key("v0").hex()),
    "not hexadecimal": entry("validators", public_key="zz"),
    "31 bytes": entry("validators", public_key="00" * 31),
    "no fewer and no more": entry("accounts", colour="red"),
    "not a validator or participant": entry("accounts", owner="nobody"),
    "unknown_asset": entry("accounts", asset="XAU"),
    "balance: missing, or not an integer": entry("accounts", balance=-1),
    "credit_limit: missing": entry("accounts", credit_limit=2**63),
    "stands there twice": put(assets=[{"name": "EUR", "issuer": ""}, {"name": "EUR", "issuer": ""}]),
    "epoch_length": put(epoch_length=0),
    "time_ms": put(time_ms=True),
    "version": put(version=0),
    "is not part of this software": put(modules={"magic": {}}),
    "'late_limit_s': missing, or not a text": put(parameters={"late_limit_s": 5}),
    "'note': longer than 4096": put(parameters={"note": "x" * (2 << 20)}),
    "'half': longer than 4096 characters, or not Unicode": put(parameters={"half": "\ud800"}),
    "'name': longer than 4096 characters, or not Unicode": entry("validators", name="\udfff"),
    "1025; at most 1024": put(
        validators=[{"name": f"v{n}", "public_key": n.to_bytes(32, "big").hex()} for n in range(1025)]
    ),
    "overflow": put(accounts=[{"owner": "bob", "asset": "EUR", "balance": 2**63 - 1, "credit_limit": 0}] * 2),
}


@pytest.mark.parametrize("reason", IMPOSSIBLE)
def test_what_no_chain_can_start_from_is_refused_with_a_reason(reason: str) -> None:
    content = IMPOSSIBLE[reason](json.loads(CHAIN.genesis.encoded))
    with pytest.raises(GenesisError, match=reason):
        start(decode_genesis(json.dumps(content).encode()), CHAIN.machine)


def test_modules_write_their_first_records() -> None:
    def begin(context: Context, section: object) -> None:
        context.records.put(b"limit", repr(section).encode())

    machine = Machine((CORE, Module("notes", {}, genesis=begin)), CHAIN.scheme)
    genesis = decode_genesis(changed(modules={"notes": {"limit": 5}}))
    assert start(genesis, machine).view.get(b"notes/limit") == b"{'limit': 5}"
