"""From meters to energy: whose meter counts and for what, how points add up, and what no meter can show."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.ledger.registry import add_device
from coordinator.service.metering import Meters, Register, metered, meters, register_place
from coordinator.settlement.interval.region_records import Position
from coordinator.settlement.interval.schedules import Metered
from tests.coordinator.settlement.test_interval_hub import HOUR, Net

LABELS = st.from_regex(r"[A-Za-z0-9_:-]{1,6}", fullmatch=True)
NAMES = st.lists(LABELS | st.sampled_from(["injected", "withdrawn"]), min_size=1, max_size=4).map(".".join)
POINTS = LABELS.filter(lambda label: label not in ("injected", "withdrawn"))


def row(power_w: int, meters: Meters, grown_wh: Mapping[str, int]) -> Metered:
    """Of resource `load` in an hour."""
    (only,) = metered(grown_wh, meters, HOUR, {"load": Position(power_w, 0)})
    return only


def points(count: int) -> Meters:
    """Metering points of `load`, each with both registers."""
    return {"load": [(Register(f"in{n}", 1), Register(f"out{n}", -1)) for n in range(count)]}


@pytest.mark.parametrize(("registered_by", "counts"), [("alice", True), ("bob", False)])
def test_only_a_device_that_the_owner_of_a_resource_registered_is_its_meter(registered_by: str, counts: bool) -> None:
    view = Net().regions["A"].state.view
    for name in ("unit-A.injected", "unit-A.injected.h1", "unit-A.withdrawn.h1"):
        add_device(view, name, registered_by, "alice", hashlib.sha256(name.encode()).digest())
    h1 = (Register("unit-A.injected.h1", 1), Register("unit-A.withdrawn.h1", -1))
    assert meters(view) == ({"unit-A": [(Register("unit-A.injected", 1),), h1]} if counts else {})


@given(resource=NAMES, direction=st.sampled_from([("injected", 1), ("withdrawn", -1)]), point=POINTS)
def test_a_device_name_says_one_thing_only(resource: str, direction: tuple[str, int], point: str) -> None:
    word, sign = direction
    assert register_place(f"{resource}.{word}") == (resource, "", sign)
    assert register_place(f"{resource}.{word}.{point}") == (resource, point, sign)


@pytest.mark.parametrize("name", ["load", "load.h1", "load.injected.", "load.injected.a.b", "load.Injected", ""])
def test_other_names_are_no_registers(name: str) -> None:
    assert register_place(name) is None


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=20))
def test_energy_is_the_sum_over_all_points(energies: list[tuple[int, int]]) -> None:
    grown = {f"in{n}": injected for n, (injected, _) in enumerate(energies)}
    grown |= {f"out{n}": withdrawn for n, (_, withdrawn) in enumerate(energies)}
    expected = sum(injected - withdrawn for injected, withdrawn in energies)
    assert row(5, points(len(energies)), grown) == Metered("load", expected)


def test_an_equal_share_of_the_schedule_stands_in_for_a_silent_point() -> None:
    heard = {"in0": 0, "out0": 70, "in1": 5, "out1": 20, "in2": 3}
    assert row(-300, points(3), heard) == Metered("load", -70 - 15 - 100, substituted=True)
    assert row(-300, points(3), {"in2": 3}) == Metered("load", -300, substituted=True)
    assert row(-301, points(2), {"in0": 0, "out0": 9}) == Metered("load", -9 - 150, substituted=True), "half to even"


def test_the_schedule_stands_in_where_there_is_no_meter() -> None:
    assert row(5, {}, {}) == Metered("load", 5, substituted=True)


@pytest.mark.parametrize("register", ["in0", "out0"])
def test_a_meter_that_shows_what_no_resource_can_do_is_as_silent(register: str) -> None:
    grown = {"in0": 0, "out0": 0, "in1": 7, "out1": 0}
    assert row(10, points(2), {**grown, register: 2**62}) == Metered("load", 7 + 5, substituted=True)


def test_points_that_are_possible_each_and_impossible_together_count_for_nothing() -> None:
    grown = {name: 2**40 if name.startswith("in") else 0 for name in ("in0", "out0", "in1", "out1")}
    assert row(5, points(2), grown) == Metered("load", 5, substituted=True)
