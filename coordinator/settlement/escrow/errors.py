"""Errors of the escrow protocol. Each names the rule that refused and the remedy."""

from __future__ import annotations

from coordinator.ledger.errors import Contradiction


class EscrowRefused(ValueError):
    """An input that a rule refuses: nothing changed. `rule` is its id in the package's docstring."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(f"{rule}: {reason}")
        self.rule = rule


class RegionHalted(Contradiction):
    """A hub event contradicts this region's state.

    Where both are final, more than f validators of a chain lied: the region must stop and its operators compare the
    proofs; no rule can repair it. A node that lags, or a block on a parent that will not be final, meets this with
    a decision of which the YES is not in its state yet, or never will be: then the event waits.
    """


class InvariantViolated(AssertionError):
    """An invariant I1-I10 does not hold; `name` is its number."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
