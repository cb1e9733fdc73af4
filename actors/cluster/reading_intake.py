"""What a gateway lets pass of its devices' readings: one broken meter must not keep the others' from the chain.

A node refuses a batch whole and names one device. So a gateway leaves out what breaks the order of a device's own
readings before it sends, and what the node names after; it checks the signatures of those that were refused before,
and of all when a node has found a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from coordinator.consensus.signing import Ed25519Scheme
from coordinator.ledger.errors import ReadingsRefused
from coordinator.ledger.readings import (
    Reading,
    ReadingRules,
    SignedColumn,
    check_column,
    check_signature,
)


class _Latest:
    """The last reading of each device; an index as the checks of columns want it."""

    def __init__(self) -> None:
        self._latest: dict[str, Reading] = {}

    def add(self, reading: Reading) -> None:
        """In order of time for each device."""
        self._latest[reading.device] = reading

    def before(self, device: str, start_s: int) -> Reading | None:
        """The last reading whose interval starts before."""
        found = self._latest.get(device)
        return found if found is not None and found.start_s < start_s else None

    def between(self, device: str, start_s: int, end_s: int) -> Sequence[Reading]:
        """Those whose interval starts in [start, end)."""
        found = self._latest.get(device)
        return [found] if found is not None and start_s <= found.start_s < end_s else []

    def after(self, device: str, start_s: int) -> Reading | None:
        """The first whose interval starts at this time or later."""
        found = self._latest.get(device)
        return found if found is not None and found.start_s >= start_s else None


@dataclass(frozen=True, slots=True)
class RefusedReading:
    """Which device's column was left out, and why."""

    device: str
    reason: str


class ReadingIntake:
    """Of one gateway. `device_key` is the public key by which a device is registered."""

    def __init__(self, chain_id: bytes, device_key: Callable[[str], bytes | None]) -> None:
        self._chain_id = chain_id
        self._device_key = device_key
        self._rules = ReadingRules(late_limit_s=2**40)
        self._latest = _Latest()
        self._suspects: set[str] = set()
        self._scheme = Ed25519Scheme()

    def sift(
        self, columns: Sequence[SignedColumn], now_s: int
    ) -> tuple[tuple[SignedColumn, ...], list[RefusedReading]]:
        """What may be sent, and what is left out. `now_s` is the clock's time."""
        passed, refused = [], []
        for signed in columns:
            device = signed.column.device
            try:
                if device in self._suspects:
                    self._check_signature(signed)
                check_column(signed.column, self._latest, self._rules, now_s)
                passed.append(signed)
            except ReadingsRefused as error:
                refused.append(RefusedReading(device, str(error)))
        return tuple(passed), refused

    def delivered(self, columns: Sequence[SignedColumn]) -> None:
        """These are final."""
        for signed in columns:
            *_, last = signed.column.readings()
            self._latest.add(last)

    def blamed(self, columns: Sequence[SignedColumn], refusal: str) -> list[RefusedReading]:
        """The device that a node's refusal names, from now on a suspect; nothing where it is about none of these.

        A node names one at a time. So where that one's signature is wrong all others are checked here, and those that
        are wrong too are blamed with it: the batch travels once more, and not once for each of them.
        """
        about = [signed for signed in columns if _names(refusal, signed.column.device)]
        named = max(about, key=lambda signed: len(signed.column.device), default=None)
        if named is None:
            return []
        forged = self._forged(columns) if self._forged([named]) else []
        found = forged or [RefusedReading(named.column.device, refusal)]
        self._suspects.update(one.device for one in found)
        return found

    def _forged(self, columns: Sequence[SignedColumn]) -> list[RefusedReading]:
        found = []
        for signed in columns:
            try:
                self._check_signature(signed)
            except ReadingsRefused as error:
                found.append(RefusedReading(signed.column.device, str(error)))
        return found

    def _check_signature(self, signed: SignedColumn) -> None:
        check_signature(signed, self._device_key(signed.column.device), self._chain_id, self._scheme)


def _names(refusal: str, device: str) -> bool:
    return f" {device}:" in f" {refusal}" or f" {device}," in f" {refusal}"
