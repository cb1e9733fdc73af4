"""Settings that all tests share: property tests draw the same examples everywhere and print what failed."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "gridaccord",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("gridaccord")
