"""Runs that tests read: made once a session, since every hour is coupled for it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.actors.run_folders import RunMaker, write_events


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hours: the load's meter is read late in the first, the hub goes on without region 2 in the second."""
    maker = RunMaker.of(3)
    maker.couple(0)
    maker.read_late(0)
    maker.couple(1, without=1)
    maker.couple(2)
    run = maker.write(tmp_path_factory.mktemp("runs") / "three hours <&>")
    first = datetime.fromtimestamp(maker.day[0][0].start_s, UTC).isoformat()
    phases = {"offers": 0.5, "coupling": 2.0, "dispatch": 0.25, "readings": 1.0}
    write_events(
        run,
        [
            {"at": "2030-03-17T18:00:00+00:00", "elapsed_s": 0.0, "kind": "run_started"},
            {"at": "2030-03-17T18:00:01+00:00", "elapsed_s": 1.0, "kind": "interval_opened", "interval": first,
             "number": 0},
            {"at": "2030-03-17T18:00:30+00:00", "elapsed_s": 30.0, "kind": "refused_readings", "region": "1",
             "device": "m-7", "reason": "register of 5 Wh runs backwards"},
            {"at": "2030-03-17T18:00:31+00:00", "elapsed_s": 31.0, "kind": "refused_readings", "region": "1",
             "device": "m-8", "reason": "register of 77 Wh runs backwards"},
            {"at": "2030-03-17T18:00:40+00:00", "elapsed_s": 40.0, "kind": "interval_ended", "interval": first,
             "seconds": 4.5, "phases": phases},
            {"at": "2030-03-17T18:01:00+00:00", "elapsed_s": 60.0, "kind": "fault", "fault": "region silent",
             "target": "2", "number": 0, "intervals": 1},
            {"at": "2030-03-17T18:02:00+00:00", "elapsed_s": 120.0, "kind": "recovered", "fault": "region silent",
             "target": "2"},
        ],
    )  # fmt: skip
    return run


@pytest.fixture
def optima() -> list[float]:
    """The central optimum of each hour, in micro-units per hour."""
    return [float(hour[2]) for hour in RunMaker.of(3).day]
