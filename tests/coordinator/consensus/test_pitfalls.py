"""The 16 pitfalls found in the trackers of other implementations, each as a regression test."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.consensus.certificate import decode_certificate
from coordinator.consensus.effects import Broadcast, Certify, Persist, Send
from coordinator.consensus.errors import DecodeError
from coordinator.consensus.inputs import PayloadStored, Received
from coordinator.consensus.journal import VoteRecord
from coordinator.consensus.messages import Vote
from coordinator.consensus.signing import VoteKind
from coordinator.consensus.state import STORED_PAYLOADS
from tests.coordinator.consensus.script import Script
from tests.coordinator.consensus.support import SECOND, Network, Node, Oracle

GOOD_PROPOSAL = "block a g\npropose B v1 a/0\npayload B a\nstored a\n"


def script(setup: str) -> Script:
    """A script after its setup."""
    prepared = Script()
    prepared.run(setup)
    return prepared


def test_p1_nullify_then_finalize_neither_live_nor_on_restart_nor_on_standstill() -> None:
    """Ava Simplex #280, #290, #603: the live path was guarded, the re-broadcast path was not."""
    s = script("start\n" + GOOD_PROPOSAL + "fire advance v1\n")
    assert "finalize" not in s.run("valid a\ncert C notarize v1 a/0").replace("certificate", "")
    assert "vote finalize" not in s.run("restart\nvalid a\nat 10\nfire standstill")


def test_p2_a_proposal_that_skips_a_notarized_view_gets_no_vote() -> None:
    """Ava Simplex #281: without the nullification of the skipped view it forks."""
    s = script("start\n" + GOOD_PROPOSAL + "valid a\nvote C notarize v1 a/0\ncert C nullify v2\nblock b g\n")
    output = s.run("propose D v3 b/0\npayload D b\nstored b\nvalid b\nat 1\nfire repair")
    assert "vote notarize" not in output
    assert "send D want v1" in output


def test_p3_a_certified_split_is_repaired_by_fetching_from_the_proposer_and_then_from_anybody() -> None:
    """commonware #4332, #4386, #4625: some hold the notarization, others the nullification of the same view."""
    s = script("start\nblock a g\nblock b a\ncert C nullify v1\n")
    assert "send C want v1" in s.run("propose C v2 b/1")
    assert "want v1" in s.run("at 1\nfire repair").replace("send C", "")
    answered = s.run("cert D notarize v1 a/0\nblocks D a\nat 3\nfire repair\npayload D a\nstored a\nvalid a")
    assert "vote finalize v1 a/0" in answered
    assert "broadcast vote notarize v2 b/1" in s.run("at 4\npayload C b\nstored b\nvalid b")


def test_p3_the_split_heals_in_a_network() -> None:
    network = Network(0, 4, fixed_delay_ns=SECOND // 2)
    split = {2, 3}
    network.filter = lambda _, to, m: (
        not (network.now_ns < 4 * SECOND and to in split and isinstance(m, Vote) and m.kind is VoteKind.NOTARIZE)
    )
    network.start().run(12)
    assert min(network.oracle.heights.values()) >= 3


def test_p4_a_node_that_voted_nullify_certifies_a_later_notarization() -> None:
    """commonware #2695, #2697: it refused, and was stuck."""
    s = script("start\nblock a g\nfire advance v1\npropose B v1 a/0\npayload B a\nstored a\nvote BCD notarize v1 a/0\n")
    s.run("valid a")
    assert s.run("status") == "status epoch 0 view 2 final 0 delivered g leader C votes"


def test_p5_own_nullify_votes_count_again_after_a_restart_of_all() -> None:
    """commonware #4275: with n = 4 every honest vote is needed, and a lost own one stalls for ever."""
    network = Network(0, 4, fixed_delay_ns=SECOND // 2)
    silent = 1
    network.filter = lambda source, _, m: (
        source != silent and not (network.now_ns < 3 * SECOND and isinstance(m, Vote) and m.kind is VoteKind.NULLIFY)
    )
    network.start().run(2.5)
    for node in network.nodes:
        network.crash(node, 0.1)
    network.run(20)
    assert min(network.oracle.heights[index] for index in (0, 2, 3)) >= 3


def test_p6_everything_written_is_durable_at_the_end_of_each_step_even_if_nothing_is_sent() -> None:
    """commonware #4222: the certification result was appended, and not synced because nothing was broadcast."""
    s = script("start\n" + GOOD_PROPOSAL + "fire advance v1\n")
    assert s.run("valid a") == "persist a valid"
    s.check.before(Persist(s.records[-1]))
    with pytest.raises(AssertionError, match="end of each step"):
        s.check.end_of_step()


def test_p7_one_nullify_vote_a_view_whatever_triggers_it() -> None:
    """Ava Simplex #486: a second empty vote record from a second trigger."""
    s = script("start\n")
    output = s.run("fire leader v1\nfire advance v1\nvote B nullify v1\nunable v1\nrestart\nfire leader v1")
    assert output.count("persist vote nullify v1") == 1


def test_p8_the_application_is_asked_about_blocks_that_others_notarized_parents_first() -> None:
    """tempo #1411, #408: a skipped block could not be executed later, nor its child."""
    network = Network(0, 4, fixed_delay_ns=SECOND // 4)
    asked: list[int] = []
    network.observers.append(
        lambda n, e: asked.append(e.header.height) if n.index == 3 and isinstance(e, Certify) else None
    )
    network.filter = lambda _, to, m: not (to == 3 and network.now_ns < 3 * SECOND and isinstance(m, Vote))
    network.start().run(8)
    assert asked[:2] == [1, 2]
    assert network.oracle.heights[3] >= network.oracle.heights[0] - 1


def test_p9_evidence_that_is_missing_is_waited_for_and_a_wrong_structure_is_not() -> None:
    """commonware #3042: a vote against "not yet" halts the chain."""
    waiting = script("start\nblock a g\nblock b a\ncert C nullify v1\n")
    assert "nullify" not in waiting.run("propose C v2 b/1\nfire leader v2")
    wrong = script("start\nblock a g height=7\n")
    assert "broadcast vote nullify v1" in wrong.run("propose B v1 a/0")


def test_p9_a_verdict_is_final() -> None:
    s = script("start\n" + GOOD_PROPOSAL + "invalid a\n")
    assert "SafetyViolation" in s.run("valid a")


def test_p10_the_proposal_carries_the_certificates_that_late_nodes_miss() -> None:
    """commonware #1078: a late proposal of the last leader splits the votes just before the next one begins."""
    leader = script(
        "node C\nstart\nblock a g\npropose B v1 a/0\npayload B a\nstored a\nvalid a\nvote D notarize v1 a/0\n"
    )
    assert "+certificate notarize v1 a/0" in leader.run("block b a\nbuilt v2 b\nstored b")
    late = script("start\n" + GOOD_PROPOSAL + "valid a\nblock b a\n")
    output = late.run("propose C v2 b/1 by=notarize:v1:a/0\npayload C b\nstored b\nvalid b")
    assert "broadcast vote notarize v2 b/1" in output


def test_p11_a_notarization_promises_nothing_and_only_final_blocks_are_delivered() -> None:
    """commonware "Optimistic Finality": a leader can revoke its notarized block."""
    s = script("start\n" + GOOD_PROPOSAL + "valid a\n")
    output = s.run("vote B nullify v1\nvote BCD notarize v1 a/0\ncert C nullify v1")
    assert "broadcast vote nullify v1" in output
    assert "deliver" not in output


def test_p12_a_lagging_node_that_repeats_itself_is_answered_by_those_who_are_past_it() -> None:
    """Ava Simplex #306: peers that had finalized dropped its votes."""
    s = script("start\nblock a g\npass v1 a/0\nat 5\n")
    assert s.run("vote B finalize v1 a/0") == "send B certificate finalize v1 a/0 of ACD"


def test_p13_the_leader_does_not_depend_on_the_certificate() -> None:
    for signers in ("ABC", "BCD", "ABD"):
        s = script("start\nblock a g\n")
        s.run(f"cert D nullify v1 signers={signers}")
        assert "view 2" in s.run("status")
        assert "leader C" in s.run("status")


def test_p13_votes_far_away_take_no_memory() -> None:
    s = script("start\n")
    for view in range(3, 300):
        s.run(f"vote B nullify v{view}")
    assert s.core is not None
    assert len(s.core._state.rounds) <= 3
    assert len(s.core._state.requests) <= 2


def test_p13_messages_of_another_epoch_are_not_counted() -> None:
    s = script("start\nepoch 2\n")
    s.run("vote BCD nullify v1")
    assert "view 1 final 0" in s.run("status")


def test_p14_an_application_that_never_answers_costs_its_view_and_nothing_else() -> None:
    """malachite #1201: a host that lost an answer stopped without a word."""
    s = script("start\n" + GOOD_PROPOSAL)
    assert "broadcast vote nullify v1" in s.run("fire advance v1")
    assert "status epoch 0 view 2" in s.run("vote CD nullify v1\nstatus")


def test_p15_nothing_is_processed_before_the_journal_is_replayed() -> None:
    """malachite #850: votes were processed before the replay was finished."""
    s = script("start\nfire advance v1\nrecover\n")
    assert "LocalMisuse" in s.run("vote B nullify v1")
    assert "broadcast vote nullify v1" in s.run("again")


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("a bit beyond n", lambda data: data[:-256] and data[:92] + bytes([data[92] | 0x10]) + data[93:]),
        ("one bit more than signatures", lambda data: data[:92] + b"\x0f" + data[93:]),
        ("one bit less than signatures", lambda data: data[:92] + b"\x03" + data[93:]),
        ("one signature less", lambda data: data[:-64]),
        ("one signature more", lambda data: data + data[-64:]),
        ("a byte more", lambda data: data + b"\x00"),
        ("another n", lambda data: data[:90] + (40).to_bytes(2, "big") + data[92:]),
        ("n of zero", lambda data: data[:90] + bytes(2) + data[92:]),
        ("another kind", lambda data: data[:1] + b"\x04" + data[2:]),
        ("another version", lambda data: b"\x02" + data[1:]),
    ],
)
def test_p16_the_bitmap_is_parsed_strictly(what: str, change: object) -> None:
    """CometBFT ASA-2025-001, ASA-2025-003: bits against elements."""
    assert callable(change)
    s = script("start\nblock a g\n")
    data = s.certificate("notarize", "v1", "a/0", "ABC").encode()
    assert data[92] == 0b0111, "the offset of the bitmap"
    assert decode_certificate(data).signers == (0, 1, 2)
    with pytest.raises(DecodeError):
        decode_certificate(change(data))


def test_every_answer_is_bounded_per_peer_and_delay() -> None:
    """R10: a peer that asks without end gets an end."""
    s = script("start\ncert C nullify v1\n")
    assert s.run("\n".join(["want B v1"] * 500)).count("send B") == 64
    assert s.run("want C v1").count("send C") == 1
    assert s.run("at 1\nwant B v1").count("send B") == 1


def test_p15_a_replay_keeps_no_vote_of_a_view_that_is_final_already() -> None:
    """Else a node whose journal was not compacted holds every view since, until the next finality."""
    s = script("start\n" + GOOD_PROPOSAL + "valid a\ncert C notarize v1 a/0\n")
    s.run("cert C finalize v1 a/0")
    assert any(isinstance(record, VoteRecord) for record in s.records)
    s.run("restart")
    assert s.core is not None
    assert s.core.status.final_view == 1
    assert [record for record in s.core.checkpoint() if isinstance(record, VoteRecord) and record.view == 1] == []


def test_the_host_check_refuses_to_send_before_the_sync() -> None:
    s = script("start\nfire advance v1\n")
    s.check.before(Persist(s.records[-1]))
    with pytest.raises(AssertionError, match="before the journal was durable"):
        s.check.before(Send(s.key("B"), s.certificate("nullify", "v1", None)))


def test_every_vote_is_written_before_it_is_sent() -> None:
    network = Network(3, 4)
    written: list[tuple[int, VoteKind, int]] = []

    def observe(node: Node, effect: object) -> None:
        if isinstance(effect, Persist) and hasattr(effect.record, "kind"):
            written.append((node.index, effect.record.kind, effect.record.view))
        if isinstance(effect, Broadcast) and isinstance(effect.message, Vote):
            assert (node.index, effect.message.kind, effect.message.view) in written

    network.observers.append(observe)
    network.start().run(20)
    assert written


def test_the_oracle_itself_finds_a_double_vote() -> None:
    s = script("start\nblock a g\nblock b g\n")
    oracle = Oracle(s.chain)
    vote = Vote(VoteKind.NOTARIZE, 0, 1, 0, s.blocks["a"].digest, bytes(64))
    oracle.sent(0, vote)
    with pytest.raises(AssertionError, match="voted NOTARIZE twice"):
        oracle.sent(0, replace(vote, digest=s.blocks["b"].digest))


def test_a_message_from_nobody_changes_nothing() -> None:
    s = script("start\n")
    assert s.core is not None
    vote = Vote(VoteKind.NULLIFY, 0, 1, 0, bytes(32), bytes(64))
    effects = s.core.step(0, Received(b"\x09" * 32, vote))
    assert [type(effect).__name__ for effect in effects] == ["PeerFault"]


def test_a_payload_is_in_use_until_its_block_is_delivered_however_many_come_after_it() -> None:
    """A host that forgot the newest block's payload while it caught up stopped when that block became final."""
    s = script("start\n" + GOOD_PROPOSAL)
    assert s.core is not None
    digest = s.blocks["a"].payload_digest
    for number in range(2 * STORED_PAYLOADS):
        s.core.step(0, PayloadStored(number.to_bytes(32, "big")))
    assert digest in s.core.payloads_in_use
    assert len(s.core.payloads_in_use) <= STORED_PAYLOADS + 1
