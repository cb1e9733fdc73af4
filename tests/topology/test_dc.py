"""The DC model against dense linear algebra and against numbers worked out by hand."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from math import pi, radians

import numpy as np
import pytest
from hypothesis import given, settings

from tests.support.random_grids import Recipe, cook, integers, recipes
from topology.arrays import FloatArray
from topology.dc import UNLIMITED_W, DcNetwork, PowerTransferFactors, build_dc_network, watts
from topology.errors import GridError
from topology.grid import Branch, Bus, ControllableLink, Grid, Ratings

MW = 1_000_000


def grid_of(*branches: Branch, buses: int = 2, links: tuple[ControllableLink, ...] = ()) -> Grid:
    return Grid("by hand", 100.0, tuple(Bus(str(number)) for number in range(buses)), branches, (), links)


def line(resistance: float = 0.0, reactance: float = 0.05, **other: object) -> Branch:
    return Branch("a", "0", "1", resistance, reactance, **other)  # type: ignore[arg-type]


def chain(buses: int) -> DcNetwork:
    lines = [Branch(str(n), str(n), str(n + 1), 0.0, 0.05, ratings=Ratings(100.0)) for n in range(buses - 1)]
    return build_dc_network(grid_of(*lines, buses=buses), "matpower")


def test_pglib_takes_the_series_susceptance_and_ignores_taps_and_shifts() -> None:
    """0.04 / (0.03^2 + 0.04^2) = 16 per unit on 100 MVA."""
    network = build_dc_network(grid_of(line(0.03, 0.04, tap=1.1, shift_deg=30.0)), "pglib")
    assert network.susceptance_w_per_rad.tolist() == [1600 * MW]
    assert network.shift_flow_w.tolist() == [0]


def test_matpower_takes_the_reactance_with_tap_and_shift() -> None:
    """1 / (0.05 * 1.25) = 16 per unit; a shift of 9 degrees takes 1600 * pi / 20 MW off the flow."""
    network = build_dc_network(grid_of(line(0.03, 0.05, tap=1.25, shift_deg=9.0)), "matpower")
    assert network.susceptance_w_per_rad.tolist() == [1600 * MW]
    assert network.shift_flow_w.tolist() == [-watts(1600 * pi / 20)]


def test_a_phase_shifter_drives_a_circulating_flow() -> None:
    """Two equal circuits, one shifted by phi: half of b * phi circulates, against the shift."""
    shifted = line(0.0, 0.1, shift_deg=6.0)
    network = build_dc_network(grid_of(shifted, replace(shifted, id="b", shift_deg=0.0)), "matpower")
    angles = PowerTransferFactors(network).angles_rad(np.zeros(2))
    flow = network.susceptance_w_per_rad * (network.incidence @ angles) + network.shift_flow_w
    assert flow == pytest.approx([-500 * MW * radians(6.0), 500 * MW * radians(6.0)], abs=2.0)


def test_a_transformer_with_a_tap_takes_less_of_the_flow() -> None:
    """Parallel susceptances of 10 and 10 / 1.25 per unit share 90 MW as 50 and 40."""
    first = line(0.0, 0.1)
    network = build_dc_network(grid_of(first, replace(first, id="b", tap=1.25)), "matpower")
    angles = PowerTransferFactors(network).angles_rad(np.array([90.0 * MW, -90.0 * MW]))
    assert network.susceptance_w_per_rad * (network.incidence @ angles) == pytest.approx([50 * MW, 40 * MW], abs=2.0)


@pytest.mark.parametrize("convention", ["pglib", "matpower"])
def test_ratings_bound_both_directions_and_the_reverse_one_its_own(convention: str) -> None:
    network = build_dc_network(grid_of(line(ratings=Ratings(30.0, 40.0, 50.0))), convention)  # type: ignore[arg-type]
    assert (network.flow_min_w.tolist(), network.flow_max_w.tolist()) == ([-30 * MW], [30 * MW])
    network = build_dc_network(grid_of(line(ratings=Ratings(30.0), reverse=Ratings(20.0))), convention)  # type: ignore[arg-type]
    assert (network.flow_min_w.tolist(), network.flow_max_w.tolist()) == ([-20 * MW], [30 * MW])


@pytest.mark.parametrize("reactance", [0.05, -0.05])
def test_no_rating_and_no_angle_limit_is_unlimited(reactance: float) -> None:
    network = build_dc_network(grid_of(line(reactance=reactance)), "matpower")
    assert (network.flow_min_w.tolist(), network.flow_max_w.tolist()) == ([-UNLIMITED_W], [UNLIMITED_W])


def test_a_rating_of_zero_carries_nothing() -> None:
    network = build_dc_network(grid_of(line(ratings=Ratings(0.0))), "matpower")
    assert (network.flow_min_w.tolist(), network.flow_max_w.tolist()) == ([0], [0])


def test_angle_limits_bound_the_flow() -> None:
    """2000 MW/rad: 0.9 degrees are 10 pi MW."""
    network = build_dc_network(grid_of(line(angle_min_deg=-0.9, angle_max_deg=1.8)), "matpower")
    assert network.flow_min_w.tolist() == [-watts(10 * pi)]
    assert network.flow_max_w.tolist() == [watts(20 * pi)]


def test_angle_limits_of_a_negative_reactance_change_ends() -> None:
    network = build_dc_network(grid_of(line(reactance=-0.05, angle_min_deg=-0.9, angle_max_deg=1.8)), "matpower")
    assert network.flow_min_w.tolist() == [-watts(20 * pi)]
    assert network.flow_max_w.tolist() == [watts(10 * pi)]
    network = build_dc_network(grid_of(line(reactance=-0.05, angle_max_deg=1.8)), "matpower")
    assert (network.flow_min_w.tolist(), network.flow_max_w.tolist()) == ([-watts(20 * pi)], [UNLIMITED_W])


def test_angle_limits_are_about_the_angles_and_not_the_shifted_ones() -> None:
    network = build_dc_network(grid_of(line(shift_deg=0.9, angle_min_deg=-0.9, angle_max_deg=0.9)), "matpower")
    assert network.flow_min_w.tolist() == [pytest.approx(-watts(20 * pi), abs=1)]
    assert network.flow_max_w.tolist() == [pytest.approx(0, abs=1)]


@pytest.mark.parametrize(
    ("branch", "problem"),
    [
        (line(reactance=0.0), "zero reactance"),
        (line(reactance=1e-9), "outside what the integer model can hold"),
        (line(reactance=-1e-9), "outside what the integer model can hold"),
        (line(reactance=1e12), "outside what the integer model can hold"),
        (line(ratings=Ratings(10.0), angle_min_deg=5.0, angle_max_deg=6.0), "leave no flow"),
    ],
)
def test_a_branch_that_cannot_be_modelled_is_named(branch: Branch, problem: str) -> None:
    with pytest.raises(GridError, match=r"by hand: branch a \(0-1\): ") as caught:
        build_dc_network(grid_of(branch), "matpower")
    assert problem in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_out_of_service_is_not_in_the_model() -> None:
    off = line(in_service=False, reactance=0.0)
    links = (
        ControllableLink("on", "0", "1", -5.0, 7.5, owner="x"),
        ControllableLink("off", "0", "1", 0.0, 1.0, in_service=False),
    )
    network = build_dc_network(grid_of(off, replace(line(), id="b"), links=links), "pglib")
    assert network.branch_ids == ("b",)
    assert (network.link_ids, network.link_owners) == (("on",), ("x",))
    assert (network.link_min_w.tolist(), network.link_max_w.tolist()) == ([-5 * MW], [7_500_000])


def test_parallel_circuits_stay_apart() -> None:
    network = build_dc_network(grid_of(line(), replace(line(), id="b")), "pglib")
    assert network.branch_ids == ("a", "b")
    assert network.laplacian.toarray().tolist() == [[4e9, -4e9], [-4e9, 4e9]]


def test_components_are_numbered_by_their_first_bus() -> None:
    lines = [Branch("a", "3", "1", 0.0, 0.1), Branch("b", "4", "2", 0.0, 0.1)]
    network = build_dc_network(grid_of(*lines, buses=6), "pglib")
    assert network.components.tolist() == [0, 1, 2, 1, 2, 3]


def dense_factors(network: DcNetwork) -> FloatArray:
    """Flows per injection from the pseudo-inverse, with the component's first bus as reference."""
    incidence = network.incidence.toarray()
    flows = network.susceptance_w_per_rad[:, None] * (
        incidence @ np.linalg.pinv(network.laplacian.toarray(), rcond=1e-12)
    )
    _, references = np.unique(network.components, return_index=True)
    own = network.components[network.from_bus][:, None] == network.components[None, :]
    at_reference = flows[np.arange(network.branch_count), references[network.components[network.from_bus]]]
    return np.where(own, flows - at_reference[:, None], 0.0)


@given(recipes(most_buses=25))
@settings(max_examples=40)
def test_factors_are_those_of_the_pseudo_inverse(recipe: Recipe) -> None:
    network = cook(recipe).network
    transfer = PowerTransferFactors(network)
    expected = dense_factors(network)
    if network.branch_count:
        every = np.arange(network.branch_count)
        assert transfer.rows(every) == pytest.approx(expected, abs=1e-8)
        assert transfer.row(network.branch_count - 1) == pytest.approx(expected[-1], abs=1e-8)


@given(recipes(most_buses=25))
@settings(max_examples=40)
def test_angles_satisfy_the_network_equations(recipe: Recipe) -> None:
    network = cook(recipe).network
    random = np.random.default_rng(recipe.seed)
    injection = random.uniform(-1e8, 1e8, network.bus_count)
    for component in range(int(network.components.max()) + 1):
        members = network.components == component
        injection[members] -= injection[members].mean()
    angles = PowerTransferFactors(network).angles_rad(injection)
    flow = network.susceptance_w_per_rad * (network.incidence @ angles) + network.shift_flow_w
    assert network.incidence.T @ flow == pytest.approx(injection, abs=1e-2)
    _, references = np.unique(network.components, return_index=True)
    assert not angles[references].any()


def test_a_singular_network_is_named() -> None:
    first = line(reactance=0.1)
    network = build_dc_network(grid_of(first, replace(first, id="b", reactance_pu=-0.1)), "matpower")
    with pytest.raises(GridError, match="by hand: the susceptance matrix is singular"):
        PowerTransferFactors(network)


def test_a_network_without_branches_has_no_factors() -> None:
    network = build_dc_network(grid_of(buses=3), "pglib")
    assert PowerTransferFactors(network).angles_rad(np.zeros(3)).tolist() == [0.0, 0.0, 0.0]


def test_a_part_of_a_network_is_renumbered() -> None:
    network = chain(5)
    part = network.subnetwork("part", integers([1, 2, 4]), integers([1]))
    assert part.bus_ids == ("1", "2", "4")
    assert (part.from_bus.tolist(), part.to_bus.tolist()) == ([0], [1])
    assert part.branch_labels == ("branch 1 (1-2)",)


def test_no_dense_matrix_of_buses_by_buses_is_formed() -> None:
    """5,000 buses squared are 200 MB."""
    network = chain(5_000)
    tracemalloc.start()
    transfer = PowerTransferFactors(network)
    row = transfer.rows(integers([0, 2_500, 4_998]))
    transfer.angles_rad(np.zeros(5_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * 1024 * 1024
    assert row[1, :2_501].tolist() == pytest.approx([0.0] * 2_501)
    assert row[1, 2_501:].tolist() == pytest.approx([-1.0] * 2_499)
