"""Consortia that tests share: one of four nodes, which they leave as they found it; each starts in one worker only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import yaml

from benchmarks.cluster import ORGANIZATIONS, Cluster, free_ports

HERE = "tests/coordinator/service"
PACE = {"delay_ms": 50, "heartbeat_ms": 100}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share a fixture of this folder run in one worker (`--dist loadgroup`): each would start its own."""
    for item in (one for one in items if isinstance(one, pytest.Function)):
        for name, definitions in item._fixtureinfo.name2fixturedefs.items():
            shared = definitions[-1]
            if shared.scope in ("module", "session") and shared.baseid.startswith(HERE):
                item.add_marker(pytest.mark.xdist_group(f"{shared.baseid}:{name}"))


@pytest.fixture(scope="session")
def quartet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Four nodes that finalize; alpha has a Prometheus page."""
    cluster = Cluster(tmp_path_factory.mktemp("quartet"), pace=PACE, epoch_length=1_000_000)
    path = cluster.home("alpha") / "node.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["metrics"] = f"127.0.0.1:{free_ports(1)[0]}"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    try:
        for name in ORGANIZATIONS:
            cluster.start(name)
        asyncio.run(cluster.ready())
        yield cluster
    finally:
        cluster.__exit__(None, None, None)
