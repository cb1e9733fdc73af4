"""The consortium's fallback on the hub: who is held at its last exchange, and when a region is let go of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.ledger.errors import GenesisError
from coordinator.market.coupling.interval_state import PublicationWindow
from coordinator.settlement.interval.decisions import Agreed, Blamed, Said, Transfer
from coordinator.settlement.interval.hub_books import HubIntervals
from coordinator.settlement.interval.region import RegionIntervals
from coordinator.settlement.interval.region_party import RegionKnowledge, RegionParty
from coordinator.settlement.interval.schedules import decode_schedule
from coordinator.settlement.interval.topics import Step, Topic
from protos.gridaccord.v1 import coupling_pb2 as pb
from tests.coordinator.settlement.interval_chain import COLLATERAL
from tests.coordinator.settlement.interval_support import RULES
from tests.coordinator.settlement.test_interval_hub import HOUR, NAMES, NEXT, ROOT, Net
from tests.coordinator.settlement.test_intervals import net_of

C = 2


def after_an_agreement(fallback: str = "held") -> Net:
    """All have taken part in an hour; A, B and C inject what they say."""
    net = Net(fallback=fallback)
    net.close_gates()
    net.say(Step.COMMIT)
    net.to_decision()
    assert net.agree(-7, 3, 4) == ""
    net.set_schedules(-7, 3, 4)
    net.settle()
    return net


def say_next(net: Net, step: Step, attempt: int) -> None:
    """A and B speak in the next hour."""
    topic = Topic(NEXT, step, attempt, 0 if step is Step.COMMIT else 1)
    for name in NAMES[:C]:
        net.state(name, topic, ROOT)
        assert net.relay(name, topic, ROOT) == ""


def without_c(net: Net) -> None:
    """The next hour has begun anew without C, and waits for what A and B submit."""
    net.close_gates(NEXT)
    say_next(net, Step.COMMIT, 0)
    for _ in range(net.step_blocks):
        net.hub.block()
    say_next(net, Step.COMMIT, 1)
    assert net.waits_for == Topic(NEXT, Step.SUBMIT, 1, 1)


def test_what_regions_agreed_to_is_kept_where_genesis_holds_them_at_it() -> None:
    assert after_an_agreement().books.held() == dict.fromkeys(range(3), ROOT)
    assert after_an_agreement("zero_exchange").books.held() == {}


def test_who_is_held_has_collateral_set_aside_as_if_it_took_part() -> None:
    net = after_an_agreement()
    without_c(net)
    assert sorted(net.books.held()) == [0, 1, C]
    assert net.books.escrow.reserved(net.books.nonce(NEXT), "C", "EUR") == COLLATERAL


def test_who_has_no_free_collateral_is_at_zero_exchange() -> None:
    net = after_an_agreement()
    view = net.hub.state.view
    HubIntervals.of(view).escrow.put_limit("C", "EUR", COLLATERAL - 5)
    net.hub.state = replace(net.hub.state, tree=view.tree)
    without_c(net)
    assert sorted(net.books.held()) == [0, 1]


def test_who_would_owe_more_than_its_collateral_is_let_go_of_in_another_attempt() -> None:
    net = after_an_agreement()
    without_c(net)
    for step, said in ((Step.SUBMIT, Step.RESULT), (Step.INJECT, Step.STATE), (Step.VOTE, None)):
        say_next(net, step, 1)
        if said is not None:
            assert net.decide(Said(b"hub")) == ""
    debits = (COLLATERAL + 1, 0, -COLLATERAL - 1)
    transfers = tuple(Transfer(name, amount) for name, amount in zip(NAMES, debits, strict=True))
    assert net.decide(Agreed(10, 0, transfers, (), b""), count=1) == "no_collateral"
    assert net.decide(Blamed((C,), "would owe too much")) == ""
    assert net.waits_for == Topic(NEXT, Step.COMMIT, 2, 0)
    assert sorted(net.books.held()) == [0, 1]
    say_next(net, Step.COMMIT, 2)
    say_next(net, Step.SUBMIT, 2)
    assert net.decide(Blamed((C,), "again"), count=1) == "malformed", "at zero exchange there is nothing to blame"


def test_an_exchange_with_which_the_hub_comes_to_nothing_is_let_go_of() -> None:
    net = after_an_agreement()
    without_c(net)
    say_next(net, Step.SUBMIT, 1)
    for _ in range(net.step_blocks):
        net.hub.block()
    assert net.waits_for == Topic(NEXT, Step.COMMIT, 2, 0)
    assert sorted(net.books.held()) == [0, 1]


def test_after_an_interval_that_was_not_coupled_nobody_is_held() -> None:
    net = after_an_agreement()
    net.close_gates(NEXT)
    say_next(net, Step.COMMIT, 0)
    for _ in range(200):
        net.hub.block()
    assert net.ends() == [(HOUR, True), (NEXT, False)]
    assert net.books.held() == {}


def test_an_exchange_that_a_region_cannot_deliver_is_none() -> None:
    net, day = net_of(1)
    party = RegionParty(RegionKnowledge(net.cut.regions[1], net.public, RULES, bytes(32), "EUR", PublicationWindow()))
    curves = {name: curve for name, (_, curve) in sorted(day[0][1][1].items())}
    resources = RegionIntervals.of(net.regions[1].state.view).resources()
    alone = party.alone(curves, resources)
    assert alone is not None
    block = net.public.interconnection.boundary_of(1)
    for export_w, is_delivered in ((10**7, True), (10**11, False)):
        fine = [export_w << 10, *(0 for _ in range(block.start + 1, block.stop))]
        held = pb.BoundaryInjection(intervals=[pb.IntervalInjection(injection_fine=fine)]).SerializeToString()
        schedule = party.alone(curves, resources, held)
        assert schedule is not None
        assert (schedule != alone) == is_delivered
        exported = sum(row.power_w for row in decode_schedule(schedule).rows)
        assert abs(exported - (export_w if is_delivered else 0)) <= RULES.tolerance_w * 24
        assert ("zero exchange" in party.fault) != is_delivered


def test_another_fallback_is_refused_by_name() -> None:
    with pytest.raises(GenesisError, match="zero_exchange or held, not freeze"):
        Net(fallback="freeze")
