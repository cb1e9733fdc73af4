"""From meters to energy: whose meter counts, and what no meter can show."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from coordinator.ledger.readings import Reading
from coordinator.ledger.registry import add_device
from coordinator.service.metering import metered, meters
from coordinator.settlement.interval.region import Position
from coordinator.settlement.interval.schedules import Metered
from tests.coordinator.settlement.test_interval_hub import HOUR, Net

INJECTED, WITHDRAWN = "unit-A.injected", "unit-A.withdrawn"


@dataclass(frozen=True)
class Registers:
    """What meters show at both ends of the hour."""

    energy_wh: dict[str, int]

    def before(self, device: str, start_s: int) -> Reading | None:
        """At its start."""
        return Reading(device, start_s - 3600, 3600, 0, 0, 0)

    def between(self, device: str, start_s: int, end_s: int) -> Sequence[Reading]:
        """At its end."""
        return [Reading(device, start_s, end_s - start_s, 0, 0, self.energy_wh[device])]

    def after(self, device: str, start_s: int) -> Reading | None:
        """Nothing follows."""
        return None


@pytest.mark.parametrize(("registered_by", "energy_wh"), [("alice", 9), ("bob", 5)])
def test_only_a_device_that_the_owner_of_a_resource_registered_is_its_meter(registered_by: str, energy_wh: int) -> None:
    view = Net().regions["A"].state.view
    add_device(view, INJECTED, registered_by, "alice", hashlib.sha256(b"meter").digest())
    rows = metered(Registers({INJECTED: 9}), meters(view), HOUR, {"unit-A": Position(5, 0)})
    assert rows == [Metered("unit-A", energy_wh, substituted=registered_by != "alice")]


@pytest.mark.parametrize("meter", [INJECTED, WITHDRAWN])
def test_a_meter_that_shows_what_no_resource_can_do_is_as_silent(meter: str) -> None:
    rows = metered(Registers({meter: 2**62}), meter.__eq__, HOUR, {"unit-A": Position(5, 0)})
    assert rows == [Metered("unit-A", 5, substituted=True)]
