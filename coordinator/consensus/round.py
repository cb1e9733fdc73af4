"""State of one view: the first proposal, this node's own votes, the tallies, the certificates."""

from __future__ import annotations

from coordinator.consensus.certificate import Certificate
from coordinator.consensus.messages import Proposal
from coordinator.consensus.signing import VoteKind
from coordinator.consensus.tally import Tally, Value


class Round:
    """One view. Own votes are restored from the journal before anything else; nothing ever clears them."""

    __slots__ = (
        "accused",
        "building",
        "certificates",
        "cleared_at_ns",
        "equivocated",
        "my_finalize",
        "my_notarize",
        "my_nullify",
        "paced",
        "payloads",
        "proposal",
        "tallies",
        "view",
    )

    def __init__(self, view: int) -> None:
        self.view = view
        self.proposal: Proposal | None = None
        self.equivocated = False
        self.building = False
        self.accused: dict[int, None] = {}
        """Validators against whom there is evidence already."""
        self.paced: dict[int, None] = {}
        """When this leader has asked to be woken."""
        self.payloads = 0
        """Payloads accepted from the leader before they were asked for."""
        self.my_notarize: Value | None = None
        self.my_nullify = False
        self.my_finalize: Value | None = None
        self.tallies: dict[VoteKind, Tally] = {}
        self.certificates: dict[VoteKind, Certificate] = {}
        self.cleared_at_ns: int | None = None
        """When this node learned that the view is over."""

    def tally(self, kind: VoteKind) -> Tally:
        """The tally of a kind of vote."""
        tally = self.tallies.get(kind)
        if tally is None:
            tally = self.tallies[kind] = Tally()
        return tally

    @property
    def notarization(self) -> Certificate | None:
        """The view's notarization."""
        return self.certificates.get(VoteKind.NOTARIZE)

    @property
    def nullification(self) -> Certificate | None:
        """The view's nullification."""
        return self.certificates.get(VoteKind.NULLIFY)

    @property
    def finalization(self) -> Certificate | None:
        """The view's finalization."""
        return self.certificates.get(VoteKind.FINALIZE)

    def own_votes(self) -> list[tuple[VoteKind, Value]]:
        """This node's votes in the order in which they can have been cast."""
        votes: list[tuple[VoteKind, Value]] = []
        if self.my_notarize is not None:
            votes.append((VoteKind.NOTARIZE, self.my_notarize))
        if self.my_nullify:
            votes.append((VoteKind.NULLIFY, NO_VALUE))
        if self.my_finalize is not None:
            votes.append((VoteKind.FINALIZE, self.my_finalize))
        return votes

    def record_own(self, kind: VoteKind, value: Value) -> None:
        """Remember an own vote."""
        if kind is VoteKind.NOTARIZE:
            self.my_notarize = value
        elif kind is VoteKind.NULLIFY:
            self.my_nullify = True
        else:
            self.my_finalize = value


NO_VALUE: Value = (0, bytes(32))
"""What a nullify vote is for."""
