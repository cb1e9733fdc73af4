"""Several hubs decide together: one announces, the others take over what holds, and all are in the same state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings

from coordinator.market.certificate import CertificateError
from coordinator.market.coupling.hub import Decision, Hub
from coordinator.market.coupling.session import CouplingSession
from coordinator.market.coupling.wire import ProtocolError
from coordinator.market.fixed_point import FixedPointRangeError
from coordinator.market.linear_program import SolverError
from protos.gridaccord.v1 import coupling_pb2 as pb
from tests.coordinator.test_protocol import market, two_islands
from tests.support.coupling import MW, STANDARD_WINDOW, Theatre, couple, generator, interval, small_market
from tests.support.random_grids import Market, Recipe, cook, recipes

REFUSALS = (ProtocolError, CertificateError)


class HubPair(Hub):
    """Two hubs that take turns in announcing; after every step each would go on exactly as the other."""

    def __init__(self, session: CouplingSession) -> None:
        self._pair = [Hub(session.public, session.rules), Hub(session.public, session.rules)]
        self._turn = 0

    def _roles(self) -> tuple[Hub, Hub]:
        return self._pair[self._turn], self._pair[1 - self._turn]

    @property
    def gates(self) -> Any:  # type: ignore[override]
        return self._pair[0].gates

    def start(self, *arguments: Any, **options: Any) -> None:
        for hub in self._pair:
            hub.start(*arguments, **options)

    def clear(self, submissions: Sequence[bytes]) -> bytes:
        leader, follower = self._roles()
        would_say = follower.copy()
        result = leader.clear(submissions)
        assert would_say.clear(submissions) == result
        follower.adopt(submissions, result)
        return result

    def boundary_state(self, injections: Sequence[bytes]) -> bytes:
        leader, follower = self._roles()
        state = leader.boundary_state(injections)
        follower.adopt_state(injections, state)
        return state

    def tally(self, votes: Sequence[bytes]) -> Decision:
        leader, follower = self._roles()
        decision = leader.tally(votes)
        assert follower.tally(votes) == decision
        self._turn = 1 - self._turn
        return decision

    def public_outcome(self) -> Any:
        return self._pair[0].public_outcome()


def couple_twice(wanted: Market, intervals: int) -> None:
    session = CouplingSession(wanted.cut(), wanted.rules)
    session.hub = HubPair(session)
    for number in range(intervals):
        try:
            couple(session, wanted.next_interval(number) if number else wanted, number)
        except (SolverError, FixedPointRangeError):
            return
        except CertificateError as error:
            assert "minimum flows of controllable links" in str(error)
            return


@given(recipes())
@settings(max_examples=60)
def test_a_hub_that_adopts_decides_as_the_hub_that_clears(recipe: Recipe) -> None:
    couple_twice(cook(recipe), 3)


@pytest.mark.parametrize("wanted", [market, two_islands])
def test_small_markets_with_objections_links_and_islands(wanted: Callable[[], Market]) -> None:
    couple_twice(wanted(), 2)


class Stage:
    """A market up to the last round of an interval: what was sent in it, and a hub that is about to take it over."""

    def __init__(self, wanted: Market) -> None:
        self.theatre = Theatre(wanted)
        assert self.theatre.play()
        self.sent = self.theatre.sent
        self.last = max(number for kind, _, number in self.sent if kind == "Vote")
        self.hub = Hub(self.theatre.public, wanted.rules)
        self.hub.start(interval(), self.all("OfferCommitment", 1))
        for number in range(1, self.last):
            self.follow(number)

    def all(self, kind: str, number: int) -> list[bytes]:
        return [self.sent[kind, region.index, number] for region in self.theatre.regions]

    def follow(self, number: int) -> Decision:
        self.hub.adopt(self.all("Submission", number), self.sent["CouplingResult", -1, number])
        self.hub.adopt_state(self.all("BoundaryInjection", number), self.sent["BoundaryState", -1, number])
        decision = self.hub.tally(self.all("Vote", number))
        assert decision.opening == self.sent["RoundOpening", -1, number]
        return decision


def damages(message: Any) -> Iterator[tuple[str, Callable[[Any], None]]]:
    """Every field of a message in turn: an entry more, one less, and every entry changed."""
    for field in message.DESCRIPTOR.fields:
        name = field.name
        value = getattr(message, name)
        if name == "acceptances":
            yield "an acceptance less", lambda m: m.acceptances.pop()
            yield "an acceptance more", lambda m: m.acceptances.add()
            for place, part in enumerate(value):
                for said, change in damages(part):
                    yield f"acceptance {place}: {said}", _within(place, change)
        elif name == "interval":
            yield "interval", lambda m: m.interval.CopyFrom(interval(7))
        elif isinstance(value, bytes):
            for bit in range(8 * len(value)):
                yield f"{name} bit {bit}", _assign(name, _flipped(value, bit))
            yield f"{name} longer", _assign(name, value + b"\0")
        elif isinstance(value, int):
            yield name, _assign(name, value + 1)
        else:
            yield f"{name}: one more", _extend(name)
            if value:
                yield f"{name}: one less", lambda m, n=name: getattr(m, n).pop()
            for place in range(len(value)):
                yield f"{name}[{place}]", _shift(name, place)


def _within(place: int, change: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda message: change(message.acceptances[place])


def _assign(name: str, value: object) -> Callable[[Any], None]:
    return lambda message: setattr(message, name, value)


def _extend(name: str) -> Callable[[Any], None]:
    return lambda message: getattr(message, name).append(1)


def _shift(name: str, place: int) -> Callable[[Any], None]:
    step = {"balance_sign": -1, "partial": 1, "moved": 1, "priced_gate": 1, "violated_gate": 1}.get(name, 1 << 30)

    def change(message: Any) -> None:
        getattr(message, name)[place] += step

    return change


def _flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def violated_market() -> Market:
    """A load behind a line that a shifter overloads whatever anybody does: a violation is announced."""
    offers = [generator("g", 0, (50 * MW, 20)), generator("h", 2, (50 * MW, 30))]
    lines = [(0, 1, 0.1), (0, 1, 0.1), (1, 2, 0.1)]
    limits = {0: 20.0, 1: 20.0, 2: 5.0}
    return small_market(lines, "ABB", offers, {1: 10 * MW}, shifts_deg={0: 10.0}, limits_mw=limits)


@pytest.mark.parametrize("wanted", [market, two_islands, violated_market])
def test_any_field_of_a_result_changed_is_refused_and_the_true_result_is_taken_afterwards(
    wanted: Callable[[], Market],
) -> None:
    stage = Stage(wanted())
    submissions, genuine = stage.all("Submission", stage.last), stage.sent["CouplingResult", -1, stage.last]
    tried = 0
    for said, change in damages(pb.CouplingResult.FromString(genuine).intervals[0]):
        message = pb.CouplingResult.FromString(genuine)
        change(message.intervals[0])
        try:
            stage.hub.adopt(submissions, message.SerializeToString(deterministic=True))
        except REFUSALS as error:
            assert str(error)
        else:
            pytest.fail(f"{said} was taken over")
        tried += 1
    assert tried > 30
    assert stage.follow(stage.last).agreement


@pytest.mark.parametrize("wanted", [market, two_islands, violated_market])
def test_any_number_of_a_boundary_state_changed_is_refused(wanted: Callable[[], Market]) -> None:
    stage = Stage(wanted())
    injections, genuine = stage.all("BoundaryInjection", stage.last), stage.sent["BoundaryState", -1, stage.last]
    stage.hub.adopt(stage.all("Submission", stage.last), stage.sent["CouplingResult", -1, stage.last])
    for said, change in damages(pb.BoundaryState.FromString(genuine).intervals[0]):
        message = pb.BoundaryState.FromString(genuine)
        change(message.intervals[0])
        try:
            stage.hub.adopt_state(injections, message.SerializeToString(deterministic=True))
        except REFUSALS as error:
            assert str(error)
        else:
            pytest.fail(f"{said} was taken over")
    stage.hub.adopt_state(injections, genuine)
    assert stage.hub.tally(stage.all("Vote", stage.last)).agreement


def test_the_announced_integers_are_kept_where_the_own_ones_differ_in_the_last_bits() -> None:
    stage = Stage(market())
    stage.hub.adopt(stage.all("Submission", stage.last), stage.sent["CouplingResult", -1, stage.last])
    message = pb.BoundaryState.FromString(stage.sent["BoundaryState", -1, stage.last])
    message.intervals[0].angle[1] += 2
    message.intervals[0].price_difference[1] -= 2
    injections = stage.all("BoundaryInjection", stage.last)
    stage.hub.adopt_state(injections, message.SerializeToString(deterministic=True))
    votes = [region.vote(message.SerializeToString(deterministic=True)) for region in stage.theatre.regions]
    assert stage.hub.tally(votes).agreement
    assert stage.hub.public_outcome().boundary_angle.tolist() == list(message.intervals[0].angle)


@pytest.mark.parametrize("kind", ["CouplingResult", "BoundaryState"])
@pytest.mark.parametrize("data", [b"", b"\xff", bytes(range(64))], ids=["empty", "byte", "ramp"])
def test_bytes_that_are_no_message_name_the_hub(kind: str, data: bytes) -> None:
    stage = Stage(market())
    submissions = stage.all("Submission", stage.last)
    with pytest.raises(ProtocolError, match="hub"):
        if kind == "CouplingResult":
            stage.hub.adopt(submissions, data)
        else:
            stage.hub.adopt(submissions, stage.sent["CouplingResult", -1, stage.last])
            stage.hub.adopt_state(stage.all("BoundaryInjection", stage.last), data)


def test_an_imbalance_that_steps_on_offer_could_mend_is_refused() -> None:
    """An acceptance of nothing with the imbalance that follows: consistent in its sums, and a wasted round."""
    wanted = market()
    theatre = Theatre(wanted)
    commitments = [
        region.commit(interval(), table, STANDARD_WINDOW)
        for region, table in zip(theatre.regions, theatre.tables, strict=True)
    ]
    hub = Hub(theatre.public, wanted.rules)
    hub.start(interval(), commitments)
    submissions = [region.submit() for region in theatre.regions]
    leader = hub.copy()
    message = pb.CouplingResult.FromString(leader.clear(submissions))
    result = message.intervals[0]
    displaced = leader.displaced_problem()
    for part in result.acceptances:
        part.CopyFrom(pb.RegionAcceptance(full=bytes(len(part.full))))
    result.link_w[:] = [0] * len(result.link_w)
    result.imbalance_w[:] = displaced.base_w.tolist()
    assert any(result.imbalance_w)
    with pytest.raises(CertificateError):
        hub.adopt(submissions, message.SerializeToString(deterministic=True))
    result.energy_price[:] = [10 * wanted.rules.line_violation_micro_per_mwh << 20]
    with pytest.raises(CertificateError):
        hub.adopt(submissions, message.SerializeToString(deterministic=True))


def test_votes_before_a_boundary_state_are_refused() -> None:
    stage = Stage(market())
    stage.hub.adopt(stage.all("Submission", stage.last), stage.sent["CouplingResult", -1, stage.last])
    with pytest.raises(ProtocolError, match="boundary state"):
        stage.hub.tally(stage.all("Vote", stage.last))
