"""Whole networks: faults drawn from seeds, latency, determinism, crashes everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.consensus.certificate import Certificate
from coordinator.consensus.effects import Broadcast, Deliver, Effect
from coordinator.consensus.messages import Message, Proposal
from tests.coordinator.consensus.support import SECOND, Faults, Network, Node, run_swarm, swarm

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("seed", range(24))
def test_agreement_under_faults_then_progress(seed: int) -> None:
    run_swarm(seed)


@pytest.mark.parametrize("seed", [26, 91, 118, 1191, 271])
def test_seeds_that_found_a_fault_once(seed: int) -> None:
    """A restarted node in its final view (26, 91, 118, 271); honest nodes kept apart by votes to a few (1191)."""
    run_swarm(seed)


@pytest.mark.parametrize("size", [4, 7, 16, 40, 100])
def test_finality_takes_three_delays_and_a_block_two(size: int) -> None:
    delay_ns = SECOND // 2
    network = Network(0, size, fixed_delay_ns=delay_ns)
    proposed: dict[int, int] = {}
    final: dict[int, dict[int, int]] = {}

    def observe(node: Node, effect: Effect) -> None:
        if isinstance(effect, Broadcast) and isinstance(effect.message, Proposal):
            proposed[effect.message.header.height] = network.now_ns
        if isinstance(effect, Deliver):
            final.setdefault(effect.header.height, {})[node.index] = network.now_ns

    network.observers.append(observe)
    views = 3 if size == 100 else 6
    network.start().run(views + 0.6)
    for height in range(1, views):
        assert proposed[height] == (height - 1) * 2 * delay_ns
        assert len(final[height]) == size
        assert max(final[height].values()) == proposed[height] + 3 * delay_ns


@pytest.mark.parametrize("size", [4, 7])
def test_as_many_silent_as_tolerated(size: int) -> None:
    faults = Faults(liars=(size - 1) // 3, style="silent", stable_at=0)
    network = Network(5, size, faults).start()
    network.run(120)
    assert all(node.core.status.delivered.height > 20 for node in network.honest)


def test_one_more_silent_than_tolerated_stops_and_forks_nothing() -> None:
    network = Network(5, 4, Faults(liars=2, style="silent", stable_at=0)).start()
    network.run(100)
    assert network.oracle.heights == {}


def test_epochs_follow_one_another_with_rotated_validators() -> None:
    network = Network(1, 4, epoch_length=3, fixed_delay_ns=SECOND // 4).start()
    network.run(30)
    for node in network.nodes:
        assert node.core.status.epoch >= 8
        for header in node.disk.headers[1:]:
            assert header.epoch == (header.height - 1) // 3
            if header.height % 3 == 0:
                assert header.height in node.disk.finalizations, "a boundary is finalized directly"


def test_memory_stays_bounded_over_many_views() -> None:
    network = Network(2, 4, fixed_delay_ns=SECOND // 10).start()
    network.run(150)
    state = network.nodes[0].core._state
    assert state.delivered.height > 600
    assert len(state.rounds) <= 4
    assert len(state.blocks) <= 4
    assert len(state.requests) <= 512
    assert len(state.to_deliver) == 0
    assert len(state.direct) <= 2


def test_a_node_far_behind_catches_up_by_ranges() -> None:
    network = Network(3, 4, fixed_delay_ns=SECOND // 10)
    late = network.nodes[3]
    late.up = False
    for node in network.nodes[:3]:
        node.start()
    network.run(250)
    height = network.nodes[0].core.status.delivered.height
    assert height > 400
    late.up = True
    late.start()
    network.run(280)
    assert late.core.status.delivered.height > height


def test_certificates_are_sent_on_demand_only() -> None:
    network = Network(4, 7, fixed_delay_ns=SECOND // 4)
    sent: list[Message] = []
    network.observers.append(lambda _, e: sent.append(e.message) if isinstance(e, Broadcast) else None)
    network.start().run(20)
    assert not [message for message in sent if isinstance(message, Certificate)]


def test_a_lost_journal_rejoins_and_never_votes_twice() -> None:
    """The oracle checks votes across restarts; the node votes again after a finality above the others' views."""
    network = Network(7, 4, fixed_delay_ns=SECOND // 4).start()
    for round_number in range(1, 4):
        network.run(round_number * 20)
        node = network.nodes[round_number]
        node.up = False
        node.incarnation += 1
        node.disk.records.clear()
        network.restart(node, rejoin_nonce=round_number)
        assert not node.core.status.may_vote
    network.run(100)
    assert all(node.core.status.may_vote for node in network.nodes)
    assert min(network.oracle.heights.values()) > 150


def test_a_lost_disk_catches_up_from_genesis() -> None:
    network = Network(8, 4, fixed_delay_ns=SECOND // 4).start()
    network.run(30)
    node = network.nodes[2]
    node.up = False
    node.incarnation += 1
    node.disk.records.clear()
    del node.disk.headers[1:]
    node.disk.finalizations.clear()
    node.disk.payloads.clear()
    network.restart(node, rejoin_nonce=9)
    network.run(70)
    assert node.core.status.may_vote
    assert node.core.status.delivered.height > 90


def crash_points(node: int) -> int:
    """Effects of one node in a run of three views."""
    network = Network(0, 4, fixed_delay_ns=SECOND // 4)
    count = [0]
    network.observers.append(lambda n, _: count.__setitem__(0, count[0] + (n.index == node)))
    network.start().run(2)
    return count[0]


@pytest.mark.parametrize("victim", range(4))
def test_a_crash_before_any_effect_of_three_views(victim: int) -> None:
    """Every node, before each of its effects, with and without what was not synced: agreement, and all go on."""
    for point in range(crash_points(victim)):
        network = Network(point, 4, fixed_delay_ns=SECOND // 4)
        left = [point]

        def cut(node: Node, effects: int, left: list[int] = left) -> int | None:
            if node.index != victim or left[0] < 0:
                return None
            left[0] -= effects
            return left[0] + effects if left[0] < 0 else None

        network.crash_cut = cut  # type: ignore[method-assign]
        network.start().run(32)
        heights = [node.core.status.delivered.height for node in network.nodes]
        assert min(heights) > 8, f"point {point}: {heights}"


FINGERPRINT = """
from tests.coordinator.consensus.support import swarm
for seed in (1, 5, 7, 10):
    network = swarm(seed).start()
    network.run(60)
    print(seed, network.events, network.digest.hexdigest())
"""


def fingerprint(hash_seed: int) -> str:
    """Hashes of all effects of some seeds, in a process of its own."""
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", FINGERPRINT]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_same_seed_does_the_same_under_another_hash_seed() -> None:
    first, second = fingerprint(0), fingerprint(12345)
    assert first == second
    assert first.count("\n") == 4


def test_a_seed_says_what_it_does() -> None:
    network = swarm(3)
    assert network.seed == 3
    assert network.faults.stable_at == 250
