"""What one hub validator does for the intervals: follows the chain, and says which transactions it owes. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.ledger.block import Block
from coordinator.ledger.receipt import Receipt
from coordinator.ledger.registry import CURRENT, committee
from coordinator.ledger.view import View
from coordinator.market.coupling.public_outcome import PublicOutcome
from coordinator.market.coupling.silent_region import SilentRegion
from coordinator.settlement.interval.confirmations import (
    CONFIRM_HUB,
    Confirmation,
    confirmed_by,
    digest_of,
    proposal,
    proposals,
)
from coordinator.settlement.interval.following import follow_attempt, has_passed
from coordinator.settlement.interval.hub_books import HubIntervals
from coordinator.settlement.interval.hub_party import GateClosure, HubKnowledge, HubParty
from coordinator.settlement.interval.hub_state import Running
from coordinator.settlement.interval.topics import HUB_STEPS, Step, Topic
from coordinator.settlement.interval.transcript import Transcript
from coordinator.settlement.interval.turns import is_turn

Request = tuple[str, bytes]
"""Kind and content of a transaction that a validator owes."""


class HubDuty:
    """One validator's part in the hub's decisions on intervals."""

    def __init__(self, me: str, known: HubKnowledge) -> None:
        self._me = me
        self._transcript = Transcript()
        self._party = HubParty(known)
        self._attempt: Topic | None = None
        self._beacon: tuple[bytes, bytes] = (b"", b"")
        self._proposed: dict[Topic, bytes] = {}
        self._judged: dict[tuple[Topic, bytes], bool] = {}

    @property
    def fault(self) -> str:
        """Why this validator sits out; empty while it does not."""
        return self._party.fault

    @property
    def outcome(self) -> PublicOutcome | None:
        """What the attempt under way, or the last one, came to; None until a quorum has agreed."""
        return self._party.outcome

    @property
    def stand_ins(self) -> tuple[SilentRegion, ...]:
        """Of the regions that the session under way, or the last one, goes on without."""
        return self._party.stand_ins

    def on_block(self, block: Block, receipts: Sequence[Receipt], view: View) -> None:
        """The next final block, and the state after it."""
        self._transcript.add(block, receipts)
        books = HubIntervals.of(view)
        running = books.running
        attempt = follow_attempt(self._attempt, running)
        if attempt is not None and attempt != self._attempt and running is not None:
            self._attempt, self._proposed, self._judged = attempt, {}, {}
            self._party.begin(attempt, books.is_cold(running), books.ties_out(running.interval))
        if running is not None:
            self._keep_beacon(running)
        self._follow(books, running)

    def _follow(self, books: HubIntervals, running: Running | None) -> None:
        party, transcript = self._party, self._transcript
        while (topic := party.awaits) is not None:
            if topic.step in HUB_STEPS:
                if topic not in transcript.of_hub:
                    return
                party.hear_hub(topic, transcript.of_hub[topic])
            elif not has_passed(topic, running):
                return
            elif topic.step is Step.COMMIT:
                self._close_gate(books, topic, running)
            else:
                party.hear_regions(topic, self._said(books, topic))

    def _keep_beacon(self, running: Running) -> None:
        """At once: a later attempt may take longer than digests are kept."""
        about = running.interval.encode()
        if running.gate_height and self._beacon[0] != about:
            self._beacon = (about, self._transcript.digests.get(running.gate_height, b""))

    def _close_gate(self, books: HubIntervals, topic: Topic, running: Running | None) -> None:
        if running is None or self._beacon[0] != topic.interval.encode() or not self._beacon[1]:
            self._party.sit_out("the gate closed before this node followed the chain")
            return
        closure = GateClosure(running.excluded, self._beacon[1], books.held())
        self._party.close_gate(topic, self._said(books, topic), closure)

    def _said(self, books: HubIntervals, topic: Topic) -> dict[int, bytes]:
        said = self._transcript.of_regions.get(topic, {})
        return {number: said[chain] for number, chain in enumerate(books.chains()) if chain in said}

    def owed(self, view: View) -> list[Request]:
        """What this validator should say now: its verdict on what others propose, or a proposal in its turn."""
        books = HubIntervals.of(view)
        running = books.running
        if running is None or running.topic.step not in HUB_STEPS or self._party.awaits != running.topic:
            return []
        topic, names = running.topic, committee(view, CURRENT).names
        if self._me not in names:
            return []
        standing = confirmed_by(books.records, topic)
        good = {digest_of(text) for text in proposals(books.records, topic).values() if self._agrees(topic, text)}
        if good:
            support = list(standing.values())
            best = max(sorted(good), key=support.count)
            return [] if standing.get(self._me) == best else [_request(Confirmation(topic, best))]
        waited = max(0, self._transcript.height - running.since_height)
        if not is_turn(topic.encode(), names, self._me, waited):
            return []
        text = self._proposal(topic)
        return [] if text is None or standing.get(self._me) == digest_of(text) else [_request(proposal(topic, text))]

    def _agrees(self, topic: Topic, text: bytes) -> bool:
        """By topic: what was right in one round is not in the next, and anyone can say it again."""
        key = topic, digest_of(text)
        if key not in self._judged:
            self._judged[key] = text == self._proposed.get(topic) or self._party.agrees(topic, text)
        return self._judged[key]

    def _proposal(self, topic: Topic) -> bytes | None:
        if topic not in self._proposed:
            text = self._party.propose(topic)
            if text is None:
                return None
            self._proposed[topic] = text
        return self._proposed[topic]


def _request(given: Confirmation) -> Request:
    return CONFIRM_HUB, given.encode()
