"""Golden traces of whole networks in `traces/*.txt`; `pytest --rewrite` writes them anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.coordinator.consensus import golden
from tests.coordinator.consensus.trace import TraceScript

FILES = sorted((Path(__file__).parent / "traces").glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_trace(path: Path, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--rewrite"):
        golden.rewrite(path, lambda: TraceScript().run)
        return
    for case in golden.parse(path.read_text(encoding="utf-8")):
        script = TraceScript()
        for block in case.blocks:
            assert script.run(block.commands) == block.output, f"{path.name}: {case.title}\n{block.commands}"


def test_there_are_many() -> None:
    assert len(FILES) >= 30
