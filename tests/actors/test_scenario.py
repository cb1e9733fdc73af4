"""Scenarios: defaults written out, unknown keys and faults without a target refused, by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.scenario import Fault, FaultKind, Scenario, faults_at, read_scenario
from coordinator.service.errors import ConfigurationError

EXAMPLES = Path(__file__).parents[2] / "examples" / "rts_gmlc"
LEAST = "name: day\ncase: grid\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "scenario.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_case_is_relative_to_the_scenario(tmp_path: Path) -> None:
    assert read_scenario(written(tmp_path, LEAST)).case == (tmp_path / "grid").resolve()


def test_so_is_the_file_of_regions(tmp_path: Path) -> None:
    assert read_scenario(written(tmp_path, LEAST + "regions: cut.csv\n")).regions == str(tmp_path.resolve() / "cut.csv")
    assert read_scenario(written(tmp_path, LEAST + "regions: '3'\n")).regions == "3"


def test_what_is_resolved_reads_as_the_same_scenario(tmp_path: Path) -> None:
    given = read_scenario(written(tmp_path, LEAST + "faults: [{kind: silent, interval: 3, region: '2'}]\n"))
    again = read_scenario(written(tmp_path, given.resolved))
    assert again == given
    assert again.config_hash == given.config_hash
    assert "imbalance_spread_per_mwh" in given.resolved


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("meterz: 3\n", "meterz"),
        ("devices: {meters: 0}\n", "devices.meters"),
        ("devices: {meter: 5}\n", "devices.meter"),
        ("clock: lunar\n", "clock"),
        ("interval_s: 0\n", "interval_s"),
        ("organizations: [a, b, c]\n", "organizations"),
        ("batteries: [{name: b, bus: '1', power_mw: 0, energy_mwh: 1}]\n", "batteries.0.power_mw"),
        ("faults: [{kind: earthquake, interval: 1}]\n", "faults.0.kind"),
        (
            "faults: [{kind: silent, interval: 1, validators: alpha}]\n",
            "silent names region, and nothing else",
        ),
        ("cluster: {hosts: {alpha: 10.0.0.1}}\n", "hosts want port"),
        ("cluster: {hosts: {alpha: 10.0.0.1}, port: 7101}\n", "names each of alpha, bravo, charlie, delta"),
        ("faults: [{kind: islanded, interval: 0, region: '1'}]\n", "an interval ahead"),
        ("faults: [{kind: kill_validators, interval: 1}]\n", "kill_validators names validators"),
        ("faults: [{kind: line_outage, interval: 1, region: '1'}]\n", "line_outage names region and line"),
        ("faults: [{kind: line_outage, interval: 0, region: '1', line: '24'}]\n", "an interval ahead"),
        ("market: {fallback: hope}\n", "market.fallback"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as refused:
        read_scenario(written(tmp_path, LEAST + text))
    assert "scenario.yaml" in str(refused.value)


@pytest.mark.parametrize("name", ["day.yaml", "storage.yaml"])
def test_the_examples_can_be_read(name: str) -> None:
    scenario = read_scenario(EXAMPLES / name)
    assert scenario.case.is_dir()
    assert scenario.devices.meters >= 3000


def test_faults_begin_with_their_interval() -> None:
    kill = Fault(kind=FaultKind.KILL_VALIDATORS, interval=2, validators="alpha")
    silent = Fault(kind=FaultKind.SILENT, interval=3, region="1")
    assert faults_at((kill, silent), 2) == [kill]
    assert faults_at((kill, silent), 1) == []


def test_another_seed_is_another_scenario() -> None:
    one, other = (Scenario(name="day", case=Path("grid"), seed=seed) for seed in (0, 1))
    assert one.config_hash != other.config_hash
