"""Settings that all tests share: property tests draw the same examples everywhere and print what failed."""

from __future__ import annotations

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


def pytest_addoption(parser: pytest.Parser) -> None:
    """Golden files are compared, or written anew: inspect the difference before committing it."""
    parser.addoption("--rewrite", action="store_true", help="write the golden traces anew instead of comparing them")
