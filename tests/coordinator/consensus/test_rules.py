"""Every rule, as cases in `rules/*.txt`: inputs to one core, and exactly the effects that follow."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.coordinator.consensus import golden
from tests.coordinator.consensus.script import Script

FILES = sorted((Path(__file__).parent / "rules").glob("*.txt"))
CASES = [(path, case) for path in FILES for case in golden.parse(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("path", "case"), CASES, ids=[f"{path.stem}: {case.title}" for path, case in CASES])
def test_rule(path: Path, case: golden.Case, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--rewrite"):
        golden.rewrite(path, lambda: Script().run)
        return
    script = Script()
    for block in case.blocks:
        assert script.run(block.commands) == block.output, f"{path.name}: {case.title}\n{block.commands}"


def test_every_rule_has_cases_and_they_are_many() -> None:
    named = [rule for _, case in CASES for rule in case.rules]
    for rule in (f"R{number}" for number in range(1, 14)):
        assert named.count(rule) >= 4, f"{rule} has fewer than 4 cases"
    assert len(CASES) >= 150


def test_every_case_names_its_rule() -> None:
    assert [case.title for _, case in CASES if not case.rules] == []


def test_titles_are_unique() -> None:
    titles = [case.title for _, case in CASES]
    assert len(titles) == len(set(titles))
