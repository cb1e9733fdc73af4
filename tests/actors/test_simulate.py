"""`gridaccord simulate`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordinator.consensus import validators
from tests.actors.support import gridaccord


def test_one_json_object_with_the_totals() -> None:
    document = gridaccord("simulate", "--seeds", "3", "--json", "--quiet").json
    assert document["seeds"] == 3
    assert document["events"] > 3 * 1000
    assert document["finalized"] > 0
    assert (document["safety_failures"], document["liveness_failures"]) == (0, 0)
    assert document["first_failing_seed"] is None
    assert document["faults"] == ["network", "crash", "disk", "byzantine"]
    assert sum(document["code"].values()) == 3


def test_one_line_a_seed_and_a_line_of_totals() -> None:
    ran = gridaccord("simulate", "--seeds", "2", "--start-seed", "5", "--validators", "4", "--faults", "network,crash")
    lines = ran.out.splitlines()
    assert ran.code == 0
    assert [line.split()[0] for line in lines[:2]] == ["seed=5", "seed=6"]
    assert all(line.endswith(" ok") for line in lines[:2])
    assert lines[2].startswith("2 seeds, ")


def test_several_regions_settle_with_each_other() -> None:
    document = gridaccord("simulate", "--regions", "2", "--seeds", "1", "--json", "--quiet").json
    assert document["settlements"] > 0
    assert document["first_failing_seed"] is None


def test_processes_give_the_same_lines_in_the_same_order() -> None:
    one = gridaccord("simulate", "--seeds", "6", "--faults", "none")
    two = gridaccord("simulate", "--seeds", "6", "--faults", "none", "--jobs", "2")
    assert two.out.splitlines()[:6] == one.out.splitlines()[:6]


def test_a_trace_is_replayed_by_the_command_in_its_first_line() -> None:
    first = gridaccord("simulate", "--trace", "3", "--validators", "4", "--faults", "network,crash")
    assert first.code == 0
    head = first.out.splitlines()[0]
    assert head == "# gridaccord simulate --regions 1 --validators 4 --faults network,crash --trace 3"
    again = gridaccord(*head.removeprefix("# gridaccord ").split())
    assert again.out == first.out
    assert "# effects   number of effects that the core asked for" in first.out
    assert first.out.splitlines()[-1].startswith("# SHA-256 ")


def test_seeds_in_the_file_are_not_run_again(tmp_path: Path) -> None:
    file = tmp_path / "seeds.jsonl"
    common = ("simulate", "--validators", "4", "--resume", file, "--json", "--quiet")
    first = gridaccord(*common, "--seeds", "3").json
    stamped = file.read_text().splitlines()
    with file.open("a") as stream:
        stream.write('{"seed": 3, "ev')
    more = gridaccord(*common, "--seeds", "4").json
    assert file.read_text().splitlines()[:4] == stamped
    assert len(file.read_text().splitlines()) == 5
    assert more["seeds"] == 4
    assert more["events"] > first["events"]
    assert json.loads(stamped[0]) == {"regions": 1, "validators": 4, "faults": first["faults"]}


def test_a_file_of_other_settings_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "seeds.jsonl"
    gridaccord("simulate", "--seeds", "1", "--faults", "none", "--resume", file)
    ran = gridaccord("simulate", "--seeds", "1", "--resume", file)
    assert ran.code == 2
    assert "give a new file" in ran.err


def test_an_unknown_fault_is_a_wrong_option() -> None:
    ran = gridaccord("simulate", "--faults", "fire")
    assert ran.code == 2
    assert "there is no fault 'fire'" in ran.err


def test_a_failure_is_told_and_the_exit_code_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validators, "quorum", lambda size: size - validators.max_faulty(size) - 1)
    ran = gridaccord("simulate", "--seeds", "2", "--json", "--quiet")
    assert ran.code == 1
    document = json.loads(ran.out)
    assert document["safety_failures"] == 2
    assert document["first_failing_seed"] == 0
    failure = document["failures"][0]["failure"]
    assert failure.startswith("seed 0, t=")
    assert "no quorum of distinct signers" in failure


@pytest.mark.parametrize("content", ["not: yaml: [\n", "dear diary", '{"seeds": 3}\n', "[]\n"])
def test_a_file_that_is_no_result_file_is_refused_and_kept(content: str, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text(content)
    ran = gridaccord("simulate", "--seeds", "1", "--faults", "none", "--resume", str(file))
    assert ran.code == 2
    assert "Traceback" not in ran.err
    assert file.read_text() == content


def test_a_line_that_is_no_outcome_is_named(tmp_path: Path) -> None:
    file = tmp_path / "seeds.jsonl"
    gridaccord("simulate", "--seeds", "1", "--faults", "none", "--resume", str(file))
    with file.open("a") as stream:
        stream.write('{"seed": 7}\n')
    ran = gridaccord("simulate", "--seeds", "2", "--faults", "none", "--resume", str(file))
    assert ran.code == 2
    assert "line 3" in ran.err
