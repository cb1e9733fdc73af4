"""What a run can end with. The message says what broke; the simulation adds seed, time, chain and node."""

from __future__ import annotations


class SafetyFailure(AssertionError):
    """Something that must never happen has happened."""


class LivenessFailure(AssertionError):
    """Something that must happen once the network is healed has not happened within its bound."""
