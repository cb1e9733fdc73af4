"""A run on a Ray cluster of several nodes: validators a node each, one of which goes away with its machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.cluster.ray_backend import RayBackend
from actors.results.run_folder import open_run
from actors.runner.driver import Driver
from actors.runner.events import Events, Value
from actors.runner.prepare import prepare
from actors.runner.run_folder import RunFolder
from actors.scenario import Cluster, Fault, FaultKind, Market, Scenario
from coordinator.ledger.misconduct import offences

CASE = Path(__file__).parents[2] / "examples" / "rts_gmlc" / "2020-01-27"
ORGANIZATIONS = ("alpha", "bravo", "charlie", "delta")
_NOTICED_FAST = {"health_check_period_ms": 500, "health_check_timeout_ms": 500, "health_check_failure_threshold": 6}


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Five nodes: one more than there are processes with validators."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    from ray.cluster_utils import Cluster as RayCluster

    started = RayCluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "include_dashboard": False, "_system_config": dict(_NOTICED_FAST)},
    )
    for _ in ORGANIZATIONS:
        started.add_node(num_cpus=2)
    yield started
    started.shutdown()


def test_a_node_of_the_cluster_is_lost_with_its_validators_and_the_run_goes_on(cluster: Any, tmp_path: Path) -> None:
    scenario = Scenario(
        name="lost node",
        case=CASE,
        intervals=3,
        organizations=ORGANIZATIONS,
        devices={"meters": 210},  # type: ignore[arg-type]
        cluster=Cluster(address=cluster.address, spread=True),
    )
    folder = RunFolder(tmp_path / "run")
    run = prepare(scenario, folder, resume=False)
    backend = RayBackend(scenario.cluster, folder.logs)
    ended: list[Mapping[str, Value]] = []
    lost: list[str] = []

    def heard(kind: str, fields: Mapping[str, Value]) -> None:
        if kind != "interval_ended":
            return
        ended.append(fields)
        if len(ended) == 1:
            here = ray.get_runtime_context().get_node_id()
            name, place = next(item for item in backend.places().items() if item[1] != here)
            lost.append(name)
            cluster.remove_node(
                next(node for node in cluster.list_all_nodes() if node.node_id == place), allow_graceful=False
            )

    with Events(folder.events, heard) as events:
        asyncio.run(Driver(run, backend, events).go())
    assert [fields["number"] for fields in ended] == [0, 1, 2]
    assert all(fields["alone"] == [] for fields in ended)
    starts = (folder.logs / f"{lost[0]}.log").read_text(encoding="utf-8").count('"event": "opened"')
    assert starts == 2 * len(open_run(folder.path).chains)


def test_with_fewer_nodes_than_processes_nothing_starts_and_the_reason_is_said(tmp_path: Path) -> None:
    scenario = Scenario(name="crowded", case=CASE, intervals=1, cluster=Cluster(spread=True))
    backend = RayBackend(scenario.cluster, tmp_path)
    homes = dict.fromkeys(ORGANIZATIONS, tmp_path)
    from coordinator.service.errors import ServiceError

    async def start_and_stop() -> None:
        try:
            await backend.start(homes, ())
        finally:
            await backend.stop()

    with pytest.raises(ServiceError, match=r"want a node each, 1 are there; add nodes, or leave out cluster\.spread"):
        asyncio.run(start_and_stop())


def test_an_organization_that_equivocates_and_a_region_that_is_silent_stop_nobody(tmp_path: Path) -> None:
    equivocates = Fault(kind=FaultKind.BYZANTINE, interval=1, validators="delta")
    silent = Fault(kind=FaultKind.SILENT, interval=1, region="2")
    scenario = Scenario(
        name="byzantine",
        case=CASE,
        intervals=3,
        devices={"meters": 210},  # type: ignore[arg-type]
        market=Market(step_blocks=20),
        faults=(equivocates, silent),
    )
    folder = RunFolder(tmp_path / "run")
    run = prepare(scenario, folder, resume=False)
    backend = RayBackend(scenario.cluster, folder.logs)
    ended: list[object] = []

    def heard(kind: str, fields: Mapping[str, Value]) -> None:
        if kind == "interval_ended":
            ended.append(fields["alone"])

    with Events(folder.events, heard) as events:
        asyncio.run(Driver(run, backend, events).go())
    assert ended == [[], ["2"], []]
    record = open_run(folder.path)
    convicted = [chain.name for chain in (record.hub, *record.regions) if offences(chain.view(), "delta-validator")]
    assert convicted
    assert not any(
        offences(chain.view(), f"{name}-validator") for chain in record.regions for name in ORGANIZATIONS[:3]
    )
