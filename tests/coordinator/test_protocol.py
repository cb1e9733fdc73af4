"""Abuse of the coupling at the level of bytes: whatever a peer sends, the answer is a named error, never a stray one.

One interval is played message by message; one message is tampered with. Where the lie can be pinned on its sender,
the error names the sender.
"""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.ledger.merkle import OpeningError
from coordinator.market.certificate import CertificateError
from coordinator.market.coupling.region import RegionAgent
from coordinator.market.coupling.wire import ProtocolError
from protos.gridaccord.v1 import coupling_pb2 as pb
from tests.support.coupling import HUB, MW, STANDARD_WINDOW, Tamper, Theatre, generator, interval, small_market
from tests.support.random_grids import Market

NAMED = (ProtocolError, CertificateError, OpeningError)
KINDS: dict[str, type[Message]] = {
    "BoundaryEquivalent": pb.BoundaryEquivalent,
    "OfferCommitment": pb.OfferCommitment,
    "Submission": pb.Submission,
    "CouplingResult": pb.CouplingResult,
    "BoundaryInjection": pb.BoundaryInjection,
    "BoundaryState": pb.BoundaryState,
    "Vote": pb.Vote,
    "RoundOpening": pb.RoundOpening,
}
FROM_HUB = {"CouplingResult", "BoundaryState", "RoundOpening"}
REGION = 1
HUGE = 2**62


def market() -> Market:
    """Two triangles joined by two ties and a link; a line inside region A, a tie and a line inside B bind."""
    return small_market(
        [(0, 1, 0.1), (1, 2, 0.1), (0, 2, 0.1), (3, 4, 0.1), (4, 5, 0.1), (3, 5, 0.1), (2, 3, 0.1), (0, 5, 0.2)],
        "AAABBB",
        [
            generator("cheap", 0, (300 * MW, 20)),
            generator("mid", 1, (60 * MW, 30), (60 * MW, 32)),
            generator("dear", 4, (300 * MW, 60)),
            generator("peak", 5, (100 * MW, 70)),
        ],
        {2: 80 * MW, 3: 90 * MW, 4: 60 * MW, 5: 40 * MW},
        limits_mw={2: 60.0, 4: 25.0, 6: 50.0},
        links=[(1, 4, -20.0, 20.0)],
    )


def two_islands() -> Market:
    """Regions whose buses lie in two components, so that steps name theirs."""
    return small_market(
        [(0, 1, 0.1), (2, 3, 0.1)],
        "ABAB",
        [generator("a", 0, (50 * MW, 20)), generator("b", 3, (50 * MW, 30))],
        {1: 30 * MW, 2: 20 * MW},
        links=[(0, 2, 0.0, 5.0)],
    )


def test_the_untampered_interval_agrees_after_objections() -> None:
    theatre = Theatre(market())
    assert theatre.play()
    votes = [pb.Vote.FromString(data).intervals[0] for (kind, _, _), data in theatre.sent.items() if kind == "Vote"]
    objecting = [vote for vote in votes if not vote.accept]
    assert {gate.region for vote in objecting for gate in vote.flowgates} == {0, 1}
    opening = pb.RoundOpening.FromString(theatre.sent["RoundOpening", HUB, 1]).intervals[0]
    assert opening.tie_line


def edited(kind: str, change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    """Change a message, or its one interval where it has any."""

    def apply(data: bytes) -> bytes:
        message: Any = KINDS[kind].FromString(data)
        change(message.intervals[0] if hasattr(message, "intervals") and message.intervals else message)
        return message.SerializeToString(deterministic=True)

    return apply


def whole(kind: str, change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    """Change a message as a whole, its scope or its list of intervals."""

    def apply(data: bytes) -> bytes:
        message: Any = KINDS[kind].FromString(data)
        change(message)
        return message.SerializeToString(deterministic=True)

    return apply


def sender_of(kind: str) -> int:
    return HUB if kind in FROM_HUB else REGION


def refused(tamper: Tamper, grid: Market | None = None) -> Exception:
    with pytest.raises(NAMED) as caught:
        assert Theatre(grid or market(), tamper).play(), "no agreement, and nobody said why"
        pytest.fail("the tampered interval was agreed")
    return caught.value


def blamed(error: Exception, sender: int) -> None:
    assert isinstance(error, ProtocolError)
    assert error.region == sender


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "data", [b"\xff", b"\x08", b"\xff" * 40, bytes(range(256))], ids=["byte", "tag", "ones", "all"]
)
def test_bytes_that_are_no_message(kind: str, data: bytes) -> None:
    blamed(refused(Tamper(kind, sender_of(kind), lambda _: data)), sender_of(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_message(kind: str) -> None:
    refused(Tamper(kind, sender_of(kind), lambda data: data[: len(data) // 2]))
    blamed(refused(Tamper(kind, sender_of(kind), lambda data: data[:-1])), sender_of(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_message(kind: str) -> None:
    blamed(refused(Tamper(kind, sender_of(kind), lambda _: b"")), sender_of(kind))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "BoundaryEquivalent"])
def test_a_message_about_two_intervals(kind: str) -> None:
    twice = whole(kind, lambda message: message.intervals.append(message.intervals[0]))
    blamed(refused(Tamper(kind, sender_of(kind), twice)), sender_of(kind))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "BoundaryEquivalent"])
def test_a_message_about_another_interval(kind: str) -> None:
    later = edited(kind, lambda message: message.interval.CopyFrom(interval(99)))
    blamed(refused(Tamper(kind, sender_of(kind), later)), sender_of(kind))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in FROM_HUB])
def test_a_message_that_says_it_is_from_another_region(kind: str) -> None:
    other = whole(kind, lambda message: setattr(message.scope, "region", 0))
    blamed(refused(Tamper(kind, REGION, other)), REGION)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", ["carrier", "asset"])
def test_a_message_about_another_carrier_or_asset(kind: str, field: str) -> None:
    other = whole(kind, lambda message: setattr(message.scope, field, "XYZ"))
    blamed(refused(Tamper(kind, sender_of(kind), other)), sender_of(kind))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "BoundaryEquivalent"])
def test_a_message_of_another_topology(kind: str) -> None:
    other = whole(kind, lambda message: setattr(message.scope, "topology_id", b"." * 32))
    blamed(refused(Tamper(kind, sender_of(kind), other)), sender_of(kind))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in FROM_HUB])
def test_the_message_of_the_other_region(kind: str) -> None:
    """A relay hands in what region 0 sent as the message of region 1."""
    theatre = Theatre(market())
    theatre.play()
    foreign = theatre.sent[kind, 0, 1]
    blamed(refused(Tamper(kind, REGION, lambda _: foreign)), REGION)


@pytest.mark.parametrize(
    "kind", ["Submission", "CouplingResult", "BoundaryInjection", "BoundaryState", "Vote", "RoundOpening"]
)
def test_the_message_of_the_round_before(kind: str) -> None:
    theatre = Theatre(market())
    theatre.play()
    stale = theatre.sent[kind, sender_of(kind), 1]
    refused(Tamper(kind, sender_of(kind), lambda _: stale, round=2))


def put(field: str, value: object, place: int = 0) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        getattr(message, field)[place] = value

    return change


def more(field: str, *values: object) -> Callable[[Any], None]:
    return lambda message: getattr(message, field).extend(values)


def less(field: str) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        del getattr(message, field)[-1:]

    return change


def none(field: str) -> Callable[[Any], None]:
    return lambda message: message.ClearField(field)


def assign(field: str, value: object) -> Callable[[Any], None]:
    return lambda message: setattr(message, field, value)


EQUIVALENT = {
    "a boundary bus renamed": put("boundary_bus", "nowhere"),
    "a boundary bus missing": less("boundary_bus"),
    "a component label missing": less("internal_component"),
    "a Laplacian entry missing": less("laplacian_fine"),
    "a Laplacian of zeros": lambda m: m.laplacian_fine.__setitem__(slice(None), [0] * len(m.laplacian_fine)),
    "a Laplacian that does not sum to zero": lambda m: put("laplacian_fine", m.laplacian_fine[0] + 2**40)(m),
    "huge Laplacian entries": put("laplacian_fine", HUGE),
    "a root that is no hash": assign("topology_root", b"short"),
    "a link end in an unknown component": lambda m: setattr(m.link_end[0], "internal_component", 77),
    "an unknown link": lambda m: setattr(m.link_end[0], "link", 77),
    "a link end missing": less("link_end"),
    "a link end twice": lambda m: m.link_end.append(m.link_end[0]),
    "a link end at an absurd pseudonym": lambda m: setattr(m.link_end[0], "bus", 2**32 - 1),
    "the wrong end of a link": lambda m: setattr(m.link_end[0], "delivers", not m.link_end[0].delivers),
}


@pytest.mark.parametrize("name", EQUIVALENT)
def test_boundary_equivalents(name: str) -> None:
    blamed(refused(Tamper("BoundaryEquivalent", REGION, edited("BoundaryEquivalent", EQUIVALENT[name]))), REGION)


COMMITMENT = {
    "a root that is no hash": assign("offers_root", b"short"),
    "no root": none("offers_root"),
    "another root": assign("offers_root", b"." * 32),
    "fewer offers": lambda m: setattr(m, "offers_size", m.offers_size - 1),
    "more offers": lambda m: setattr(m, "offers_size", m.offers_size * 2 + 1),
    "four billion offers": assign("offers_size", 2**32 - 1),
}


@pytest.mark.parametrize("name", COMMITMENT)
def test_offer_commitments(name: str) -> None:
    blamed(refused(Tamper("OfferCommitment", REGION, edited("OfferCommitment", COMMITMENT[name]))), REGION)


SUBMISSION = {
    "another round": assign("round", 7),
    "a balance missing": less("base_w"),
    "a balance too many": more("base_w", 0),
    "a huge balance": put("base_w", 2**63 - 1),
    "a loading of a flowgate that is not in force": more("gate_loading_fine", 0),
    "a step's price": lambda m: put("price_micro_per_mwh", m.price_micro_per_mwh[0] + 1)(m),
    "a step's width": lambda m: put("width_w", m.width_w[0] + 1)(m),
    "a width beyond 64 bits signed": put("width_w", 2**63),
    "a huge width": put("width_w", HUGE),
    "a huge price": put("price_micro_per_mwh", HUGE),
    "a step's bus": lambda m: put("bus", m.bus[0] + 1)(m),
    "a price missing": less("price_micro_per_mwh"),
    "a width missing": less("width_w"),
    "a bus missing": less("bus"),
    "a leaf beyond the tree": put("leaf", 10_000),
    "an odd number of runs": more("leaf", 1),
    "a run of nothing": more("leaf", 99, 0),
    "leaves missing": none("leaf"),
    "a salt missing": less("salt_seed"),
    "a salt changed": put("salt_seed", b"." * 16),
    "a salt too many": more("salt_seed", b"." * 16),
    "a hash too many": more("proof", b"." * 32),
    "a component that does not exist": lambda m: m.component.extend([9] * len(m.bus)),
    "components of some steps": more("component", 0),
    "a factor of a flowgate that is not in force": lambda m: m.factors.add(gate=[99], bus=[0], factor=[0]),
    "a factor block of the wrong shape": lambda m: m.factors.add(gate=[], bus=[0], factor=[1]),
    "a factor of an absurd bus": lambda m: m.factors.add(gate=[], bus=[2**32 - 1], factor=[]),
}


@pytest.mark.parametrize("name", SUBMISSION)
def test_submissions(name: str) -> None:
    blamed(refused(Tamper("Submission", REGION, edited("Submission", SUBMISSION[name]))), REGION)


LATER_SUBMISSION = {
    "factors missing": none("factors"),
    "a factor missing": lambda m: less("factor")(m.factors[0]),
    "a factor beyond any grid": lambda m: put("factor", HUGE)(m.factors[0]),
    "the factor that stands for none": lambda m: put("factor", -HUGE)(m.factors[0]),
    "a factor of an unknown flowgate": lambda m: put("gate", 2**32 - 1)(m.factors[0]),
    "a factor of an absurd bus": lambda m: put("bus", 2**32 - 1)(m.factors[0]),
    "a loading missing": less("gate_loading_fine"),
    "a huge loading": put("gate_loading_fine", 2**63 - 1),
}


@pytest.mark.parametrize("name", LATER_SUBMISSION)
def test_submissions_with_flowgates_in_force(name: str) -> None:
    blamed(refused(Tamper("Submission", REGION, edited("Submission", LATER_SUBMISSION[name]), round=2)), REGION)


def test_steps_published_twice() -> None:
    """What round 1 published opens in round 2 as well; taken twice it would be for sale twice."""
    theatre = Theatre(market())
    theatre.play()
    first = pb.Submission.FromString(theatre.sent["Submission", REGION, 1]).intervals[0]

    def again(message: Any) -> None:
        for field in ("leaf", "bus", "price_micro_per_mwh", "width_w", "salt_seed", "proof"):
            message.ClearField(field)
            getattr(message, field).extend(getattr(first, field))

    blamed(refused(Tamper("Submission", REGION, edited("Submission", again), round=2)), REGION)


def test_steps_in_an_unknown_component() -> None:
    change = edited("Submission", put("component", 9))
    blamed(refused(Tamper("Submission", REGION, change), two_islands()), REGION)


def test_steps_without_their_component() -> None:
    blamed(refused(Tamper("Submission", REGION, edited("Submission", none("component"))), two_islands()), REGION)


def test_a_lie_about_the_loading_of_a_foreign_flowgate_is_pinned_on_the_liar() -> None:
    """u_k and the factors say what region 1 does to the flowgate of region 0; its announced loading must agree."""

    def lie(message: Any) -> None:
        message.gate_loading_fine[0] += 10 * MW << 10

    error = refused(Tamper("Submission", REGION, edited("Submission", lie), round=2))
    blamed(error, REGION)


def test_a_lie_about_boundary_injections_is_pinned_on_the_liar() -> None:
    """Injections and base loads are public sums: u_k of a region must add up to what it was accepted for."""
    lie = edited("BoundaryInjection", lambda m: put("injection_fine", m.injection_fine[0] + (MW << 10))(m))
    blamed(refused(Tamper("BoundaryInjection", REGION, lie)), REGION)


RESULT = {
    "another round": assign("round", 7),
    "an energy price missing": none("energy_price"),
    "an energy price too many": more("energy_price", 0),
    "a huge energy price": put("energy_price", 2**63 - 1),
    "an acceptance missing": less("acceptances"),
    "an acceptance too many": lambda m: m.acceptances.add(),
    "acceptances exchanged": lambda m: m.acceptances.reverse(),
    "a bitmap of the wrong length": lambda m: setattr(m.acceptances[REGION], "full", b"\xff" * 9),
    "bits beyond the steps": lambda m: setattr(m.acceptances[REGION], "full", b"\xff"),
    "no bitmap": lambda m: setattr(m.acceptances[REGION], "full", b""),
    "a partial step that does not exist": lambda m: more("partial", 99)(m.acceptances[REGION]),
    "a partial quantity missing": lambda m: m.acceptances[REGION].partial.append(0),
    "a partial quantity beyond its width": lambda m: (
        more("partial", 0)(m.acceptances[0]),
        more("partial_w", 10**15)(m.acceptances[0]),
    ),
    "a partial quantity beyond 64 bits signed": lambda m: (
        more("partial", 0)(m.acceptances[0]),
        more("partial_w", 2**63)(m.acceptances[0]),
    ),
    "a link missing": none("link_w"),
    "a link beyond its limit": put("link_w", 10**12),
    "a price on a flowgate that is not in force": lambda m: (more("priced_gate", 99)(m), more("shadow_price", 1)(m)),
    "a price without flowgate": more("shadow_price", 1),
    "a violation of a flowgate that is not in force": lambda m: (
        more("violated_gate", 99)(m),
        more("violation_w", 1)(m),
    ),
    "an imbalance missing": none("imbalance_w"),
    "an imbalance where there is none": put("imbalance_w", MW),
}


@pytest.mark.parametrize("name", RESULT)
def test_results_of_a_lying_hub(name: str) -> None:
    """In the last round, where no later result puts things right."""
    refused(Tamper("CouplingResult", HUB, edited("CouplingResult", RESULT[name]), round=last_round()))


LAST_RESULT = {
    "another energy price": lambda m: put("energy_price", m.energy_price[0] + (1 << 40))(m),
    "another shadow price": lambda m: put("shadow_price", m.shadow_price[0] // 2)(m),
    "a shadow price of the wrong sign": lambda m: put("shadow_price", -m.shadow_price[0])(m),
    "a shadow price on an idle flowgate": lambda m: put("priced_gate", m.priced_gate[-1] + 1, -1)(m),
    "no shadow prices": lambda m: (none("priced_gate")(m), none("shadow_price")(m)),
    "another link flow": lambda m: put("link_w", m.link_w[0] - MW)(m),
}


def last_round() -> int:
    theatre = Theatre(market())
    theatre.play()
    return max(number for kind, _, number in theatre.sent if kind == "Vote")


@pytest.mark.parametrize("name", LAST_RESULT)
def test_results_of_a_lying_hub_in_the_last_round(name: str) -> None:
    refused(Tamper("CouplingResult", HUB, edited("CouplingResult", LAST_RESULT[name]), round=last_round()))


INJECTION = {
    "an injection missing": less("injection_fine"),
    "an injection too many": more("injection_fine", 0),
    "no injections": none("injection_fine"),
    "a huge injection": put("injection_fine", 2**63 - 1),
    "a very negative injection": put("injection_fine", -(2**63)),
}


@pytest.mark.parametrize("name", INJECTION)
def test_boundary_injections(name: str) -> None:
    blamed(refused(Tamper("BoundaryInjection", REGION, edited("BoundaryInjection", INJECTION[name]))), REGION)


STATE = {
    "an angle missing": less("angle"),
    "an angle too many": more("angle", 0),
    "no angles": none("angle"),
    "a huge angle": put("angle", 2**63 - 1),
    "a price missing": less("price_difference"),
    "no prices": none("price_difference"),
    "a huge price": put("price_difference", 2**63 - 1),
}


@pytest.mark.parametrize("name", STATE)
def test_boundary_states(name: str) -> None:
    refused(Tamper("BoundaryState", HUB, edited("BoundaryState", STATE[name])))


@pytest.mark.parametrize("field", ["angle", "price_difference"])
def test_a_boundary_state_changed_in_the_last_round(field: str) -> None:
    change = edited("BoundaryState", lambda m: put(field, getattr(m, field)[1] + (1 << 34), 1)(m))
    refused(Tamper("BoundaryState", HUB, change, round=last_round()))


VOTE = {
    "a flowgate with another limit": lambda m: setattr(m.flowgates[0], "flow_max_w", m.flowgates[0].flow_max_w - MW),
    "a flowgate with another row": lambda m: put("row_fine", m.flowgates[0].row_fine[0] + 1)(m.flowgates[0]),
    "a flowgate with a row too long": lambda m: more("row_fine", 0)(m.flowgates[0]),
    "a flowgate with a row too short": lambda m: less("row_fine")(m.flowgates[0]),
    "a flowgate of another name": lambda m: setattr(m.flowgates[0], "branch", "L77"),
    "a flowgate of another contingency": lambda m: setattr(m.flowgates[0], "contingency", "L1 out"),
    "a flowgate of another leaf": lambda m: setattr(m.flowgates[0], "leaf", m.flowgates[0].leaf + 1),
    "a flowgate of a leaf beyond the tree": lambda m: setattr(m.flowgates[0], "leaf", 2**31),
    "a flowgate of another salt": lambda m: setattr(m.flowgates[0], "salt", b"." * 16),
    "a flowgate without proof": lambda m: m.flowgates[0].proof.append(b"." * 32),
    "a flowgate of the other region": lambda m: setattr(m.flowgates[0], "region", 0),
    "a flowgate of a region that does not exist": lambda m: setattr(m.flowgates[0], "region", 2**31),
    "a flowgate twice": lambda m: m.flowgates.append(m.flowgates[0]),
    "an objection to nothing": none("flowgates"),
    "an acceptance of an overload": lambda m: (assign("accept", True)(m), none("flowgates")(m)),
    "an acceptance with flowgates of an overload": assign("accept", True),
}


@pytest.mark.parametrize("name", VOTE)
def test_objections(name: str) -> None:
    blamed(refused(Tamper("Vote", REGION, edited("Vote", VOTE[name]))), REGION)


ACCEPTANCE = {
    "a gap that is no number": assign("gap_exact", "abc"),
    "no gap": none("gap_exact"),
    "a gap of Arabic digits": assign("gap_exact", "١٢٣"),
    "a gap with spaces": assign("gap_exact", " 12 "),
    "a gap of five thousand digits": assign("gap_exact", "9" * 5000),
    "a huge gap": assign("gap_exact", "9" * 30),
    "a gap far below zero": assign("gap_exact", "-" + "9" * 30),
    "a link price missing": none("link_end_price"),
    "a link price too many": more("link_end_price", 0),
    "a huge link price": put("link_end_price", 2**63 - 1),
    "another link price": lambda m: put("link_end_price", m.link_end_price[0] + (1 << 45))(m),
}


@pytest.mark.parametrize("name", ACCEPTANCE)
def test_acceptances(name: str) -> None:
    refused(Tamper("Vote", REGION, edited("Vote", ACCEPTANCE[name]), round=last_round()))


def test_a_flowgate_objected_with_again() -> None:
    theatre = Theatre(market())
    theatre.play()
    first = pb.Vote.FromString(theatre.sent["Vote", REGION, 1]).intervals[0]

    def again(message: Any) -> None:
        message.accept = False
        message.flowgates.extend(first.flowgates)

    blamed(refused(Tamper("Vote", REGION, edited("Vote", again), round=2)), REGION)


OPENING = {
    "another round": assign("round", 9),
    "a flowgate with another limit": lambda m: setattr(m.flowgates[0], "flow_max_w", m.flowgates[0].flow_max_w - MW),
    "a flowgate with another row": lambda m: put("row_fine", m.flowgates[0].row_fine[0] + 1)(m.flowgates[0]),
    "a flowgate of a region that does not exist": lambda m: setattr(m.flowgates[0], "region", 2**31),
    "a flowgate twice": lambda m: m.flowgates.append(m.flowgates[0]),
    "a flowgate left out": less("flowgates"),
    "a tie-line that does not exist": more("tie_line", 99),
    "a tie-line twice": lambda m: m.tie_line.append(m.tie_line[0]),
    "a tie-line left out": none("tie_line"),
}


@pytest.mark.parametrize("name", OPENING)
def test_openings_of_a_lying_hub(name: str) -> None:
    refused(Tamper("RoundOpening", HUB, edited("RoundOpening", OPENING[name])))


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        ("submit", lambda region, sent: region.submit()),
        ("inject", lambda region, sent: region.inject(sent["CouplingResult", HUB, 1])),
        ("vote", lambda region, sent: region.vote(sent["BoundaryState", HUB, 1])),
    ],
)
def test_messages_before_an_interval_is_committed(kind: str, call: Callable[..., bytes]) -> None:
    played = Theatre(market())
    played.play()
    fresh = Theatre(market())
    with pytest.raises(NAMED):
        call(fresh.regions[REGION], played.sent)


def test_a_boundary_state_before_a_result() -> None:
    played = Theatre(market())
    played.play()
    fresh = Theatre(market())
    region: RegionAgent = fresh.regions[REGION]
    region.commit(interval(), fresh.tables[REGION], STANDARD_WINDOW)
    region.submit()
    with pytest.raises(NAMED):
        region.vote(played.sent["BoundaryState", HUB, 1])


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("kind", ["OfferCommitment", "Submission", "BoundaryInjection", "Vote"])
def test_the_hub_wants_one_message_a_region(kind: str, count: int) -> None:
    theatre = Theatre(market())
    theatre.play()
    sent = [theatre.sent[kind, 0, 1], theatre.sent[kind, 1, 1], theatre.sent[kind, 1, 1]][:count]
    fresh = Theatre(market())
    commitments = [
        region.commit(interval(), t, STANDARD_WINDOW) for region, t in zip(fresh.regions, fresh.tables, strict=True)
    ]
    if kind == "OfferCommitment":
        with pytest.raises(NAMED):
            fresh.hub.start(interval(), sent)
        return
    fresh.hub.start(interval(), commitments)
    submissions = [region.submit() for region in fresh.regions]
    if kind == "Submission":
        with pytest.raises(NAMED):
            fresh.hub.clear(sent)
        return
    result = fresh.hub.clear(submissions)
    injections = [region.inject(result) for region in fresh.regions]
    if kind == "BoundaryInjection":
        with pytest.raises(NAMED):
            fresh.hub.boundary_state(sent)
        return
    state = fresh.hub.boundary_state(injections)
    for region in fresh.regions:
        region.vote(state)
    with pytest.raises(NAMED):
        fresh.hub.tally(sent)


def test_no_message_makes_the_hub_allocate_without_bound() -> None:
    """A tree of four million leaves and a factor of bus sixteen million cost what their messages weigh."""
    for kind, change in (
        ("OfferCommitment", lambda m: assign("offers_size", 2**22)(m)),
        ("Submission", lambda m: m.factors.add(gate=[], bus=[2**24], factor=[])),
    ):
        tamper = Tamper(kind, REGION, edited(kind, change))
        tracemalloc.start()
        refused(tamper)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 16 * 1024 * 1024


def test_a_run_over_a_million_leaves_costs_nothing() -> None:
    def change_commitment(message: Any) -> None:
        message.offers_size = 2**20

    theatre = Theatre(market(), Tamper("OfferCommitment", REGION, edited("OfferCommitment", change_commitment)))
    commitments = [
        theatre.send("OfferCommitment", region.index, region.commit(interval(), table, STANDARD_WINDOW))
        for region, table in zip(theatre.regions, theatre.tables, strict=True)
    ]
    submissions = []
    try:
        theatre.hub.start(interval(), commitments)
        submissions = [region.submit() for region in theatre.regions]
    except NAMED:
        return
    flood = edited("Submission", lambda m: m.leaf.__setitem__(slice(None), [0, 2**20]))
    tracemalloc.start()
    with pytest.raises(NAMED):
        theatre.hub.clear([submissions[0], flood(submissions[REGION])])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * 1024 * 1024


@given(st.sampled_from(sorted(KINDS)), st.integers(1, 3), st.integers(0, 2**32))
@settings(max_examples=150)
def test_random_damage_to_any_message_is_named_or_harmless(kind: str, number: int, seed: int) -> None:
    chance = random.Random(seed)

    def damage(data: bytes) -> bytes:
        damaged = bytearray(data)
        for _ in range(chance.randint(1, 3)):
            if damaged:
                damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        return bytes(damaged)

    try:
        Theatre(market(), Tamper(kind, sender_of(kind), damage, round=number)).play()
    except NAMED as error:
        assert str(error)
