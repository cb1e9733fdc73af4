"""Settings that all tests share: property tests draw the same examples everywhere and print what failed.

Tests that start several processes are marked as such: `make test` runs them one after another, so that what they wait
for depends on nothing but themselves, and all others on every core.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "gridaccord",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("gridaccord")


_ROOT = Path(__file__).parent
_STARTS_PROCESSES = (
    "actors/runner",
    "actors/sweep/test_sweeping.py",
    "actors/test_ray_cluster.py",
    "coordinator/service",
    "examples/test_notebooks.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts processes."""
    for item in items:
        if item.path.relative_to(_ROOT).as_posix().startswith(_STARTS_PROCESSES):
            item.add_marker(pytest.mark.processes)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Golden files are compared, or written anew: inspect the difference before committing it."""
    parser.addoption("--rewrite", action="store_true", help="write the golden traces anew instead of comparing them")
