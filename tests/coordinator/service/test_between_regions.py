"""Money between regions: three regions and their hub, each with four validators, in four processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from benchmarks.cluster import gridaccord
from tests.coordinator.service.consortium_harness import ORGANIZATIONS, OWNED, Consortium


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    with Consortium(tmp_path_factory.mktemp("regions")) as consortium:
        asyncio.run(consortium.ready())
        yield consortium


def test_a_payment_between_regions_commits(running: Consortium) -> None:
    paid = gridaccord(
        *("pay", running.home("beta"), "--from", "north", "--to", "south:gamma"),
        *("--asset", "EUR", "--amount", "250000", "--wait", "--json"),
    )
    assert json.loads(paid.stdout)["state"] == "commit"
    asyncio.run(running.rest())
    for name in ORGANIZATIONS:
        assert running.balance(name, "north", "beta") == OWNED - 250000
        assert running.balance(name, "south", "gamma") == OWNED + 250000
    running.audit_all()
