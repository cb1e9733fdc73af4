"""Kron reduction and boundary impedance against the network they stand for, on any cut of any grid."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings

from tests.support.random_grids import Market, Recipe, cook, recipes
from tests.topology.test_dc import chain
from topology.arrays import FloatArray
from topology.dc import PowerTransferFactors, build_dc_network
from topology.errors import GridError
from topology.grid import Branch, Bus, Grid
from topology.kron import BoundaryImpedance, KronReduction
from topology.regions import RegionCut, cut_network

SIZE = 1e8


def balanced(market: Market) -> FloatArray:
    injection = np.random.default_rng(market.recipe.seed if market.recipe else 0).uniform(
        -SIZE, SIZE, market.network.bus_count
    )
    components = market.network.components
    for component in range(int(components.max()) + 1):
        members = components == component
        injection[members] -= injection[members].mean()
    return injection


def impedance_of(cut: RegionCut, reductions: list[KronReduction]) -> BoundaryImpedance:
    internal = [region.network.components[region.boundary] for region in cut.regions]
    return BoundaryImpedance(cut.interconnection, [reduction.laplacian for reduction in reductions], internal)


def boundary_buses(cut: RegionCut) -> list[int]:
    return [int(bus) for region in cut.regions for bus in region.buses[region.boundary]]


@given(recipes())
@settings(max_examples=40)
def test_the_reduced_laplacian_is_the_schur_complement(recipe: Recipe) -> None:
    for region in cook(recipe).cut().regions:
        full = region.network.laplacian.toarray()
        inner = np.setdiff1d(np.arange(len(full)), region.boundary)
        outer = np.ix_(region.boundary, region.boundary)
        across = full[np.ix_(inner, region.boundary)]
        expected = full[outer] - across.T @ np.linalg.solve(full[np.ix_(inner, inner)], across)
        reduced = KronReduction(region).laplacian
        assert reduced == pytest.approx(expected, rel=1e-9, abs=1.0)
        assert reduced == pytest.approx(reduced.T, abs=1.0)
        assert reduced.sum(axis=1) == pytest.approx(np.zeros(len(reduced)), abs=10.0)


@given(recipes())
@settings(max_examples=60)
def test_regions_and_boundary_together_find_the_angles_of_the_whole(recipe: Recipe) -> None:
    market = cook(recipe)
    network, cut = market.network, market.cut()
    injection = balanced(market)
    shifted = injection + network.shift_injection_w
    reductions = [KronReduction(region) for region in cut.regions]
    impedance = impedance_of(cut, reductions)

    worth = []
    for region, reduction in zip(cut.regions, reductions, strict=True):
        worth.append(reduction.boundary_injection(injection[region.buses] + region.network.shift_injection_w))
    public = cut.interconnection
    at_boundary = np.concatenate(worth)
    np.subtract.at(at_boundary, public.tie_from, public.tie_shift_flow_w)
    np.add.at(at_boundary, public.tie_to, public.tie_shift_flow_w)
    boundary_angle = impedance.matrix @ at_boundary

    angles = np.empty(network.bus_count)
    for region, reduction in zip(cut.regions, reductions, strict=True):
        block = public.boundary_of(region.index)
        own = injection[region.buses] + region.network.shift_injection_w
        angles[region.buses] = reduction.angles(own, boundary_angle[block])
    residual = network.laplacian @ angles - shifted
    assert np.abs(residual).max() < 1.0

    flow = network.susceptance_w_per_rad * (network.incidence @ angles)
    expected = PowerTransferFactors(network).angles_rad(injection)
    assert flow == pytest.approx(network.susceptance_w_per_rad * (network.incidence @ expected), abs=1.0)


@given(recipes())
@settings(max_examples=60)
def test_published_rows_and_private_parts_make_the_factors_of_the_whole(recipe: Recipe) -> None:
    """For every line: row of its owner, through Z, to factors at every bus of every region; up to the reference."""
    market = cook(recipe)
    network, cut = market.network, market.cut()
    reductions = [KronReduction(region) for region in cut.regions]
    impedance = impedance_of(cut, reductions)
    expected = PowerTransferFactors(network).rows(np.arange(network.branch_count))
    for owner, reduction in zip(cut.regions, reductions, strict=True):
        own = np.arange(owner.network.branch_count)
        if not own.size:
            continue
        block = cut.interconnection.boundary_of(owner.index)
        rows = reduction.boundary_rows(own) @ impedance.matrix[block]
        found = np.zeros((len(own), network.bus_count))
        for region, other in zip(cut.regions, reductions, strict=True):
            part = other.bus_factors(rows[:, cut.interconnection.boundary_of(region.index)])
            found[:, region.buses] = part + (reduction.private_rows(own) if region is owner else 0.0)
        for line, whole in enumerate(owner.branches):
            inside = network.components == network.components[network.from_bus[whole]]
            difference = (found[line] - expected[whole])[inside]
            assert difference == pytest.approx(np.full(len(difference), difference[0]), abs=1e-7)
            assert found[line][~inside] == pytest.approx(np.zeros(int((~inside).sum())), abs=1e-9)


@given(recipes())
@settings(max_examples=40)
def test_the_public_components_are_those_of_the_whole(recipe: Recipe) -> None:
    market = cook(recipe)
    cut = market.cut()
    impedance = impedance_of(cut, [KronReduction(region) for region in cut.regions])
    assert impedance.component_count == int(market.network.components.max()) + 1
    whole = market.network.components[boundary_buses(cut)]
    assert len(set(zip(whole.tolist(), impedance.component.tolist(), strict=True))) == impedance.component_count
    references = np.unique(impedance.component, return_index=True)[1]
    assert not impedance.matrix[references].any()
    assert not impedance.matrix[:, references].any()


def triangle(second: float) -> RegionCut:
    lines = (Branch("a", "0", "1", 0.0, 0.1), Branch("b", "1", "2", 0.0, second), Branch("c", "0", "2", 0.0, 0.1))
    network = build_dc_network(Grid("by hand", 100.0, tuple(Bus(str(n)) for n in range(3)), lines), "matpower")
    return cut_network(network, ("a", "b", "c"))


def test_a_series_of_two_lines_reduces_to_one() -> None:
    """Two lines of 0.1 per unit in series are one of 0.2: 500 MW/rad."""
    cut = cut_network(chain(5), ("A", "B", "B", "B", "C"))
    laplacian = KronReduction(cut.regions[1]).laplacian
    assert laplacian / 1e9 == pytest.approx(np.array([[1.0, -1.0], [-1.0, 1.0]]))


def test_a_region_of_one_bus_reduces_to_nothing() -> None:
    assert KronReduction(triangle(0.1).regions[0]).laplacian.tolist() == [[0.0]]


def test_boundaries_that_cancel_are_named() -> None:
    """-0.2 in series parallel to 0.1 and 0.1 leaves nothing between the ends."""
    cut = triangle(-0.2)
    with pytest.raises(GridError, match="singular"):
        impedance_of(cut, [KronReduction(region) for region in cut.regions])


def test_an_inside_that_cancels_is_named_with_its_region() -> None:
    lines = (
        Branch("a", "0", "1", 0.0, 0.1),
        Branch("b", "1", "2", 0.0, -0.1),
        Branch("c", "0", "3", 0.0, 0.1),
        Branch("d", "2", "3", 0.0, 0.1),
    )
    network = build_dc_network(Grid("by hand", 100.0, tuple(Bus(str(n)) for n in range(4)), lines), "matpower")
    cut = cut_network(network, ("inner", "inner", "inner", "outer"))
    with pytest.raises(GridError, match="inner: the susceptance matrix is singular"):
        KronReduction(cut.regions[0])


def test_a_large_region_with_a_small_boundary_needs_no_dense_matrix() -> None:
    cut = cut_network(chain(5_000), ("A",) * 2_500 + ("B",) * 2_500)
    tracemalloc.start()
    reductions = [KronReduction(region) for region in cut.regions]
    impedance_of(cut, reductions)
    reductions[0].private_rows(np.array([0, 1_000]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * 1024 * 1024
