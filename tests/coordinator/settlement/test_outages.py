"""What regions say of breakers at tie-lines: when it counts, whose word it is, and what topology follows."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.serve import encode_content
from coordinator.market.coupling.public import topology_without
from coordinator.settlement.interval.confirmations import digest_of, event_payload
from coordinator.settlement.interval.decisions import Committed
from coordinator.settlement.interval.hub import MESSAGE, encode_message
from coordinator.settlement.interval.outages import Breaker, Outage, decode_breaker, decode_outage
from coordinator.settlement.interval.region import OUTAGE, RegionIntervals
from coordinator.settlement.interval.topics import Interval, Step, Topic
from tests.coordinator.settlement.interval_chain import event_proof
from tests.coordinator.settlement.test_interval_hub import HOUR, NEXT, TOPOLOGY, Net

TIES = {"tie-1": ("A", "B"), "tie-2": ("B", "C")}


def net_with_ties() -> Net:
    return Net(ties=TIES, meters_ties=False)


def say(net: Net, region: str, outage: Outage, signer: str = "bob") -> str:
    """On the region's chain; what became of it."""
    return net.regions[region].block((OUTAGE, outage.encode()), signer=signer)[0]


def prove(net: Net, region: str, number: int) -> str:
    """A region's statement comes to the hub; what became of it."""
    found = RegionIntervals.of(net.regions[region].state.view).outages.after(number - 1)
    assert found is not None
    assert found[0] == number
    text = found[1].encode()
    proof = event_proof(net.regions[region], event_payload(found[1].topic(3600, number), digest_of(text)))
    return net.hub.block((MESSAGE, encode_message(proof, text)))[0]


def tell(net: Net, region: str, number: int, tie: str, interval: Interval, *, out: bool) -> None:
    assert say(net, region, Outage(tie, interval.start_s, out)) == ""
    assert prove(net, region, number) == ""


def commit(net: Net, region: str, interval: Interval, attempt: int, ties_out: tuple[str, ...]) -> str:
    topic = Topic(interval, Step.COMMIT, attempt)
    text = Committed(True, topology_without(TOPOLOGY, ties_out), b"root").encode()
    net.state(region, topic, text)
    return net.relay(region, topic, text)


def test_each_region_opens_its_ties_alone_and_both_close_them() -> None:
    net = net_with_ties()
    tell(net, "A", 1, "tie-1", HOUR, out=True)
    assert net.books.ties_out(HOUR) == ("tie-1",)
    tell(net, "B", 1, "tie-1", HOUR, out=True)
    tell(net, "A", 2, "tie-1", HOUR, out=False)
    assert net.books.ties_out(HOUR) == ("tie-1",), "the other end is open"
    tell(net, "B", 2, "tie-1", NEXT, out=False)
    assert net.books.ties_out(HOUR) == ("tie-1",)
    assert net.books.ties_out(NEXT) == ()
    assert net.books.topology(NEXT) == TOPOLOGY != net.books.topology(HOUR)


def test_nobody_opens_what_does_not_end_in_their_region() -> None:
    net = net_with_ties()
    assert say(net, "A", Outage("tie-2", HOUR.start_s, True)) == "not_owner"
    assert say(net, "A", Outage("tie-1", HOUR.start_s, True), signer="alice") == "not_owner"
    assert say(net, "A", Outage("tie-1", HOUR.start_s + 60, True)) == "no_such_interval"
    assert say(net, "A", Outage("tie-1", 3600 * 10**9, True)) == "too_early"
    books = RegionIntervals.of(net.regions["A"].state.view)
    assert books.outages.after(0) is None


def test_a_byzantine_region_opens_no_ties_of_others() -> None:
    net = net_with_ties()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coordinator.settlement.interval.region_ties.RegionTies.owners", lambda _: {"tie-2": "bob"})
        assert say(net, "A", Outage("tie-2", HOUR.start_s, True)) == ""
    assert prove(net, "A", 1) == "not_its_tie"
    assert net.books.ties_out(HOUR) == ()


def test_what_was_said_once_cannot_be_said_again_by_others() -> None:
    net = net_with_ties()
    tell(net, "A", 1, "tie-1", HOUR, out=True)
    tell(net, "A", 2, "tie-1", HOUR, out=False)
    assert prove(net, "A", 1) == "again"
    assert net.books.ties_out(HOUR) == ()


def test_an_outage_after_the_gate_is_closed_waits_for_the_next_interval() -> None:
    net = net_with_ties()
    net.close_gates()
    assert say(net, "A", Outage("tie-1", HOUR.start_s, True)) == ""
    assert RegionIntervals.of(net.regions["A"].state.view).outages.after(0) == (1, Outage("tie-1", NEXT.start_s, True))
    assert net.say(Step.COMMIT) == ["", "", ""]
    assert prove(net, "A", 1) == ""
    assert net.books.ties_out(HOUR) == ()
    assert net.books.ties_out(NEXT) == ("tie-1",)


def test_an_outage_that_comes_while_the_hub_couples_waits_for_the_next_interval() -> None:
    net = net_with_ties()
    assert say(net, "A", Outage("tie-1", HOUR.start_s, True)) == ""
    net.close_gates()
    assert net.say(Step.COMMIT) == ["", "", ""]
    assert prove(net, "A", 1) == ""
    assert net.books.ties_out(HOUR) == ()
    assert net.books.ties_out(NEXT) == ("tie-1",)


@pytest.mark.parametrize("order", ["CA", "ABC"])
def test_a_commitment_from_before_an_outage_makes_all_begin_anew_and_nobody_is_left_out(order: str) -> None:
    """Whether it is among those that begin the interval, or comes when that is under way."""
    net = net_with_ties()
    assert say(net, "A", Outage("tie-1", HOUR.start_s, True)) == ""
    net.close_gates()
    if order[0] == "C":
        assert commit(net, "C", HOUR, 0, ()) == ""
    assert prove(net, "A", 1) == ""
    for name in order.lstrip("C"):
        assert commit(net, name, HOUR, 0, () if name == "C" else ("tie-1",)) == ""
    running = net.books.running
    assert running is not None
    assert (running.topic, running.excluded) == (Topic(HOUR, Step.COMMIT, 1), ())
    for name in "AB":
        assert commit(net, name, HOUR, 1, ("tie-1",)) == ""
    assert commit(net, "C", HOUR, 1, ()) == "other_topology"
    for _ in range(net.step_blocks):
        net.hub.block()
    running = net.books.running
    assert running is not None
    assert (running.waiting_for, running.excluded) == (Step.SUBMIT, (2,)), "once is bad luck, twice is not"


def test_a_session_ends_where_the_topology_changes() -> None:
    net = net_with_ties()
    tell(net, "A", 1, "tie-1", NEXT, out=True)
    net.close_gates()
    assert net.say(Step.COMMIT) == ["", "", ""]
    assert net.books.session is not None
    assert net.books.session.topology == TOPOLOGY
    net.to_decision()
    assert net.agree(0, 0, 0) == ""
    net.set_schedules(0, 0, 0)
    assert net.books.is_out_of_session(NEXT)


CHANGES = st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=30)


@given(changes=CHANGES, now=st.lists(st.integers(0, 20), max_size=30))
def test_a_breaker_is_as_was_last_said_of_an_interval(changes: list[tuple[int, bool]], now: list[int]) -> None:
    """Against a plain list of hours, in which what is said overwrites everything from its hour on."""
    plain, breaker, known = [False] * 22, Breaker(), 0
    for (hour, is_open), at in zip(changes, now, strict=False):
        known = max(known, at)
        hour = max(hour, known + 1)
        plain[hour:] = [is_open] * (22 - hour)
        breaker = breaker.changed(hour, is_open, known)
        assert [breaker.is_open(at) for at in range(known, 22)] == plain[known:]
        assert decode_breaker(breaker.encode()) == breaker
        assert len(breaker.changes) <= 1 + 22 - known


def test_the_topology_depends_on_which_ties_are_out_alone() -> None:
    one, two = topology_without(TOPOLOGY, ["tie-1"]), topology_without(TOPOLOGY, ["tie-1", "tie-2"])
    assert len({TOPOLOGY, one, two, topology_without(one, ["tie-2"])}) == 4
    assert topology_without(TOPOLOGY, ["tie-2", "tie-1"]) == two
    assert topology_without(TOPOLOGY, []) == TOPOLOGY


def test_what_the_command_line_takes() -> None:
    text = json.dumps({"tie": "tie-119", "from_s": 7200, "out": True})
    assert decode_outage(encode_content("tie_outage", text)) == Outage("tie-119", 7200, True)
