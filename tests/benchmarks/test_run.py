import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog

from benchmarks import pypsa_peer, run
from benchmarks.cases import Criterion, Row, RowFile
from benchmarks.measured_run import (
    CASE,
    CONSENSUS,
    INTERVALS,
    LEDGER,
    NATIVE,
    VERIFY,
    Config,
    Observed,
    row_of,
    work_name,
)
from benchmarks.process_clocks import IS_HERE, Clocks, Role, Thread, clocks, grown, peak_mb, processes, role_of
from coordinator.market.central import solve_central
from coordinator.market.offers import MICRO

CONFIG = Config(1_000, 3, 2)
HOST, FLEET = 10, 20
NAMES = {(HOST, 1): "node-alpha", (HOST, 2): "check-readings_0", (HOST, 3): "intervals_0"}
PARTS = {"part_sign_us": 50.0, "part_verify_us": 100.0, "part_raw_per_s": 9_000.0}


def sample(consensus: float, verify: float, native: float, fleet: float) -> Clocks:
    return {
        Thread(HOST, 1, Role.VALIDATORS, "ray::Validator"): consensus,
        Thread(HOST, 2, Role.VALIDATORS, "ray::Validator"): verify,
        Thread(HOST, 9, Role.VALIDATORS, "grpc_global_tim"): native,
        Thread(FLEET, 1, Role.FLEET, "ray::DeviceFlee"): fleet,
    }


def ended(seconds: float, readings: int, alone: tuple[str, ...] = ()) -> dict[str, object]:
    phases = {"offers": 0.1, "coupling": 0.5, "dispatch": 0.2, "readings": seconds - 0.8}
    return {"seconds": seconds, "phases": phases, "readings": readings, "alone": list(alone)}


@pytest.fixture
def observed() -> Observed:
    return Observed(
        found_s=3.0,
        start_s=2.0,
        bills_s=0.5,
        wall=[ended(4.0, 2_000), ended(2.0, 1_000)],
        opened=[sample(1.0, 2.0, 0.0, 3.0), sample(3.0, 8.0, 1.0, 4.0)],
        ended=sample(4.0, 12.0, 1.0, 5.0),
        billed=sample(4.5, 12.0, 1.0, 5.0),
        names=NAMES,
        peaks_mb={Role.VALIDATORS: 300.0, Role.FLEET: 150.0},
    )


def row(devices: int, interval_s: float, cpu_s: float, **more: object) -> Row:
    measured = {"interval_s": interval_s, "cpu_s": cpu_s, "cpu_ray": 0.1, "cpu_runner": 0.1, "readings": devices}
    config = Config(devices, 3, 4)
    given = {"kind": run.KIND, "name": config.name, "devices": devices, "regions": 3, "alone": 0, "error": None}
    return run.derived({**given, **measured, **PARTS, **more})


def verdict(rows: list[Row], name: str) -> Criterion:
    return next(found for found in run.verdicts(rows) if name in found.name)


# Rows.


def test_a_row_has_medians_by_phase_and_by_what_a_thread_is_for(observed: Observed) -> None:
    found = row_of(CONFIG, observed)
    assert found["interval_s"] == 3.0
    assert (found["offers_s"], found["coupling_s"], found["readings_s"]) == (0.1, 0.5, pytest.approx(2.2))
    assert found["cpu_consensus"] == pytest.approx(1.75)  # 2.0 in the first interval, 1.5 until the bills in the last
    assert found["cpu_verify"] == pytest.approx(5.0)
    assert found["cpu_native"] == pytest.approx(0.5)
    assert found["cpu_fleet"] == pytest.approx(1.0)
    assert found["cpu_s"] == pytest.approx(8.25)
    assert found["bills_cpu_s"] == pytest.approx(0.5)
    assert (found["readings"], found["alone"]) == (1_000, 0)
    assert found["peak_validators_mb"] == 300.0


def test_a_region_that_cleared_alone_is_counted(observed: Observed) -> None:
    observed.wall[1] = ended(2.0, 1_000, ("2", "3"))
    assert row_of(CONFIG, observed)["alone"] == 2


@pytest.mark.parametrize(
    ("name", "work"),
    [
        ("check-readings_0", VERIFY),
        ("intervals_0", INTERVALS),
        ("node-alpha", CONSENSUS),
        ("disk-hub_0", LEDGER),
        ("prove_0", LEDGER),
        ("asyncio_0", CONSENSUS),
        ("Thread-1 (_poll_wrapper)", NATIVE),
        ("MainThread", NATIVE),
        (None, NATIVE),
    ],
)
def test_threads_of_validators_are_told_apart_by_name(name: str | None, work: str) -> None:
    assert work_name(Role.VALIDATORS, name) == work


def test_what_follows_from_measurements_is_added() -> None:
    found = row(10_000, 5.0, 20.0)
    assert found["readings_per_core_s"] == 500.0
    assert found["sign_s"] == pytest.approx(0.5)
    assert found["signatures_s"] == pytest.approx(4.0)
    assert found["device_us"] == pytest.approx(500.0)


# Verdicts.


def test_growth_compares_the_two_largest_numbers_of_devices() -> None:
    rows = [row(1_000, 3.0, 3.0), row(10_000, 5.0, 20.0), row(100_000, 70.0, 230.0)]
    assert verdict(rows, "CPU seconds a device").passed
    wall = verdict(rows, "wall seconds a device")
    assert not wall.passed
    assert wall.aim
    assert not verdict([*rows[:2], row(100_000, 50.0, 250.0)], "CPU seconds a device").passed


def test_readings_that_are_missing_and_regions_alone_fail() -> None:
    assert not verdict([row(1_000, 1.0, 1.0, alone=1)], "1,000 devices").passed
    assert not verdict([row(1_000, 1.0, 1.0, readings=999)], "1,000 devices").passed
    assert verdict([row(1_000, 1.0, 1.0)], "1,000 devices").passed


def test_a_run_that_failed_fails_with_its_last_line() -> None:
    failed = run._failed(CONFIG, "Traceback\nOSError: no place")
    found = verdict([run.derived(failed)], CONFIG.name)
    assert not found.passed
    assert found.detail == "OSError: no place"


# The command.


def test_devices_grow_with_the_first_regions_and_regions_with_the_first_devices() -> None:
    found = run.configurations([1_000, 10_000], [3, 10, 30], 4)
    assert [(one.devices, one.regions) for one in found] == [(1_000, 3), (10_000, 3), (1_000, 10), (1_000, 30)]


def test_a_resumed_run_measures_what_is_missing_or_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, asked = tmp_path / "rows.jsonl", list[Config]()
    log = RowFile(("kind", "name"), path, None)
    log.add(row(1_000, 1.0, 1.0, cpu_verify=0.0))
    log.add(run._failed(Config(10_000, 3, 4), "no place"))

    def measured(config: Config) -> Row:
        asked.append(config)
        return row(config.devices, 1.0, 1.0, readings=config.devices)

    monkeypatch.setattr(run, "in_process", measured)
    run.main(devices="1000,10000", regions="3", intervals=4, resume=path)
    assert asked == [Config(10_000, 3, 4)]
    assert RowFile(("kind", "name"), None, path).has(run.KIND, Config(10_000, 3, 4).name)


def test_without_pypsa_the_comparison_is_skipped_aloud(capsys: pytest.CaptureFixture[str]) -> None:
    log = RowFile(("kind", "name"), None, None)
    run.compare_pypsa(None, 6, log)
    assert log.rows == []
    assert "skipped" in capsys.readouterr().err


def test_a_python_without_pypsa_is_a_row_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise RuntimeError("python: ModuleNotFoundError: No module named 'pypsa'")

    monkeypatch.setattr(pypsa_peer, "compare", refused)
    log = RowFile(("kind", "name"), None, None)
    run.compare_pypsa(Path(sys.executable), 6, log)
    assert not next(run.verdicts(log.rows)).passed


# What PyPSA is given.


def test_the_hours_that_pypsa_gets_have_the_same_optimum() -> None:
    problems = pypsa_peer.problems_of(CASE, 2)
    given = pypsa_peer.arrays_of(problems)
    for hour, problem in enumerate(problems):
        offset = problem.steps.offset_micro_per_h / MICRO
        central = solve_central(problem).objective_micro_per_h / MICRO
        assert optimum(given, hour) + offset == pytest.approx(central, rel=1e-8)


def optimum(given: dict[str, np.ndarray], hour: int) -> float:
    """By angles, step powers and link flows, written from the arrays alone."""
    lines, steps, links = (len(given[name]) for name in ("from_bus", "step_bus", "link_from"))
    buses = given["withdrawal_mw"].shape[1]
    incidence = np.zeros((lines, buses))
    incidence[np.arange(lines), given["from_bus"]], incidence[np.arange(lines), given["to_bus"]] = 1, -1
    flows = given["susceptance_mw"][:, None] * incidence
    into = np.zeros((buses, steps + links))
    into[given["step_bus"], np.arange(steps)] = 1
    into[given["link_from"], steps + np.arange(links)], into[given["link_to"], steps + np.arange(links)] = -1, 1
    limits, none = given["limit_mw"], np.zeros((lines, steps + links))
    angles = [(0.0, 0.0), *[(None, None)] * (buses - 1)]
    powers = [(0.0, width) for width in given["width_mw"][hour]]
    links_mw = list(zip(given["link_min_mw"], given["link_max_mw"], strict=True))
    found = linprog(
        np.concatenate([np.zeros(buses), given["price_per_mwh"][hour], np.zeros(links)]),
        A_ub=np.vstack([np.hstack([flows, none]), np.hstack([-flows, none])]),
        b_ub=np.concatenate([limits, limits]),
        A_eq=np.hstack([-incidence.T @ flows, into]),
        b_eq=given["withdrawal_mw"][hour],
        bounds=[*angles, *powers, *links_mw],
    )
    assert found.success, found.message
    return float(found.fun)


def test_an_objective_that_differs_fails() -> None:
    given: Row = {"hours": 6, "worst": 2e-6, "versions": "pypsa 1"}
    assert not pypsa_peer.verdict(given).passed
    assert pypsa_peer.verdict({**given, "worst": 1e-9}).passed


# Processes.


@pytest.mark.parametrize(
    ("title", "role"),
    [
        ("ray::ValidatorHost", Role.VALIDATORS),
        ("ray::validators-alpha.process", Role.VALIDATORS),
        ("ray::RegionActor.run_interval", Role.GATEWAY),
        ("ray::DeviceFleet.operate", Role.FLEET),
        ("ray::IDLE", Role.RAY),
    ],
)
def test_processes_are_told_apart_by_their_titles(title: str, role: Role) -> None:
    assert role_of(title) is role


def test_a_thread_that_changes_its_name_is_the_same() -> None:
    before = {Thread(HOST, 1, Role.RAY, "python"): 1.0}
    after = {Thread(HOST, 1, Role.VALIDATORS, "ray::Validator"): 3.0}
    assert grown(before, after) == {Thread(HOST, 1, Role.VALIDATORS, ""): 2.0}


@pytest.mark.skipif(not IS_HERE, reason="needs /proc")
def test_clocks_see_a_process_that_was_started_and_what_it_does() -> None:
    work = "import sys; print(1, flush=True); sys.stdin.read(1); print(sum(range(10**7)), flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        before = clocks(os.getpid())
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.stdout.readline()
        spent = sum(s for thread, s in grown(before, clocks(os.getpid())).items() if thread.process == child.pid)
        peak, found = peak_mb(child.pid), processes(os.getpid())
        child.stdin.close()
    assert spent > 0.02
    assert 1 < peak < 1_000
    assert found[child.pid] is Role.RAY
    assert found[os.getpid()] is Role.RUNNER


def test_a_process_that_is_gone_has_no_peak() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert peak_mb(child.pid) == 0.0
