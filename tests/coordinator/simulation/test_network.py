"""The network's promises: what is healed arrives in time, what is frozen hears nothing; and the protocol's delays."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from coordinator.simulation.network import Network
from coordinator.simulation.options import ALL_FAULTS, DELTA_NS, Options, draw
from coordinator.simulation.simulation import Simulation, options_of
from tests.coordinator.simulation.directed import make, until


def test_a_healed_network_delivers_once_and_within_delta() -> None:
    network = Network(Options(4, loss=0.9, duplication=0.9, partition=1.0, clog=1.0), 4, random.Random(1))
    for step in range(50):
        network.disturb(step * DELTA_NS)
    network.heal([3])
    for _ in range(200):
        (delay_ns,) = network.delays_ns(0, 1, 50 * DELTA_NS)
        assert 0 < delay_ns <= DELTA_NS
    assert network.delays_ns(0, 3, 0) == network.delays_ns(3, 0, 0) == ()


def test_before_that_messages_are_lost_doubled_late_and_out_of_order() -> None:
    network = Network(Options(4, loss=0.3, duplication=0.3, slow_ns=DELTA_NS), 4, random.Random(2))
    copies = [network.delays_ns(0, 1, 0) for _ in range(500)]
    assert {len(one) for one in copies} == {0, 1, 2}
    assert max(one[0] for one in copies if one) > 10 * DELTA_NS


def test_a_partition_may_cut_one_direction_only() -> None:
    one_way = 0
    for seed in range(40):
        network = Network(Options(4, partition=1.0, asymmetric=True), 4, random.Random(seed))
        network.disturb(0)
        for a, b in ((0, 1), (0, 2), (0, 3)):
            one_way += bool(network.delays_ns(a, b, 0)) != bool(network.delays_ns(b, a, 0))
    assert one_way > 0


def test_every_option_of_a_seed_is_drawn_and_none_in_all() -> None:
    drawn = [draw(random.Random(seed), ALL_FAULTS) for seed in range(300)]
    disk = ("torn", "ledger_ahead", "lost_sync", "bit_flip")
    for name in ("loss", "duplication", "partition", "clog", "crash", "crash_all", *disk):
        values = {getattr(options, name) for options in drawn}
        assert 0.0 in values, name
        assert len(values) > 1, name
    styles = {style for options in drawn for node in options.byzantine for style in node}
    assert len(styles) == 12
    assert all(len(options.byzantine) <= options.max_faulty for options in drawn)


def test_exactly_f_nodes_are_frozen_and_liars_first() -> None:
    seed = next(s for s in range(100) if (o := options_of(s, ALL_FAULTS, 7)).byzantine and o.core_only)
    simulation = Simulation(seed, options_of(seed, ALL_FAULTS, 7))
    chain = simulation.chain
    chain.start()
    chain.heal()
    frozen = [node for node in chain.nodes if node.frozen]
    assert len(frozen) == chain.options.max_faulty == 2
    assert all(node.frozen for node in chain.nodes if not node.is_honest)


@pytest.mark.parametrize("size", [4, 7, 16, 40, 100])
def test_block_time_is_two_delays_and_finality_three(size: int) -> None:
    delay_ns = DELTA_NS // 5
    chain = make(Options(size, epoch_length=1000), delay_ns)
    proposed: list[int] = []
    final: list[int] = []
    chain.operations = lambda node, parent: proposed.append(chain.world.now_ns) or ()  # type: ignore[func-returns-value]
    chain.on_delivered = lambda node, state: (
        final.append(chain.world.now_ns) if state.header.height > len(final) else None
    )
    chain.start()
    heights = 6 if size <= 16 else 3
    until(chain, heights, 100)
    slack_ns = delay_ns // 10
    for height in range(1, heights):
        assert abs(final[height] - final[height - 1] - 2 * delay_ns) <= slack_ns
        assert abs(final[height] - proposed[height] - 3 * delay_ns) <= slack_ns


def test_options_say_what_differs() -> None:
    assert Options(4).line() == "validators=4"
    assert replace(Options(7), loss=0.1).line() == "validators=7 loss=0.1"
