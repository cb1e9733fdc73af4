"""What nettings drew from collateral, or kept there, is paid between the region and the hub when it is back."""

from __future__ import annotations

import pytest

from coordinator.ledger.accounts import balance
from coordinator.ledger.invariants import check_books
from coordinator.settlement.escrow.types import HUB
from coordinator.settlement.interval.confirmations import CONFIRM_REGION, proposal
from coordinator.settlement.interval.topics import Step, Topic, encode_amount
from tests.coordinator.ledger.support import VALIDATORS
from tests.coordinator.settlement.test_interval_hub import HOUR, NAMES, NEXT, Net


def agreed_net() -> Net:
    """An hour is agreed: A owes 7, B and C are owed 3 and 4."""
    net = Net()
    net.close_gates()
    net.say(Step.COMMIT)
    net.to_decision()
    assert net.agree(-7, 3, 4) == ""
    return net


def net_without(silent: str) -> Net:
    """All but one have set their schedules and are paid."""
    net, amounts = agreed_net(), dict(zip(NAMES, (-7, 3, 4), strict=True))
    others = tuple(name for name in NAMES if name != silent)
    net.set_schedules(*(amounts[name] for name in others), names=others)
    while not net.ends():
        net.hub.block()
    net.settle()
    return net


def repay(net: Net, name: str, amount: int) -> str:
    topic = Topic(HOUR, Step.REPAY)
    net.state(name, topic, encode_amount(amount))
    return net.relay(name, topic, encode_amount(amount))


def neutral(net: Net, name: str) -> int:
    return balance(net.regions[name].state.view, "neutral", "EUR")


@pytest.mark.parametrize(("silent", "amount"), [("A", -7), ("B", 3)])
def test_a_region_that_is_back_pays_what_it_owes_and_takes_what_it_is_owed(silent: str, amount: int) -> None:
    net = net_without(silent)
    escrow = net.books.escrow
    assert (escrow.claim(silent, "EUR"), escrow.held("EUR"), neutral(net, silent)) == (-amount, amount, 0)
    assert repay(net, silent, amount) == ""
    net.settle()
    escrow = net.books.escrow
    assert (escrow.claim(silent, "EUR"), escrow.held("EUR"), neutral(net, silent)) == (0, 0, amount)
    assert [escrow.position(name, "EUR") for name in NAMES] == [-7, 3, 4]
    assert escrow.position(HUB, "EUR") == 0
    assert escrow.coupling_exposure(silent, "EUR") == 0
    for chain in (net.hub, *net.regions.values()):
        check_books(chain.state.tree)


def test_it_pays_exactly_that_once_and_one_at_a_time() -> None:
    net = net_without("A")
    assert repay(net, "B", -3) == "unexpected", "B has been paid"
    assert repay(net, "A", -7) == ""
    again = Topic(HOUR, Step.REPAY)
    assert net.relay("A", again, encode_amount(-7)) == "unexpected", "it is under way"
    net.settle()
    assert net.relay("A", again, encode_amount(-7)) == "unexpected", "it is paid"
    assert net.books.escrow.claim("A", "EUR") == 0


def test_another_amount_or_interval_is_refused() -> None:
    net = net_without("A")
    assert repay(net, "A", -8) == "other_message"
    given = proposal(Topic(NEXT, Step.REPAY), encode_amount(-7)).encode()
    codes = [net.regions["A"].block((CONFIRM_REGION, given), signer=name)[0] for name in VALIDATORS[:3]]
    assert codes[0] == "unexpected", "its gate is not closed"
    assert net.books.escrow.claim("A", "EUR") == 7


def test_a_region_that_does_not_answer_in_time_owes_as_before() -> None:
    net = net_without("A")
    topic = Topic(HOUR, Step.REPAY)
    net.state("A", topic, encode_amount(-7))
    assert net.relay("A", topic, encode_amount(-7)) == ""
    for _ in range(8):
        net.hub.block()
    escrow = net.books.escrow
    assert (escrow.claim("A", "EUR"), escrow.held("EUR")) == (7, -7)
    net.settle()
    assert [net.books.escrow.position(name, "EUR") for name in NAMES] == [-7, 3, 4]
    assert neutral(net, "A") == 0
    for chain in (net.hub, *net.regions.values()):
        check_books(chain.state.tree)
