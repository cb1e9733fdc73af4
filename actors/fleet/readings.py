"""What meters say: registers that only grow, clocks, ordinary lies, readings held back, and the columns they sign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from actors.fleet.devices import Devices, signer_of
from actors.fleet.plan import MILLION, FleetPlan, Lie
from coordinator.consensus.signing import Ed25519Signer
from coordinator.ledger.merkle import SALT_SIZE
from coordinator.ledger.readings import Column, MeterBatch, SignedColumn, sign_column
from coordinator.settlement.escrow.netting import WATT_SECONDS_PER_WH
from coordinator.settlement.interval.topics import Interval
from topology.arrays import BoolArray, IntArray

_SENTINEL_WH = 2**32 - 1
State = Mapping[str, IntArray]


class Habits:
    """Which devices lie or are late in an interval, by lot: of the households' meters, not of single ones."""

    def __init__(self, plan: FleetPlan, devices: Devices) -> None:
        self._plan = plan
        self._devices = devices
        self._lying = [self._liars(number) for number in range(len(plan.lying))]

    def lies(self, interval: Interval) -> IntArray:
        """The `Lie` of each device, 0 for the truth. Where several entries name a device the last one counts."""
        found = np.zeros(self._devices.count, dtype=np.int64)
        for entry, lies in zip(self._plan.lying, self._lying, strict=True):
            if entry.from_s <= interval.start_s < entry.until_s:
                found = np.where(lies > 0, lies, found)
        return found

    def late(self, interval: Interval) -> BoolArray:
        """Which devices hold their readings back."""
        found = np.zeros(self._devices.count, dtype=np.bool_)
        for number, entry in enumerate(self._plan.late):
            if entry.from_s <= interval.start_s < entry.until_s and interval != self._plan.intervals[-1]:
                found |= self._chosen(f"late/{number}/{interval.start_s}", entry.share_ppm)
        return found

    def _liars(self, number: int) -> IntArray:
        entry = self._plan.lying[number]
        kinds = np.array(entry.lies, dtype=np.int64)[self._drawn(f"lie/{number}") % len(entry.lies)]
        return np.where(self._chosen(f"lying/{number}", entry.share_ppm), kinds, 0)

    def _chosen(self, purpose: str, share_ppm: int) -> BoolArray:
        """A share of the households' meters."""
        several = np.array([len(meters) > 1 for meters in self._devices.meters_of_group], dtype=np.bool_)
        chosen: BoolArray = several[self._devices.group] & (self._drawn(purpose) % MILLION < share_ppm)
        return chosen

    def _drawn(self, purpose: str) -> IntArray:
        """A number for each device, which depends on its own group's name and its place there only."""
        parts = [
            np.frombuffer(self._plan.draw(purpose, meters[0], 8 * len(meters)), dtype=">u8") >> 1
            for meters in self._devices.meters_of_group
        ]
        return np.concatenate([np.zeros(0, dtype=np.int64), *parts]).astype(np.int64)


class Meters:
    """Registers of a shard's devices, and what they have not delivered yet.

    `remainder_ws` is energy below a watt-hour. `held` counts each device's undelivered readings; they are the last rows
    of `held_clock_ms` and `held_wh`. At first each device holds one: its register when the first interval starts.
    """

    def __init__(self, plan: FleetPlan, devices: Devices) -> None:
        self._plan = plan
        self._devices = devices
        self._habits = Habits(plan, devices)
        self.signers = [signer_of(plan, name) for name in devices.names]
        self.register_wh = devices.opening_wh.copy()
        self.remainder_ws = np.zeros(devices.count, dtype=np.int64)
        self.held = np.ones(devices.count, dtype=np.int64)
        self.held_clock_ms = (plan.intervals[0].start_s * 1000 + devices.clock_offset_ms)[np.newaxis]
        self.held_wh = devices.opening_wh[np.newaxis].copy()

    def measure(self, power_w: IntArray, interval: Interval, chain_id: bytes) -> MeterBatch | None:
        """Devices measure these powers all through an interval and sign; None where all of them are late."""
        lies, late, before_wh = self._habits.lies(interval), self._habits.late(interval), self.register_wh
        self._grow(np.where(lies == Lie.SLOW, power_w // 2, power_w), interval.duration_s)
        self._hold(lies, before_wh, interval)
        columns = self._signed(np.flatnonzero(~late).tolist(), lies.tolist(), interval, chain_id)
        self.held[~late] = 0
        rows = int(self.held.max(initial=0))
        self.held_clock_ms = self.held_clock_ms[len(self.held_clock_ms) - rows :]
        self.held_wh = self.held_wh[len(self.held_wh) - rows :]
        if not columns:
            return None
        lot = f"{columns[0].column.device}/{interval.start_s}"
        return MeterBatch(self._plan.draw("salt", lot, SALT_SIZE), tuple(columns))

    def _grow(self, power_w: IntArray, duration_s: int) -> None:
        grown_wh, self.remainder_ws = np.divmod(power_w * duration_s + self.remainder_ws, WATT_SECONDS_PER_WH)
        self.register_wh = self.register_wh + grown_wh

    def _hold(self, lies: IntArray, before_wh: IntArray, interval: Interval) -> None:
        """One more reading of each device, as it says it."""
        repeats, devices = lies == Lie.REPEATED, self._devices
        clock_ms = np.where(repeats, interval.start_s, interval.end_s) * 1000 + devices.clock_offset_ms
        shown_wh = np.select(
            [repeats, lies == Lie.SENTINEL, lies == Lie.BACKWARDS],
            [before_wh, np.full_like(before_wh, _SENTINEL_WH), 2 * devices.opening_wh - self.register_wh],
            self.register_wh,
        )
        self.held_clock_ms = np.vstack([self.held_clock_ms, clock_ms])
        self.held_wh = np.vstack([self.held_wh, shown_wh])
        self.held = self.held + 1

    def _signed(
        self, chosen: Sequence[int], lies: Sequence[int], interval: Interval, chain_id: bytes
    ) -> list[SignedColumn]:
        """A column of each chosen device: all that it holds, ending with this interval."""
        names, counts, duration_s = self._devices.names, self.held.tolist(), interval.duration_s
        clocks, registers = self.held_clock_ms.T.tolist(), self.held_wh.T.tolist()
        columns = []
        for device in chosen:
            count, name = counts[device], names[device]
            start_s = interval.end_s - count * duration_s
            said = tuple(clocks[device][-count:]), tuple(registers[device][-count:])
            signer = self.signers[device] if lies[device] != Lie.FORGED else _forger(self._plan, name)
            columns.append(sign_column(signer, chain_id, Column(name, start_s, duration_s, 0, *said)))
        return columns

    def state(self) -> State:
        """What `resume` takes."""
        names = ("register_wh", "remainder_ws", "held", "held_clock_ms", "held_wh")
        return {name: getattr(self, name) for name in names}

    def resume(self, state: State) -> None:
        """Go on from what `state` gave."""
        self.register_wh, self.remainder_ws, self.held = state["register_wh"], state["remainder_ws"], state["held"]
        self.held_clock_ms, self.held_wh = state["held_clock_ms"], state["held_wh"]


def _forger(plan: FleetPlan, name: str) -> Ed25519Signer:
    return Ed25519Signer(plan.draw("forged", name, 32))
