"""Published vectors that concern consensus, beside the repository; skipped where they are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordinator.consensus.messages import Message
from coordinator.consensus.signing import Ed25519Scheme
from coordinator.consensus.validators import ValidatorSet
from tests.coordinator.consensus.support import SECOND, Network

VECTORS = Path(__file__).parents[3].parent / "shared" / "vectors"
WYCHEPROOF = VECTORS / "wycheproof" / "ed25519_test.json"
SPECCHECK = VECTORS / "ed25519-speccheck" / "cases.json"
TWINS = VECTORS / "twins" / "fasthotstuff_bug_scenario.json"

pytestmark = pytest.mark.skipif(not VECTORS.is_dir(), reason="the shared test vectors are not beside the repository")


def test_wycheproof_ed25519() -> None:
    scheme, checked = Ed25519Scheme(), 0
    for group in json.loads(WYCHEPROOF.read_text(encoding="utf-8"))["testGroups"]:
        key = bytes.fromhex(group["publicKey"]["pk"])
        for case in group["tests"]:
            verdict = scheme.verify(key, bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
            assert verdict == (case["result"] == "valid"), f"case {case['tcId']}: {case['comment']}"
            checked += 1
    assert checked == 151


def test_the_pinned_row_of_the_speccheck() -> None:
    """Another row would accept a certificate that this one refuses, or the other way round: a consensus split."""
    scheme = Ed25519Scheme()
    cases = json.loads(SPECCHECK.read_text(encoding="utf-8"))
    row = "".join(
        "V" if scheme.verify(*(bytes.fromhex(case[k]) for k in ("pub_key", "message", "signature"))) else "X"
        for case in cases
    )
    assert row == "XXXVXXXXXXXX"


def test_the_twins_schedule_that_broke_fast_hotstuff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaders and partitions a view as in the scenario with which relab found the bug: agreement, then progress."""
    document = json.loads(TWINS.read_text(encoding="utf-8"))
    steps = document["scenarios"][0]
    leaders = [step["leader"] - 1 for step in steps]
    groups = [[[member["ReplicaID"] - 1 for member in group] for group in step["partitions"]] for step in steps]
    assert (document["num_nodes"], len(steps)) == (4, 11)

    def leader(validators: ValidatorSet, view: int) -> int:
        return leaders[view - 1] if 1 <= view <= len(leaders) else view % validators.size

    def passes(source: int, to: int, message: Message) -> bool:
        view = max(node.core.status.view for node in network.nodes)
        if not 1 <= view <= len(groups):
            return True
        return any(source in group and to in group for group in groups[view - 1])

    monkeypatch.setattr(ValidatorSet, "leader", leader)
    network = Network(0, 4, fixed_delay_ns=SECOND // 4)
    network.filter = passes
    network.start().run(120)
    for node in network.nodes:
        assert node.core.status.view > len(steps)
        assert node.core.status.delivered.height > 5
