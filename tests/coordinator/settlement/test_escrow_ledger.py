"""The protocol on real ledgers: a hub and two regions, blocks with certificates, proofs between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.consensus.errors import DecodeError
from coordinator.consensus.header import Header, payload_digest
from coordinator.consensus.signing import VoteKind
from coordinator.ledger.accounts import balance
from coordinator.ledger.block import Block, encode_payload
from coordinator.ledger.boundary import Boundary
from coordinator.ledger.codec import Writer
from coordinator.ledger.errors import BlockRefused, GenesisError
from coordinator.ledger.genesis import decode_genesis, encode_genesis, machine_of, start
from coordinator.ledger.handlers import CORE
from coordinator.ledger.history import prove_leaf
from coordinator.ledger.invariants import check_books
from coordinator.ledger.proofs import EventProof
from coordinator.ledger.state import Module
from coordinator.ledger.store import Finalized
from coordinator.ledger.view import BlockContext, Context, Records, View
from coordinator.settlement.escrow import ledger_books
from coordinator.settlement.escrow.chains import ESCROW_EVENT, encode_fork
from coordinator.settlement.escrow.encoding import authorisation_bytes, decode_event, seal
from coordinator.settlement.escrow.handlers import ESCROW_HUB, ESCROW_REGION, encode_region, has_signalled
from coordinator.settlement.escrow.hub_record import open_payment
from coordinator.settlement.escrow.ledger_books import HubLedger, RegionLedger
from coordinator.settlement.escrow.records import (
    Change,
    HubRecord,
    HubTransition,
    RegionRecord,
    RegionState,
    RegionTransition,
    Vote,
)
from coordinator.settlement.escrow.region_record import Moment, in_doubt, prepare
from coordinator.settlement.escrow.stored import (
    decode_hub_record,
    decode_region_record,
    encode_hub_record,
    encode_region_record,
)
from coordinator.settlement.escrow.types import (
    AMOUNT_MAX,
    Authorisation,
    Closed,
    Decided,
    Kind,
    Leg,
    Open,
    Opened,
    Opening,
    Outcome,
    Reason,
    Receipt,
    SettlementId,
    Verdict,
)
from protos.gridaccord.v1 import ledger_pb2 as pb
from tests.coordinator.ledger.support import MILLION, VALIDATORS, Chain, codes
from tests.coordinator.settlement.escrow_support import FIRST, LEGS, leg, payment

LIMIT = 500 * MILLION
START = 1000 * MILLION


@dataclass
class EscrowChain(Chain):
    """A chain with a part of the protocol. `blocks` are all it finalized."""

    real: bool = False
    name: str = "hub"
    sections: Mapping[str, object] = field(default_factory=dict)
    blocks: list[Finalized] = field(default_factory=list)

    def content(self) -> dict[str, object]:
        return {**super().content(), "name": self.name, "modules": dict(self.sections)}

    def block(self, *requests: tuple[str, bytes], signer: str = "carol") -> list[str]:
        """The next block with these transactions; what became of them."""
        signed = [
            self.transaction(signer, kind, content, ahead=place) for place, (kind, content) in enumerate(requests)
        ]
        self.blocks.append(self.make(*signed))
        return codes(self.blocks[-1].applied)

    def proofs(self, *kinds: type) -> list[bytes]:
        """Proofs of all escrow events of these kinds so far, each under its own block's certificate."""
        return [proof.encode() for block in self.blocks for proof in proofs_in(block, kinds)]

    def books(self, module: Module) -> Context:
        view = View(self.state.tree)
        header = self.state.header
        block = BlockContext(header.chain_id, header.height, header.epoch, header.time_ms, 1, self.scheme)
        return Context(view, block, Records(view, module.prefix))


def proofs_in(block: Finalized, kinds: tuple[type, ...]) -> list[EventProof]:
    leaves = [receipt.encode() for receipt in block.applied.receipts]
    header, found = block.block.header, []
    for place, receipt in enumerate(block.applied.receipts):
        for number, event in enumerate(receipt.events):
            if event.kind == ESCROW_EVENT and isinstance(decode_event(event.payload), kinds):
                inclusion = prove_leaf(leaves, place)
                assert block.certificate is not None
                found.append(
                    EventProof(block.certificate, header, (), header, leaves[place], inclusion, len(leaves), number)
                )
    return found


@dataclass
class Ledgers:
    """A hub that has registered the regions A and B."""

    epoch_length: int = 1000

    def __post_init__(self) -> None:
        windows = {"window_min": 1, "window_max": 10, "netting_window": 2}
        self.hub = EscrowChain(
            modules=(CORE, ESCROW_HUB), sections={"escrow_hub": windows}, epoch_length=self.epoch_length
        )
        self.regions = {name: self._region(name) for name in "AB"}
        for name, region in self.regions.items():
            keys, limits = tuple(map(region.key, VALIDATORS)), {"EUR": LIMIT, "XYZ": LIMIT}
            content = encode_region(name, region.chain_id, self.epoch_length, keys, limits, ("carol",))
            for validator in VALIDATORS[:3]:
                assert self.hub.block(("escrow_region", content), signer=validator) == [""]

    def _region(self, name: str) -> EscrowChain:
        section = {
            "region": name,
            "hub_chain_id": self.hub.chain_id.hex(),
            "hub_epoch_length": self.epoch_length,
            "hub_validators": [self.hub.key(validator).hex() for validator in VALIDATORS],
        }
        modules = (CORE, ESCROW_REGION)
        return EscrowChain(
            modules=modules, name=name, sections={"escrow_region": section}, epoch_length=self.epoch_length
        )

    def opening(self, amount: int = 7 * MILLION, nonce: int = 1) -> Opening:
        """Alice in A pays Bob in B."""
        legs = (Leg("A", b"alice", "EUR", -amount), Leg("B", b"bob", "EUR", amount))
        deadline = self.hub.state.header.height + 5
        unsigned = seal(Open(self.hub.chain_id, nonce.to_bytes(32, "big"), Kind.PAYMENT, deadline, legs))
        signature = self.regions["A"].signer("alice").sign(authorisation_bytes(unsigned.body_digest))
        return seal(replace(unsigned.open, authorisations=(Authorisation("A", b"alice", signature),)))

    def relay(self, *names: str) -> None:
        """Hub events to regions, then the regions' receipts to the hub, each in one block; repeats included."""
        for name in names or ("A", "B"):
            events = self.hub.proofs(Opened, Decided, Closed)
            self.regions[name].block(*(("escrow_event", proof) for proof in events))
            self.hub.block(*(("escrow_receipt", proof) for proof in self.regions[name].proofs(Receipt)))

    def check(self) -> None:
        """Each chain's books, and that replaying its blocks gives its root (I11)."""
        for chain in (self.hub, *self.regions.values()):
            check_books(chain.state.tree)
            machine = machine_of(chain.genesis, (CORE, ESCROW_HUB, ESCROW_REGION), chain.scheme)
            assert machine.modules == chain.modules
            state = start(chain.genesis, machine)
            for finalized in chain.blocks:
                state = machine.apply(state, finalized.block).state
            assert state.tree.root == chain.state.tree.root

    def balances(self) -> tuple[int, int]:
        views = {name: region.state.view for name, region in self.regions.items()}
        return balance(views["A"], "alice", "EUR"), balance(views["B"], "bob", "EUR")

    def hub_books(self) -> HubLedger:
        return HubLedger(self.hub.books(ESCROW_HUB))

    def region_books(self, name: str) -> RegionLedger:
        return RegionLedger(self.regions[name].books(ESCROW_REGION))


def test_money_moves_between_two_ledgers_and_everything_is_forgotten() -> None:
    ledgers = Ledgers()
    assert ledgers.hub.block(("escrow_open", ledgers.opening().encoded)) == [""]
    sid = ledgers.hub_books().last_sid
    assert sid == SettlementId(7, 0)
    ledgers.relay("A")
    assert [item.sid for item in in_doubt(ledgers.region_books("A"))] == [sid]
    assert ledgers.balances() == (START - 7 * MILLION, START)
    ledgers.relay()
    ledgers.relay()
    assert ledgers.balances() == (START - 7 * MILLION, START + 7 * MILLION)
    assert ledgers.hub_books().position("A", "EUR") == -7 * MILLION
    ledgers.relay()
    ledgers.relay()
    assert ledgers.hub_books().unclosed() == ()
    assert ledgers.hub_books().watermark == sid
    assert ledgers.region_books("A").sids() == ledgers.region_books("B").sids() == ()
    ledgers.check()


def test_without_a_yes_of_everybody_the_money_comes_back() -> None:
    ledgers = Ledgers()
    ledgers.hub.block(("escrow_open", ledgers.opening().encoded))
    ledgers.relay("A")
    for _ in range(5):
        ledgers.hub.block()
    ledgers.relay()
    assert ledgers.balances() == (START, START)
    assert len(ledgers.regions["B"].proofs(Receipt)) == 2
    assert ledgers.hub_books().watermark == ledgers.region_books("B").watermark == SettlementId(7, 0)
    assert ledgers.region_books("A").sids() == ledgers.region_books("B").sids() == ()
    ledgers.check()


def test_a_signature_of_another_key_or_an_unknown_asset_is_answered_no() -> None:
    ledgers = Ledgers()
    opening = ledgers.opening()
    forged = replace(opening.open.authorisations[0], signature=bytes(64))
    strange = tuple(replace(item, asset="XYZ") for item in opening.open.legs)
    signed = replace(opening.open, legs=strange, deadline_height=12, authorisations=())
    signature = ledgers.regions["A"].signer("alice").sign(authorisation_bytes(seal(signed).body_digest))
    signed = replace(signed, authorisations=(Authorisation("A", b"alice", signature),))
    for content in (replace(opening.open, authorisations=(forged,)), signed):
        assert ledgers.hub.block(("escrow_open", seal(content).encoded)) == [""]
        ledgers.relay("A")
    assert ledgers.balances() == (START, START)
    records = [ledgers.region_books("A").record(sid) for sid in ledgers.region_books("A").sids()]
    assert len(records) == 2
    assert all(record is not None and record.verdict is Verdict.NO for record in records)


def test_what_a_rule_refuses_is_a_rejected_transaction() -> None:
    ledgers = Ledgers()
    opening = ledgers.opening(LIMIT + 1)
    assert ledgers.hub.block(("escrow_open", opening.encoded)) == ["escrow_h1"]
    assert ledgers.hub.block(("escrow_open", b"nonsense"), ("escrow_receipt", b"nonsense")) == ["malformed"] * 2
    ledgers.hub.block(("escrow_open", ledgers.opening().encoded))
    wrong_side = ledgers.hub.proofs(Opened)[0]
    assert ledgers.hub.block(("escrow_receipt", wrong_side)) == ["unknown_chain"]
    assert ledgers.regions["A"].block(("escrow_boundary", b"")) == ["malformed"]
    proof = proofs_in(next(block for block in ledgers.hub.blocks if proofs_in(block, (Opened,))), (Opened,))[0]
    for broken in (replace(proof, receipts=9), replace(proof, receipt=proof.receipt + b"\0"), replace(proof, event=1)):
        assert ledgers.regions["A"].block(("escrow_event", broken.encode())) == ["proof_refused"]


def test_a_region_is_registered_once_by_a_quorum_of_validators() -> None:
    ledgers = Ledgers()
    hub, region = ledgers.hub, ledgers.regions["A"]
    content = encode_region("C", b"\x07" * 32, 1000, (region.key("v0"),), {})
    assert hub.block(("escrow_region", content)) == ["not_validator"]
    hub.block(("escrow_region", content), signer="v0")
    hub.block(("escrow_region", content), signer="v0")
    hub.block(("escrow_region", content), signer="v1")
    assert ledgers.hub_books().region("C") is None
    hub.block(("escrow_region", content), signer="v2")
    assert ledgers.hub_books().region("C") is not None
    assert hub.block(("escrow_region", content), signer="v3") == ["name_taken"]
    assert not any(has_signalled(ledgers.hub_books(), content, name) for name in VALIDATORS)
    for name in ("A", "hub"):
        again = encode_region(name, region.chain_id, 1000, (region.key("v0"),), {})
        results = [hub.block(("escrow_region", again), signer=validator) for validator in VALIDATORS[:3]]
        assert results[-1] == ["name_taken"]


def test_a_second_name_for_a_followed_chain_leaves_its_light_client_alone() -> None:
    ledgers = Ledgers(epoch_length=8)
    hub, region = ledgers.hub, ledgers.regions["A"]
    keys = tuple(map(region.key, VALIDATORS))
    while region.state.header.height < 8:
        region.block()
    boundary = region.blocks[7]
    assert boundary.certificate is not None
    step = Boundary(boundary.block.header, boundary.certificate, keys)
    assert hub.block(("escrow_boundary", step.encode())) == [""]
    again = encode_region("A2", region.chain_id, 8, keys, {})
    assert [hub.block(("escrow_region", again), signer=name) for name in VALIDATORS[:3]][-1] == ["chain_taken"]
    entry = ledgers.hub_books().region("A")
    assert entry is not None
    assert entry.epoch == 1
    assert ledgers.hub_books().region("A2") is None


def test_a_region_whose_validators_share_a_key_is_refused() -> None:
    ledgers = Ledgers()
    content = encode_region("C", b"\x07" * 32, 8, (ledgers.hub.key("v0"),) * 4, {})
    results = [ledgers.hub.block(("escrow_region", content), signer=name) for name in VALIDATORS[:3]]
    assert results[-1] == ["bad_chain"]
    assert ledgers.hub_books().region("C") is None


def test_changes_of_one_entry_are_summed_before_they_are_written() -> None:
    """Legs of one region may leave int64 one by one where together they do not."""
    books = Ledgers().hub_books()
    amounts = (AMOUNT_MAX, AMOUNT_MAX, -AMOUNT_MAX)
    books.apply(HubTransition(positions=tuple(Change("A", "EUR", amount) for amount in amounts)))
    assert books.position("A", "EUR") == AMOUNT_MAX


def test_an_open_counts_only_from_a_name_that_the_debited_region_registered() -> None:
    ledgers = Ledgers()
    opening = ledgers.opening(LIMIT)
    unsigned = seal(replace(opening.open, authorisations=(Authorisation("A", b"alice", bytes(64)),)))
    assert ledgers.hub.block(("escrow_open", unsigned.encoded), signer="bob") == ["escrow_h1"]
    assert ledgers.hub_books().unclosed() == ()
    assert ledgers.hub.block(("escrow_open", opening.encoded), signer="carol") == [""]


def test_the_end_of_a_block_reads_only_what_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ending is linear in what ends, and blocks between and after read no settlement at all."""
    ledgers = Ledgers()
    context = ledgers.hub.books(ESCROW_HUB)
    end_of_block = ESCROW_HUB.end_of_block
    assert end_of_block is not None
    for nonce in range(30):
        books = HubLedger(context)
        books.apply(open_payment(books, ledgers.opening(MILLION, nonce).encoded, context.block.height, "carol"))
    deadline = ledgers.opening().open.deadline_height
    read: list[SettlementId] = []
    decode = ledger_books.decode_hub_record

    def counted(sid: SettlementId, data: bytes) -> HubRecord:
        read.append(sid)
        return decode(sid, data)

    monkeypatch.setattr(ledger_books, "decode_hub_record", counted)
    counts = []
    for height in (deadline, deadline + 1, deadline + 2):
        end_of_block(replace(context, block=replace(context.block, height=height), events=[]))
        counts.append(len(read))
    assert counts == [0, 3 * 30, 3 * 30]
    assert HubLedger(context).unclosed() == ()
    left = [key for key, _ in context.records.items() if key.startswith((b"due/", b"close/", b"when/", b"member/"))]
    assert left == []


def test_a_proven_commit_is_never_refused_and_what_did_not_fit_is_paid_later() -> None:
    """Between the YES and the COMMIT the account is filled up to the end of int64."""
    ledgers = Ledgers()
    region = ledgers.regions["B"]
    ledgers.hub.block(("escrow_open", ledgers.opening().encoded))
    ledgers.relay("A")
    ledgers.relay("B")
    others = balance(region.state.view, "alice", "EUR")
    room = AMOUNT_MAX - balance(region.state.view, "bob", "EUR") - others
    fill = pb.Issue(owner="bob", asset="EUR", amount=room).SerializeToString()
    give = pb.Transfer(to="bob", asset="EUR", amount=others).SerializeToString()
    assert region.block(("mint", fill)) == [""]
    assert region.block(("transfer", give), signer="alice") == [""]
    filled = ledgers.balances()[1]
    assert filled == AMOUNT_MAX
    ledgers.relay()
    record = ledgers.region_books("B").record(SettlementId(7, 0))
    assert record is not None
    assert record.state is RegionState.COMMITTED
    assert ledgers.region_books("B").suspense(b"bob", "EUR") == 7 * MILLION
    assert ledgers.balances()[1] == filled
    check_books(region.state.tree)
    claim = Writer().text("bob").text("EUR").encoded
    assert region.block(("escrow_suspense", Writer().text("alice").text("EUR").encoded)) == ["no_suspense"]
    assert region.block(("escrow_suspense", claim)) == ["no_suspense"]


def test_suspense_is_paid_as_far_as_there_is_room() -> None:
    books = Ledgers().region_books("B")
    books.records.put(b"suspense/bob\0EUR", (5).to_bytes(16, "big", signed=True))
    before = books.free(b"bob", "EUR")
    ESCROW_REGION.handlers["escrow_suspense"](books.context, Writer().text("bob").text("EUR").encoded)
    assert books.free(b"bob", "EUR") == before + 5
    assert books.suspense(b"bob", "EUR") == 0
    check_books(books.context.view.tree)


@given(st.lists(st.tuples(st.sampled_from(RegionState), st.integers(-9, 9)), max_size=8))
def test_the_stored_sum_of_pending_amounts_is_that_of_the_records(written: list[tuple[RegionState, int]]) -> None:
    books = Ledgers().region_books("A")
    for place, (state, amount) in enumerate(written):
        legs = (Leg("A", b"alice", "EUR", amount),) if state is RegionState.YES and amount else ()
        record = RegionRecord(SettlementId(7, place % 3), bytes(32), state, legs=legs)
        books.apply(RegionTransition(records=(record,)))
    records = [record for sid in books.sids() if (record := books.record(sid)) is not None]
    waiting = [record for record in records if record.state is RegionState.YES]
    assert books.pending(b"alice", "EUR") == sum(abs(leg.amount) for record in waiting for leg in record.legs)


def test_a_region_reads_no_old_record_for_a_new_open(monkeypatch: pytest.MonkeyPatch) -> None:
    ledgers = Ledgers()
    books = ledgers.region_books("B")
    for place in range(50):
        books.apply(
            RegionTransition(records=(RegionRecord(SettlementId(1, place), bytes(32), RegionState.NO, Verdict.NO),))
        )
    read: list[SettlementId] = []
    decode = ledger_books.decode_region_record

    def counted(sid: SettlementId, data: bytes) -> RegionRecord:
        read.append(sid)
        return decode(sid, data)

    monkeypatch.setattr(ledger_books, "decode_region_record", counted)
    assert prepare(books, SettlementId(7, 0), ledgers.opening(), Moment(1, 0)).records[0].state is RegionState.YES
    assert read == []


def test_boundaries_carry_a_yes_over_epochs() -> None:
    ledgers = Ledgers(epoch_length=8)
    hub, region = ledgers.hub, ledgers.regions["A"]
    hub.block(("escrow_open", ledgers.opening().encoded))
    region.block(*(("escrow_event", proof) for proof in hub.proofs(Opened)))
    while region.state.header.height < 16:
        region.block()
    late = region.blocks[-1]
    leaves = [receipt.encode() for receipt in late.applied.receipts]
    assert late.block.header.epoch == 1
    assert leaves
    boundary = region.blocks[7]
    assert boundary.certificate is not None
    keys = tuple(region.key(name) for name in VALIDATORS)
    step = Boundary(boundary.block.header, boundary.certificate, keys).encode()
    assert hub.block(("escrow_boundary", step)) == [""]
    assert hub.block(("escrow_boundary", step)) == ["proof_refused"]
    entry = ledgers.hub_books().region("A")
    assert entry is not None
    assert entry.epoch == 1
    assert hub.block(("escrow_receipt", region.proofs(Receipt)[0])) == [""]
    record = ledgers.hub_books().record(SettlementId(7, 0))
    assert record is not None
    assert record.votes[0] is not None


def test_a_forked_region_is_frozen_by_its_two_certificates() -> None:
    ledgers = Ledgers()
    hub, region = ledgers.hub, ledgers.regions["A"]
    hub.block(("escrow_open", ledgers.opening().encoded))
    validators = region.state.epoch_configs()[0].validators
    region.block()
    header = region.blocks[0].block.header

    def finalized(of: Header) -> tuple[bytes, bytes]:
        return of.encode(), region.certificate(of, validators, VoteKind.FINALIZE).encode()

    other = finalized(replace(header, time_ms=header.time_ms + 1))
    same = encode_fork(finalized(header), finalized(header))
    fork = encode_fork(finalized(header), other)
    assert hub.block(("escrow_fork", b"\x01A" + same)) == ["proof_refused"]
    assert hub.block(("escrow_fork", b"\x01B" + fork)) == ["escrow_h2"]
    assert hub.block(("escrow_fork", b"\x01A" + fork)) == [""]
    entry = ledgers.hub_books().region("A")
    assert entry is not None
    assert entry.frozen
    record = ledgers.hub_books().record(SettlementId(7, 0))
    assert record is not None
    assert (record.outcome, record.reason) == (Outcome.ABORT, Reason.FROZEN)


def test_a_commit_whose_yes_is_not_known_stands_in_no_block_and_waits() -> None:
    """The region's node lags: others have agreed, the hub has committed, and its queue has the decision already."""
    ledgers, ahead = Ledgers(), Ledgers()
    ahead.hub.block(("escrow_open", ahead.opening().encoded))
    ahead.relay()
    region = ledgers.regions["A"]
    decided = region.transaction("carol", "escrow_event", ahead.hub.proofs(Decided)[0])
    other = region.transaction("bob", "transfer", pb.Transfer(to="alice", asset="EUR", amount=1).SerializeToString())
    before = region.state
    assert codes(region.make(decided, other).applied) == [""], "the transfer alone"
    payload = encode_payload([decided])
    header = region.machine.build(before, (), before.header.time_ms + 1)[0].header
    block = Block(replace(header, payload_digest=payload_digest(payload)), payload)
    with pytest.raises(BlockRefused, match=r"payload: transaction 0: the hub committed 7/0, which is unknown here"):
        region.machine.apply(before, block)
    assert region.block(("escrow_event", ahead.hub.proofs(Opened)[0])) == [""]
    assert region.block(("escrow_event", ahead.hub.proofs(Decided)[0])) == [""]
    record = ledgers.region_books("A").record(SettlementId(7, 0))
    assert record is not None
    assert record.state is RegionState.COMMITTED


@pytest.mark.parametrize(
    "change",
    [{"hub_chain_id": "00"}, {"hub_epoch_length": 0}, {"hub_validators": ["x"]}, {"region": "hub"}, {"region": ""}],
)
def test_a_genesis_without_a_hub_is_refused(change: dict[str, object]) -> None:
    region = Ledgers().regions["A"]
    section = {**dict(region.sections)["escrow_region"], **change}  # type: ignore[dict-item]
    content = {**region.content(), "modules": {"escrow_region": section}}
    with pytest.raises(GenesisError, match="escrow"):
        start(decode_genesis(encode_genesis(content)), region.machine)


HEIGHTS = st.integers(0, 2**63 - 1)
VOTES = st.none() | st.builds(Vote, st.sampled_from(Verdict), HEIGHTS)
REGION_RECORDS = st.builds(
    RegionRecord,
    st.just(FIRST),
    st.binary(min_size=32, max_size=32),
    st.sampled_from(RegionState),
    st.none() | st.sampled_from(Verdict),
    HEIGHTS,
    HEIGHTS,
    HEIGHTS,
    st.sampled_from(Kind),
    st.binary(max_size=32),
    st.just(()) | st.just((leg("A", -10), leg("A", 3, b"other"))),
)


@given(st.tuples(VOTES, VOTES, VOTES), st.tuples(*[st.booleans()] * 3), st.none() | st.sampled_from(Outcome), HEIGHTS)
def test_hub_records_come_back(
    votes: tuple[Vote | None, ...], applied: tuple[bool, ...], outcome: Outcome | None, height: int
) -> None:
    decided = (outcome, Reason.ALL_YES, height) if outcome is not None else (None, None, None)
    record = HubRecord(FIRST, payment(LEGS), votes, applied, *decided)
    assert decode_hub_record(FIRST, encode_hub_record(record)) == record


@given(REGION_RECORDS)
def test_region_records_come_back(record: RegionRecord) -> None:
    assert decode_region_record(FIRST, encode_region_record(record)) == record


@given(REGION_RECORDS, st.data())
def test_stored_records_are_strict(record: RegionRecord, data: st.DataObject) -> None:
    hub = encode_hub_record(HubRecord(FIRST, payment(), (None,) * 3, (False,) * 3))
    for encoded, decode in ((encode_region_record(record), decode_region_record), (hub, decode_hub_record)):
        cut = data.draw(st.integers(0, len(encoded) - 1))
        for wrong in (encoded[:cut], encoded + b"\0"):
            with pytest.raises(DecodeError):
                decode(FIRST, wrong)
