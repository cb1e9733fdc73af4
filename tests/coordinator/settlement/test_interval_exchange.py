"""Metered exchange over tie-lines, settled between regions on real ledgers: to the micro-unit, whoever is silent."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.ledger.errors import GenesisError, Rejected
from coordinator.ledger.invariants import check_books
from coordinator.ledger.view import reading_context
from coordinator.settlement.escrow.netting import MeterRule, MeterRules
from coordinator.settlement.escrow.types import HUB
from coordinator.settlement.interval.confirmations import CONFIRM_REGION, digest_of, event_payload, proposal
from coordinator.settlement.interval.decisions import Agreed, TieSchedule, Transfer
from coordinator.settlement.interval.exchange import Exchange, TieLine, TieRules, amounts_due, most_due
from coordinator.settlement.interval.hub import MESSAGE, encode_message
from coordinator.settlement.interval.hub_books import HubIntervals
from coordinator.settlement.interval.hub_exchange import Exchanges, hear
from coordinator.settlement.interval.schedules import Metered, encode_metered
from coordinator.settlement.interval.topics import Interval, Step, Topic, encode_amount
from tests.coordinator.ledger.support import MILLION, VALIDATORS
from tests.coordinator.settlement.interval_chain import COLLATERAL, event_proof
from tests.coordinator.settlement.test_interval_hub import HOUR, NAMES, NEXT, PRICE, TIE_COLLATERAL, TIE_LIMIT_W, Net

TIES = {"tie-1": ("A", "B"), "tie-2": ("B", "C"), "tie-3": ("A", "C")}
MW = MILLION
"""An hour's energy in Wh of a MW, and an hour's schedule of that in W."""
SCHEDULE = (TieSchedule(100 * MW, PRICE), TieSchedule(-20 * MW, PRICE), TieSchedule(0, PRICE))
COUPLED = (-7, 3, 4)
WORTH = 30 * MILLION
"""Of a MWh, in micro-units."""


def coupled_net(disagreement: str = "mean", dear: int = 1) -> Net:
    """An hour is coupled, scheduled and paid for; its ties are to be metered. `dear` times the price."""
    net = Net(ties=TIES, disagreement=disagreement)
    net.close_gates()
    net.say(Step.COMMIT)
    net.to_decision()
    assert net.agree(*COUPLED, ties=tuple(TieSchedule(tie.power_w, tie.price * dear) for tie in SCHEDULE)) == ""
    net.set_schedules(*COUPLED)
    net.settle()
    assert positions(net) == list(COUPLED)
    return net


def positions(net: Net) -> list[int]:
    return [net.books.escrow.position(name, "EUR") for name in NAMES]


def exchange(net: Net) -> Exchange | None:
    return Exchanges.of(net.hub.state.view).find(HOUR)


def say(net: Net, name: str, step: Step, message: bytes, interval: Interval = HOUR) -> str:
    """A region states something and it is relayed; what became of it."""
    topic = Topic(interval, step)
    net.state(name, topic, message)
    return net.relay(name, topic, message)


def metered(net: Net, name: str, **energy_mwh: float) -> str:
    """What a region's meters show, positive into its grid: `tie_1=5`."""
    rows = [Metered(tie.replace("_", "-"), int(energy * MW)) for tie, energy in sorted(energy_mwh.items())]
    return say(net, name, Step.TIES, encode_metered(rows))


def all_metered(net: Net) -> None:
    """Tie 1 carries 110 MWh instead of 100, the others what they should."""
    assert metered(net, "A", tie_1=-110, tie_3=0) == ""
    assert metered(net, "B", tie_1=110, tie_2=20) == ""
    assert metered(net, "C", tie_2=-20, tie_3=0) == ""


def accept(net: Net, name: str, amount_mwh: int) -> str:
    return say(net, name, Step.ACCEPT, encode_amount(amount_mwh * WORTH))


def pass_blocks(net: Net, count: int) -> None:
    for _ in range(count):
        net.hub.block()


def check_all_books(net: Net) -> None:
    for chain in (net.hub, *net.regions.values()):
        check_books(chain.state.tree)
    assert sum(positions(net)) + net.books.escrow.position(HUB, "EUR") == 0


def paid(net: Net) -> list[int]:
    """What exchange has moved, in MWh at the price of the hour."""
    moved = [now - before for now, before in zip(positions(net), COUPLED, strict=True)]
    assert all(amount % WORTH == 0 for amount in moved)
    return [amount // WORTH for amount in moved]


def test_metered_less_scheduled_exchange_is_paid_for_and_sums_to_zero() -> None:
    net = coupled_net()
    all_metered(net)
    waiting = exchange(net)
    assert waiting is not None
    assert waiting.amounts == (10 * WORTH, -10 * WORTH, 0)
    assert accept(net, "A", 10) == ""
    assert accept(net, "B", -10) == ""
    assert exchange(net) is None
    net.settle()
    assert paid(net) == [10, -10, 0]
    assert net.books.escrow.coupling_exposure("B", "EUR") == 0
    assert [net.books.escrow.held("EUR")] == [0]
    check_all_books(net)


@pytest.mark.parametrize(
    ("disagreement", "moved"),
    [("mean", 15), ("smaller", 10), ("larger", 20), ("from_end", 10), ("to_end", 20), ("schedule", 0)],
)
def test_disagreeing_meters_follow_the_rule_of_genesis(disagreement: str, moved: int) -> None:
    net = coupled_net(disagreement)
    metered(net, "A", tie_1=-110)
    metered(net, "B", tie_1=120)
    metered(net, "C")
    found = exchange(net)
    assert (None if found is None else found.amounts) == ((moved * WORTH, -moved * WORTH, 0) if moved else None)


def test_within_the_tolerance_the_mean_counts_whatever_the_rule() -> None:
    net = coupled_net("schedule")
    metered(net, "A", tie_1=-110)
    say(net, "B", Step.TIES, encode_metered([Metered("tie-1", 110 * MW + 10)]))
    metered(net, "C")
    found = exchange(net)
    assert found is not None
    assert found.amounts == (10 * WORTH + 5 * 30, -10 * WORTH - 5 * 30, 0)


def test_a_silent_end_yields_to_the_other_and_both_to_the_schedule() -> None:
    net = coupled_net()
    assert metered(net, "A", tie_1=-90) == ""
    assert metered(net, "C", tie_2=-25) == ""
    pass_blocks(net, 3)
    waiting = exchange(net)
    assert waiting is not None
    assert not waiting.amounts, "B has as many blocks as genesis gives it"
    pass_blocks(net, 1)
    waiting = exchange(net)
    assert waiting is not None
    assert waiting.amounts == (-10 * WORTH, 10 * WORTH - 5 * WORTH, 5 * WORTH)
    assert metered(net, "B", tie_1=100) == "unexpected", "too late"
    for name, amount in zip(NAMES, (-10, 5, 5), strict=True):
        assert accept(net, name, amount) == ""
    net.settle()
    assert paid(net) == [-10, 5, 5]
    check_all_books(net)


def test_what_nobody_meters_moves_nothing() -> None:
    net = coupled_net()
    pass_blocks(net, 30)
    waiting = exchange(net)
    assert waiting is not None
    assert not waiting.since_height
    assert metered(net, "A") == ""
    pass_blocks(net, 6)
    assert exchange(net) is None
    assert positions(net) == list(COUPLED)
    check_all_books(net)


def test_who_does_not_accept_pays_from_its_collateral_and_delays_nobody_for_long() -> None:
    net = coupled_net()
    all_metered(net)
    assert accept(net, "A", 10) == ""
    pass_blocks(net, 7)
    assert exchange(net) is None
    net.settle()
    assert paid(net) == [10, -10, 0]
    assert net.books.escrow.held("EUR") == -10 * WORTH
    check_all_books(net)
    assert accept(net, "B", -10) == "unexpected"


def test_who_is_owed_and_does_not_accept_finds_it_with_the_hub() -> None:
    net = coupled_net()
    all_metered(net)
    assert accept(net, "B", -10) == ""
    pass_blocks(net, 7)
    net.settle()
    assert paid(net) == [10, -10, 0]
    assert net.books.escrow.held("EUR") == 10 * WORTH
    check_all_books(net)


def test_a_debit_that_no_collateral_covers_is_not_paid_out_to_others() -> None:
    net = coupled_net(dear=1000)
    assert 10_000 * WORTH < 3 * COLLATERAL < 400_000 * WORTH, "the limit of each region"
    metered(net, "A", tie_1=-90, tie_3=-400)
    metered(net, "B", tie_1=90, tie_2=20)
    metered(net, "C", tie_2=-20, tie_3=400)
    found = exchange(net)
    assert found is not None
    assert found.amounts == (-10_000 * WORTH, 10_000 * WORTH, 0), "what C took counts as scheduled"
    assert accept(net, "A", -10_000) == accept(net, "B", 10_000) == ""
    net.settle()
    assert paid(net) == [-10_000, 10_000, 0]
    check_all_books(net)


def test_collateral_is_set_aside_before_the_coupling_until_exchange_is_settled() -> None:
    net = coupled_net()
    assert [net.books.escrow.coupling_exposure(name, "EUR") for name in NAMES] == [TIE_COLLATERAL] * 3
    all_metered(net)
    owed = [net.books.escrow.coupling_exposure(name, "EUR") for name in NAMES]
    assert owed == [0, 10 * WORTH, 0], "exactly what B is to pay"
    accept(net, "A", 10)
    accept(net, "B", -10)
    net.settle()
    assert [net.books.escrow.coupling_exposure(name, "EUR") for name in NAMES] == [0, 0, 0]


@pytest.mark.parametrize("order", ["ABC", "ACB"])
def test_who_lacks_collateral_for_exchange_is_not_coupled(order: str) -> None:
    net = Net(ties=TIES)
    view = net.hub.state.view
    HubIntervals.of(view).escrow.put_limit("C", "EUR", COLLATERAL + TIE_COLLATERAL - 1)
    net.hub.state = replace(net.hub.state, tree=view.tree)
    net.close_gates()
    codes = dict(zip(order, net.say(Step.COMMIT, *order), strict=True))
    assert codes == {"A": "", "B": "", "C": "no_collateral" if order == "ABC" else ""}
    assert net.books.escrow.coupling_exposure("C", "EUR") == 0
    assert 2 not in net.books.slots()


def test_no_meter_is_believed_beyond_what_its_tie_can_carry() -> None:
    net = coupled_net("larger")
    metered(net, "A", tie_1=-(TIE_LIMIT_W // MW + 1))
    metered(net, "B", tie_1=110)
    metered(net, "C")
    found = exchange(net)
    assert found is not None
    assert found.amounts == (10 * WORTH, -10 * WORTH, 0)


def test_statements_count_once_and_only_where_they_belong() -> None:
    net = coupled_net()
    message = encode_metered([Metered("tie-1", -110 * MW)])
    assert say(net, "A", Step.TIES, message) == ""
    assert net.relay("A", Topic(HOUR, Step.TIES), message) == "again"
    given = proposal(Topic(HOUR, Step.TIES), b"\0\0\0\0").encode()
    assert net.regions["A"].block((CONFIRM_REGION, given)) == ["stated"]
    foreign = proposal(Topic(HOUR, Step.TIES), encode_metered([Metered("tie-3", 1)])).encode()
    codes = [net.regions["B"].block((CONFIRM_REGION, foreign), signer=name)[0] for name in VALIDATORS[:3]]
    assert codes[-1] == "malformed"
    never = proposal(Topic(NEXT, Step.TIES), message).encode()
    assert net.regions["A"].block((CONFIRM_REGION, never)) == ["unexpected"], "its gate is not closed"
    metered(net, "B", tie_1=110)
    metered(net, "C")
    assert accept(net, "A", 11) == "other_message"
    assert accept(net, "C", 0) == "again", "it has nothing to accept"
    proof = event_proof(net.regions["A"], event_payload(Topic(HOUR, Step.TIES), digest_of(message)))
    assert net.hub.block((MESSAGE, encode_message(proof, message))) == ["unexpected"], "the amounts are final"


def test_meters_of_an_interval_that_is_not_over_count_for_nothing() -> None:
    net = coupled_net()
    context = reading_context(net.hub.state.view)
    early = HubIntervals(replace(context, block=replace(context.block, time_ms=HOUR.end_s * 1000 - 1)))
    with pytest.raises(Rejected, match="nobody's meters show it yet"):
        hear(early, Topic(HOUR, Step.TIES), 0, encode_metered([]), 100)


def test_an_interval_that_was_not_coupled_has_no_exchange() -> None:
    net = Net(ties=TIES)
    net.close_gates()
    net.say(Step.COMMIT)
    pass_blocks(net, 80)
    assert [coupled for _, coupled in net.ends()] == [False]
    assert exchange(net) is None
    assert [net.books.escrow.coupling_exposure(name, "EUR") for name in NAMES] == [0, 0, 0]


def test_an_agreement_has_a_schedule_for_each_tie_and_none_that_leaves_int64() -> None:
    net = Net(ties=TIES)
    net.close_gates()
    net.say(Step.COMMIT)
    net.to_decision()
    transfers = tuple(Transfer(name, amount) for name, amount in zip(NAMES, COUPLED, strict=True))
    for ties in ((), (*SCHEDULE, SCHEDULE[0]), (*SCHEDULE[:2], TieSchedule(2**62, 2**62))):
        assert net.decide(Agreed(10, 0, transfers, (), b"", ties), count=1) == "malformed"
    assert net.agree(*COUPLED, ties=SCHEDULE) == ""


@pytest.mark.parametrize(
    ("ties", "disagreement", "said"),
    [
        ({"tie-1": ("A", "A")}, "mean", "join two"),
        ({"tie-1": ("A", "X")}, "mean", "join two"),
        ({"tie-1": ("A", "B")}, "median", "one of mean, smaller"),
    ],
)
def test_rules_that_cannot_be_are_refused_by_name(
    ties: dict[str, tuple[str, str]], disagreement: str, said: str
) -> None:
    with pytest.raises(GenesisError, match=said):
        Net(ties=ties, disagreement=disagreement)


ENERGIES = st.none() | st.integers(-2 * TIE_LIMIT_W, 2 * TIE_LIMIT_W)


@given(
    rule=st.sampled_from(MeterRule),
    flows=st.lists(st.integers(-TIE_LIMIT_W, TIE_LIMIT_W), min_size=3, max_size=3),
    price=st.integers(-(2**55), 2**55),
    shown=st.lists(st.tuples(ENERGIES, ENERGIES), min_size=3, max_size=3),
    without=st.sets(st.sampled_from(NAMES)),
    duration_s=st.sampled_from([900, 3600]),
)
def test_amounts_sum_to_zero_and_stay_within_what_was_reckoned_with(
    rule: MeterRule,
    flows: list[int],
    price: int,
    shown: list[tuple[int | None, int | None]],
    without: set[str],
    duration_s: int,
) -> None:
    rules = TieRules(tuple(TieLine(n, *ends, TIE_LIMIT_W) for n, ends in TIES.items()), MeterRules(5, rule), 1)
    schedule = tuple(TieSchedule(flow, price) for flow in flows)
    stated: dict[str, list[Metered]] = {name: [] for name in NAMES}
    for (name, ends), energies in zip(TIES.items(), shown, strict=True):
        for region, energy in zip(ends, energies, strict=True):
            if energy is not None:
                stated[region].append(Metered(name, energy))
    amounts = amounts_due(rules, Exchange(Interval(0, duration_s), schedule), stated, NAMES, without)
    assert sum(amounts) == 0
    assert max(map(abs, amounts)) <= most_due(rules, schedule, duration_s)
    assert all(not amount for name, amount in zip(NAMES, amounts, strict=True) if name in without)
