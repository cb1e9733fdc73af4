"""The state machine: what transactions do, what a block must say, what never happens to money."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.consensus.header import payload_digest
from coordinator.ledger import accounts, registry
from coordinator.ledger.block import Block, encode_payload
from coordinator.ledger.envelope import Holder, KeyClaim, prove_possession
from coordinator.ledger.errors import BlockRefused, BooksBroken, Rejected, TransactionRefused
from coordinator.ledger.handlers import CORE
from coordinator.ledger.invariants import check_books, check_changes
from coordinator.ledger.records import Account, Asset, Escrow
from coordinator.ledger.state import LedgerState, Module
from coordinator.ledger.state_tree import verify_state
from coordinator.ledger.transaction import SignedTransaction
from coordinator.ledger.view import Context, View
from protos.gridaccord.v1 import ledger_pb2 as pb
from tests.coordinator.ledger.support import MILLION, VALIDATORS, Chain, codes

NAMES = ("alice", "bob", "carol")
ROOT = Path(__file__).resolve().parents[3]


def balance(state: LedgerState, name: str) -> int:
    return accounts.balance(state.view, name, "EUR")


def issue(owner: str, amount: int) -> bytes:
    return pb.Issue(owner=owner, asset="EUR", amount=amount).SerializeToString()


def test_a_transfer_moves_money_and_the_account_is_proved_under_the_state_root() -> None:
    chain = Chain()
    applied = chain.add(chain.pay("alice", "bob", 5 * MILLION))
    assert codes(applied) == [""]
    key, tree = Account.key("bob", "EUR"), applied.state.tree
    verify_state(applied.state.header.state_root, key, Account(1005 * MILLION, 10 * MILLION).encode(), tree.prove(key))
    verify_state(
        applied.state.header.state_root, Account.key("dora", "EUR"), None, tree.prove(Account.key("dora", "EUR"))
    )


def test_application_is_pure_and_repeats_to_the_same_root() -> None:
    chain = Chain()
    before = chain.state
    finalized = chain.make(chain.pay("alice", "bob", 1), chain.pay("bob", "alice", 2))
    again = chain.machine.apply(before, finalized.block)
    assert (again.state.header, again.state.tree.root) == (chain.state.header, chain.state.tree.root)
    assert again.receipts == finalized.applied.receipts
    assert before.tree.root == before.header.state_root


REJECTED = {
    "insufficient_balance": lambda c: c.pay("alice", "bob", 1010 * MILLION + 1),
    "unknown_participant": lambda c: c.pay("alice", "dora", 1),
    "same_account": lambda c: c.pay("alice", "alice", 1),
    "bad_amount": lambda c: c.pay("alice", "bob", 0),
    "unknown_kind": lambda c: c.transaction("alice", "teleport", b""),
    "malformed": lambda c: c.transaction("alice", "transfer", b"\xff"),
    "unknown_asset": lambda c: c.transaction(
        "alice", "transfer", pb.Transfer(to="bob", asset="XAU", amount=1).SerializeToString()
    ),
    "not_issuer": lambda c: c.transaction("alice", "mint", issue("alice", 1)),
    "not_owner": lambda c: c.transaction("carol", "burn", issue("alice", 1)),
    "overflow": lambda c: c.transaction("carol", "mint", issue("alice", 2**63 - 1)),
    "not_validator": lambda c: c.transaction(
        "alice", "signal_version", pb.VersionSignal(version=2).SerializeToString()
    ),
    "bad_version": lambda c: c.transaction("v0", "signal_version", pb.VersionSignal(version=3).SerializeToString()),
    "no_possession": lambda c: c.transaction(
        "alice", "rotate_key", pb.NewKey(public_key=c.key("alice2"), possession=bytes(64)).SerializeToString()
    ),
}


@pytest.mark.parametrize("code", REJECTED)
def test_what_cannot_be_carried_out_uses_its_sequence_number_and_nothing_else(code: str) -> None:
    chain = Chain()
    make: Callable[[Chain], SignedTransaction] = REJECTED[code]
    signed = make(chain)
    before = dict(chain.state.tree.items())
    applied = chain.add(signed)
    assert codes(applied) == [code]
    after = dict(applied.state.tree.items())
    signer = b"participant/" + signed.transaction.signer.encode()
    assert {key for key in after.keys() | before.keys() if after.get(key) != before.get(key)} == {signer}


def test_transactions_are_not_replayed() -> None:
    chain, other = Chain(), Chain(epoch_length=7)
    first = chain.pay("alice", "bob", 1)
    for signed, reason in (
        (chain.pay("alice", "bob", 1, ahead=1), "sequence 1"),
        (chain.transaction("alice", "transfer", b"", until=0), "valid until height 0"),
        (chain.transaction("alice", "transfer", b"", key="bob"), "signature"),
        (other.pay("alice", "bob", 1), "signature"),
    ):
        with pytest.raises(TransactionRefused, match=reason):
            chain.machine.check_admissible(chain.state, signed)
        assert codes(chain.machine.build(chain.state, [signed], chain.state.header.time_ms + 1)[1]) == []
        _refuses_block(chain, signed, reason)
    chain.add(first)
    with pytest.raises(TransactionRefused, match="sequence 0; the next of alice is 1"):
        chain.machine.check_admissible(chain.state, first)


def _refuses_block(chain: Chain, signed: SignedTransaction, reason: str) -> None:
    block, _ = chain.machine.build(chain.state, [], chain.state.header.time_ms + 1)
    payload = encode_payload([signed])
    forged = Block(replace(block.header, payload_digest=payload_digest(payload)), payload)
    with pytest.raises(BlockRefused, match=reason) as caught:
        chain.machine.apply(chain.state, forged)
    assert caught.value.field == "payload"


HEADER_FIELDS = (
    "version",
    "chain_id",
    "epoch",
    "height",
    "time_ms",
    "parent_digest",
    "transactions_root",
    "state_root",
    "receipts_root",
    "history_root",
    "validators_root",
    "next_validators_root",
    "payload_digest",
)


@pytest.mark.parametrize("field", HEADER_FIELDS)
def test_every_field_of_a_header_is_checked_and_named(field: str) -> None:
    chain = Chain()
    chain.add(chain.pay("alice", "bob", 3))
    parent = chain.state
    block = chain.make(chain.pay("alice", "bob", 3)).block
    wrong: int | bytes = 0 if field == "time_ms" else bytes(32)
    if isinstance(getattr(block.header, field), int) and field != "time_ms":
        wrong = getattr(block.header, field) + 1
    with pytest.raises(BlockRefused) as caught:
        chain.machine.apply(parent, Block(replace(block.header, **{field: wrong}), block.payload))
    assert caught.value.field == field


def test_keys_rotate_and_the_old_one_is_dead_for_ever() -> None:
    chain = Chain()
    content = pb.NewKey(
        public_key=chain.key("alice2"),
        possession=prove_possession(
            chain.signer("alice2"), chain.chain_id, KeyClaim(Holder.PARTICIPANT, "alice", "alice")
        ),
    ).SerializeToString()
    assert codes(chain.add(chain.transaction("alice", "rotate_key", content))) == [""]
    with pytest.raises(TransactionRefused, match="signature"):
        chain.machine.check_admissible(chain.state, chain.transaction("alice", "transfer", b""))
    pay = pb.Transfer(to="bob", asset="EUR", amount=1).SerializeToString()
    assert codes(chain.add(chain.transaction("alice", "transfer", pay, key="alice2"))) == [""]
    back = pb.NewKey(
        public_key=chain.key("alice"),
        possession=prove_possession(chain.signer("alice"), chain.chain_id, KeyClaim(Holder.PARTICIPANT, "bob", "bob")),
    ).SerializeToString()
    assert codes(chain.add(chain.transaction("bob", "rotate_key", back))) == ["key_taken"]


def signal(chain: Chain, names: tuple[str, ...], by: tuple[str, ...]) -> None:
    content = pb.ValidatorSignal(validators=names).SerializeToString()
    for name in by:
        assert codes(chain.add(chain.transaction(name, "signal_validators", content))) == [""]


def test_validators_change_with_a_full_epoch_of_notice() -> None:
    chain = Chain(epoch_length=5)
    wanted = ("v1", "v2", "v3", "alice")
    signal(chain, wanted, ("v0", "v1", "v2"))
    roots = []
    while chain.state.header.height < 12:
        chain.add()
        header = chain.state.header
        roots.append((header.epoch, header.validators_root, header.next_validators_root))
    old, new = chain.genesis.validators.root, chain.state.epoch_configs()[0].validators.root
    assert chain.state.epoch_configs()[0].validators.public_keys == tuple(chain.key(name) for name in wanted)
    assert {epoch: pair for epoch, *pair in roots} == {0: [old, old], 1: [old, new], 2: [new, new]}


def test_a_minority_of_validators_changes_nothing_and_a_changed_mind_counts_once() -> None:
    chain = Chain(epoch_length=5)
    signal(chain, ("v1", "v2", "v3", "alice"), ("v0", "v1"))
    signal(chain, ("v1", "v2", "v3", "bob"), ("v1", "v2"))
    assert registry.committee(chain.state.view, registry.PENDING).names == VALIDATORS
    signal(chain, ("v1", "v2", "v3", "bob"), ("v0",))
    assert registry.committee(chain.state.view, registry.PENDING).names == ("v1", "v2", "v3", "bob")
    assert not list(chain.state.tree.items(b"signal/"))


def test_a_validator_s_rotated_key_votes_two_epochs_later() -> None:
    chain = Chain(epoch_length=3)
    content = pb.NewKey(
        public_key=chain.key("v0b"),
        possession=prove_possession(chain.signer("v0b"), chain.chain_id, KeyClaim(Holder.PARTICIPANT, "v0", "v0")),
    ).SerializeToString()
    chain.add(chain.transaction("v0", "rotate_key", content))
    keys = []
    while chain.state.header.height < 7:
        keys.append(chain.state.epoch_configs()[0].validators.public_keys[0])
        chain.add()
    assert keys == [chain.key("v0")] * 5 + [chain.key("v0b")]


def test_a_version_is_signalled_by_a_quorum_scheduled_and_refused_by_software_that_does_not_speak_it() -> None:
    chain = Chain(epoch_length=3)
    content = pb.VersionSignal(version=2).SerializeToString()
    for name in VALIDATORS[:3]:
        chain.add(chain.transaction(name, "signal_version", content))
    assert [config.version for config in chain.state.epoch_configs()] == [1, 2]
    for _ in range(3):
        chain.add()
    block, _ = chain.machine.build(chain.state, [], chain.state.header.time_ms + 1)
    assert block.header.version == 2
    with pytest.raises(BlockRefused, match="2 is in force, this software speaks") as caught:
        chain.machine.apply(chain.state, block)
    assert caught.value.field == "version"


def test_modules_bring_kinds_records_and_rules_of_their_own() -> None:
    def put(context: Context, content: bytes) -> None:
        context.records.put(content, context.signer.encode())
        context.emit("noted", content)
        if content == b"bad":
            raise Rejected("bad_note", "after writing")

    def sweep(context: Context) -> None:
        for key, _ in tuple(context.records.items(b"x")):
            context.records.delete(key)
            context.emit("swept", key)

    chain = Chain(modules=(CORE, Module("notes", {"note": put}, end_of_block=sweep)))
    applied = chain.add(
        chain.transaction("alice", "note", b"xa"),
        chain.transaction("bob", "note", b"b"),
        chain.transaction("alice", "note", b"bad", ahead=1),
    )
    assert codes(applied) == ["", "", "bad_note"]
    assert [[(e.kind, e.payload) for e in receipt.events] for receipt in applied.receipts] == [
        [("noted", b"xa")],
        [("noted", b"b")],
        [],
        [("swept", b"xa")],
    ]
    assert list(applied.state.tree.items(b"notes/")) == [(b"notes/b", b"bob")]


MONEY = st.sampled_from([1, 7, MILLION, 900 * MILLION, 2**62, 2**63 - 1, 0, -5, 2**63])
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["transfer", "mint", "burn", "lock", "refund", "release", "burn_escrow", "residue", "limit"]),
        st.sampled_from(NAMES),
        st.sampled_from(NAMES),
        MONEY,
        st.sampled_from([b"e1", b"e2"]),
    ),
    max_size=40,
)


@given(OPERATIONS)
def test_money_is_conserved_whatever_is_done(operations: list[tuple[str, str, str, int, bytes]]) -> None:
    view = Chain(real=False).state.view
    for name, owner, other, amount, escrow in operations:
        before = view.tree
        try:
            _operate(view, name, owner, other, amount, escrow)
        except Rejected:
            assert view.tree.root == before.root, "a rejected operation writes nothing"
        check_changes(before, view.tree, [key for key, _ in (*before.items(), *view.tree.items())])
    check_books(view.tree)


def test_an_issuer_that_mints_and_burns_for_ever_stops_no_credit() -> None:
    view = Chain(real=False).state.view
    largest = 2**63 - 1
    for _ in range(5):
        before = view.tree
        accounts.mint(view, "EUR", "carol", largest)
        accounts.burn(view, "EUR", "carol", largest)
        check_changes(before, view.tree, [key for key, _ in view.tree.items()])
    accounts.mint(view, "EUR", "bob", 5 * MILLION)
    asset = accounts.asset_of(view, "EUR")
    assert (asset.minted, asset.burned) == (5 * largest + 2005 * MILLION, 5 * largest)
    assert accounts.balance(view, "bob", "EUR") == 1005 * MILLION
    check_books(view.tree)


def _operate(view: View, name: str, owner: str, other: str, amount: int, escrow: bytes) -> None:
    match name:
        case "transfer":
            accounts.transfer(view, "EUR", owner, other, amount)
        case "mint" | "burn":
            getattr(accounts, name)(view, "EUR", owner, amount)
        case "lock":
            accounts.lock(view, escrow, "EUR", owner, amount)
        case "refund" | "burn_escrow":
            getattr(accounts, name)(view, escrow)
        case "release":
            accounts.release(view, escrow, other)
        case "residue":
            accounts.book_residue(view, "EUR", owner, amount % 3 - 1)
        case _:
            accounts.set_credit_limit(view, "EUR", owner, amount)


TRANSFERS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from([*NAMES, "dora"]), st.integers(0, 1200 * MILLION)), max_size=12
)


@given(st.lists(TRANSFERS, max_size=4))
def test_blocks_of_transfers_keep_the_books_and_replay_to_the_same_root(
    blocks: list[list[tuple[str, str, int]]],
) -> None:
    chain = Chain(real=False)
    start, made = chain.state, []
    for transfers in blocks:
        counts = dict.fromkeys(NAMES, 0)
        signed = []
        for payer, payee, amount in transfers:
            signed.append(chain.pay(payer, payee, amount, ahead=counts[payer]))
            counts[payer] += 1
        made.append(chain.make(*signed).block)
        check_books(chain.state.tree)
        assert sum(balance(chain.state, name) for name in NAMES) == 2000 * MILLION
    state = start
    for block in made:
        state = chain.machine.apply(state, block).state
    assert (state.header, state.tree.root, state.history) == (
        chain.state.header,
        chain.state.tree.root,
        chain.state.history,
    )


def test_the_books_are_checked() -> None:
    tree = Chain(real=False).state.tree
    key = Account.key("alice", "EUR")
    for wrong, reason in (
        (tree.set(key, Account(1, 0).encode()), "differ"),
        (tree.set(Escrow.key(b"x"), Escrow("bob", "EUR", 5).encode()), "differ"),
        (tree.set(key, Account(-1, 0).encode()), "limit"),
        (tree.set(Asset.key("EUR"), Asset("carol", 5, 0).encode()), r"went down|differ"),
    ):
        touched = [k for k, v in wrong.items() if tree.get(k) != v]
        with pytest.raises(BooksBroken, match=reason):
            check_changes(tree, wrong, touched)
        with pytest.raises(BooksBroken, match=r"differ|limit"):
            check_books(wrong)


def test_reputation_counts_and_frozen_participants_are_refused() -> None:
    chain = Chain()
    view = chain.state.view
    registry.count(view, "alice", "late", 2)
    registry.count(view, "alice", "late", 2**63)
    assert registry.reputation(view, "alice", "late") == 2**63 - 1
    registry.set_frozen(view, "alice", True)
    frozen = replace(chain.state, tree=view.tree)
    with pytest.raises(TransactionRefused, match="frozen"):
        chain.machine.check_admissible(frozen, chain.pay("alice", "bob", 1))


def test_the_state_does_not_depend_on_the_hash_seed_of_the_process() -> None:
    program = (
        "from tests.coordinator.ledger.support import Chain\n"
        "chain = Chain(real=False, epoch_length=2)\n"
        "for n in range(5):\n"
        "    chain.make(chain.pay('alice', 'bob', n + 1), chain.pay('bob', 'carol', 2), chain.pay('carol', 'bob', 9))\n"
        "print(chain.state.header.digest.hex())"
    )
    seen = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "."}
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        seen.append(done.stdout)
    assert seen[0] == seen[1]
