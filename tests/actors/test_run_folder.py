"""The folder of a run: never overwritten, and what a later run goes on from is whole whenever a crash comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.runner.run_folder import RunFolder
from actors.scenario import Scenario
from coordinator.service.errors import ConfigurationError

SCENARIO = Scenario(name="day", case=Path("grid"), seed=3)


def begun(folder: Path) -> RunFolder:
    run = RunFolder(folder / "run")
    run.begin(SCENARIO)
    run.consortium.mkdir()
    return run


def test_a_folder_that_holds_anything_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "note.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="--resume"):
        RunFolder(tmp_path / "run").begin(SCENARIO)


def test_a_new_run_begins_at_the_first_interval_without_snapshots(tmp_path: Path) -> None:
    run = begun(tmp_path)
    assert run.progress().next_interval == 0
    assert run.snapshots("1", 2) == (b"", b"")
    assert run.manifest()["state"] == "running"


def test_it_goes_on_after_the_last_interval_that_was_kept(tmp_path: Path) -> None:
    run = begun(tmp_path)
    for number in range(3):
        run.keep(number, {"1": 10 * number}, {"1": (b"a%d" % number, b"b%d" % number)})
    assert run.progress().next_interval == 3
    assert run.progress().heights == {"1": 20}
    assert run.snapshots("1", 2) == (b"a2", b"b2")


def test_a_crash_between_snapshots_and_progress_does_the_interval_again(tmp_path: Path) -> None:
    run = begun(tmp_path)
    run.keep(0, {"1": 5}, {"1": (b"after 0",)})
    progress = (run.path / "progress.json").read_bytes()
    before = {path: path.read_bytes() for path in (run.path / "fleets").iterdir()}
    run.keep(1, {"1": 9}, {"1": (b"after 1",)})
    (run.path / "progress.json").write_bytes(progress)
    for path, data in before.items():
        path.write_bytes(data)
    assert run.snapshots("1", 1) == (b"after 0",)


def test_a_run_of_another_scenario_cannot_be_resumed(tmp_path: Path) -> None:
    run = begun(tmp_path)
    run.check(SCENARIO)
    with pytest.raises(ConfigurationError, match="another scenario"):
        run.check(SCENARIO.model_copy(update={"seed": 4}))


def test_a_run_that_ended_before_its_chains_began_cannot_be_resumed(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.begin(SCENARIO)
    with pytest.raises(ConfigurationError, match="start a new one"):
        run.check(SCENARIO)


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"manifest\.json"):
        RunFolder(tmp_path).check(SCENARIO)
