"""What was said on the hub about the interval under way, gathered from its final blocks by whoever follows it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from coordinator.ledger.block import Block, decode_payload
from coordinator.ledger.codec import Reader
from coordinator.ledger.proofs import decode_event_proof
from coordinator.ledger.receipt import DONE, Receipt, decode_receipt
from coordinator.settlement.interval import confirmations
from coordinator.settlement.interval.confirmations import CONFIRM_HUB, decode_confirmation
from coordinator.settlement.interval.decisions import HubMessage, decode_hub_message
from coordinator.settlement.interval.hub import INTERVAL_EVENT, MESSAGE
from coordinator.settlement.interval.topics import Interval, Topic

_GATES_KEPT = 16


@dataclass
class Transcript:
    """Messages by topic. Those of an earlier interval than the one spoken of are forgotten."""

    of_regions: dict[Topic, dict[bytes, bytes]] = field(default_factory=dict)
    """Each region's message on a topic, by its chain's id."""
    of_hub: dict[Topic, HubMessage] = field(default_factory=dict)
    """What a quorum of hub validators stands behind."""
    digests: dict[int, bytes] = field(default_factory=dict)
    """Of the last blocks' headers, by height."""
    _texts: dict[bytes, bytes] = field(default_factory=dict)

    def add(self, block: Block, receipts: Sequence[Receipt]) -> None:
        """The next final block of the hub."""
        self.digests[block.header.height] = block.header.digest
        if len(self.digests) > _GATES_KEPT:
            del self.digests[next(iter(self.digests))]
        for signed, receipt in zip(decode_payload(block.payload), receipts, strict=False):
            kind, content = signed.transaction.kind, signed.transaction.content
            if receipt.code != DONE:
                continue
            if kind == MESSAGE:
                self._take_message(content)
            elif kind == CONFIRM_HUB:
                self._take_text(content)
                self._take_statements(receipt)

    def _take_message(self, content: bytes) -> None:
        reader = Reader(content)
        proof, message = decode_event_proof(reader.raw(reader.uint32())), reader.rest()
        event = decode_receipt(proof.receipt).events[proof.event]
        topic, _ = confirmations.decode_event(event.payload)
        self._forget(topic.interval)
        self.of_regions.setdefault(topic, {})[proof.certified.chain_id] = message

    def _take_text(self, content: bytes) -> None:
        given = decode_confirmation(content)
        if given.message is not None:
            self._texts[given.digest] = given.message

    def _take_statements(self, receipt: Receipt) -> None:
        for event in receipt.events:
            if event.kind != INTERVAL_EVENT:
                continue
            topic, digest = confirmations.decode_event(event.payload)
            text = self._texts.get(digest)
            if text is not None:
                self.of_hub[topic] = decode_hub_message(text)

    def _forget(self, interval: Interval) -> None:
        """A later interval has begun: what was said in earlier ones is over."""
        if all(topic.interval >= interval for topic in (*self.of_regions, *self.of_hub)):
            return
        self.of_regions = {topic: said for topic, said in self.of_regions.items() if topic.interval >= interval}
        self.of_hub = {topic: said for topic, said in self.of_hub.items() if topic.interval >= interval}
        self._texts = {}


def digest_of(message: bytes) -> bytes:
    """What stands for a message in confirmations and events."""
    return hashlib.sha256(message).digest()
