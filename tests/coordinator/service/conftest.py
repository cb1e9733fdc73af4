"""A consortium of four nodes that files of tests share: they leave it as they found it, with all four running."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import yaml

from actors.ports import free_ports
from benchmarks.cluster import ORGANIZATIONS, Cluster

PACE = {"delay_ms": 50, "heartbeat_ms": 100}


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
