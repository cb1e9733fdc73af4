"""A small sweep over the example."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.actors.support import EXAMPLE

PARAMETERS = {"batteries.west.energy_mwh": [400, 800], "study.tie_line_scale": [0.4]}
SEEDS = [1, 2, 3]


def sweep_file(folder: Path, **changes: object) -> Path:
    """Two values of one parameter and three seeds, over hours of the day with storage."""
    scenario = yaml.safe_load((EXAMPLE / "storage.yaml").read_text(encoding="utf-8"))
    scenario |= {"case": str(EXAMPLE / "2020-01-27"), "intervals": changes.pop("intervals", 2)}
    (folder / "base.yaml").write_text(yaml.safe_dump(scenario), encoding="utf-8")
    content = {"name": "small", "scenario": "base.yaml", "parameters": PARAMETERS, "seeds": SEEDS, **changes}
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path
