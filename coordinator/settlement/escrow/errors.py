"""Errors of the escrow protocol. Each names the rule that refused and the remedy."""

from __future__ import annotations


class EscrowRefused(ValueError):
    """An input that a rule refuses: nothing changed. `rule` is its id in the package's docstring."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(f"{rule}: {reason}")
        self.rule = rule


class RegionHalted(RuntimeError):
    """Finalized hub events contradict this region's finalized state: more than f validators of a chain lied.

    The region's chain must stop and its operators compare the proofs; no rule can repair it.
    """


class InvariantViolated(AssertionError):
    """An invariant I1-I10 does not hold; `name` is its number."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
