"""Does a run tell that validators are not there?"""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from actors.cluster import node_calls
from actors.cluster.node_calls import NodeCalls
from benchmarks.cluster import CHAIN, Cluster


def test_a_chain_is_ready_without_a_node_that_cannot_start_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: a run went through with three of four validators of each chain, without a word."""

    async def absent(cluster: Cluster) -> tuple[str, ...]:
        calls = NodeCalls(cluster.home("alpha"), CHAIN)
        try:
            return await calls.ready()
        finally:
            await calls.close()

    with Cluster(tmp_path) as cluster:
        assert asyncio.run(absent(cluster)) == ()
        cluster.kill("delta")
        monkeypatch.setattr(node_calls, "_GATHER_S", 1.0)
        assert asyncio.run(absent(cluster)) == ("delta",)


def test_the_log_of_a_node_whose_port_is_taken_says_so(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster, socket.socket() as taken:
        cluster.kill("delta")
        taken.bind(("127.0.0.1", cluster.ports["delta"]))
        taken.listen()
        cluster.start("delta")
        assert cluster.processes["delta"].wait(30) != 0
        events = [json.loads(line) for line in cluster.log("delta").splitlines() if line.startswith("{")]
        (last,) = (event for event in events if event["level"] == "error")
        assert last["event"] == "failed"
        assert str(cluster.ports["delta"]) in last["reason"]
