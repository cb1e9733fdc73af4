"""What was said on the hub about the interval under way, gathered from its final blocks by whoever follows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from coordinator.ledger.block import Block, decode_payload
from coordinator.ledger.codec import Reader
from coordinator.ledger.proofs import decode_event_proof
from coordinator.ledger.receipt import DONE, Receipt, decode_receipt
from coordinator.settlement.interval import confirmations
from coordinator.settlement.interval.confirmations import CONFIRM_HUB, decode_confirmation, digest_of
from coordinator.settlement.interval.decisions import HubMessage, decode_hub_message
from coordinator.settlement.interval.hub import INTERVAL_EVENT, MESSAGE
from coordinator.settlement.interval.topics import Step, Topic

_GATES_KEPT = 16


@dataclass
class Transcript:
    """Messages by topic. Those of an earlier attempt than the one spoken of are forgotten."""

    of_regions: dict[Topic, dict[bytes, bytes]] = field(default_factory=dict)
    """Each region's message on a topic, by its chain's id."""
    of_hub: dict[Topic, HubMessage] = field(default_factory=dict)
    """What a quorum of hub validators stands behind."""
    digests: dict[int, bytes] = field(default_factory=dict)
    """Of the last blocks' headers, by height."""
    _texts: dict[tuple[Step, str], bytes] = field(default_factory=dict)
    """The last that each validator proposed in a step: as on the chain, so that nobody fills memory."""

    @property
    def height(self) -> int:
        """Of the last block."""
        return next(reversed(self.digests), 0)

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
                self._take_text(signed.transaction.signer, content)
                self._take_statements(receipt)

    def _take_message(self, content: bytes) -> None:
        reader = Reader(content)
        proof, message = decode_event_proof(reader.raw(reader.uint32())), reader.rest()
        event = decode_receipt(proof.receipt).events[proof.event]
        topic, _ = confirmations.decode_event(event.payload)
        self._forget(topic)
        self.of_regions.setdefault(topic, {})[proof.certified.chain_id] = message

    def _take_text(self, signer: str, content: bytes) -> None:
        given = decode_confirmation(content)
        if given.message is not None:
            self._texts[given.topic.step, signer] = given.message

    def _take_statements(self, receipt: Receipt) -> None:
        for event in receipt.events:
            if event.kind != INTERVAL_EVENT:
                continue
            topic, digest = confirmations.decode_event(event.payload)
            text = next((text for text in self._texts.values() if digest_of(text) == digest), None)
            if text is not None:
                self.of_hub[topic] = decode_hub_message(text)

    def _forget(self, under_way: Topic) -> None:
        """A later attempt or interval has begun: what was said in earlier ones is over."""

        def is_over(topic: Topic) -> bool:
            return (topic.interval, topic.attempt) < (under_way.interval, under_way.attempt)

        for said in (self.of_regions, self.of_hub):
            for topic in tuple(filter(is_over, said)):
                del said[topic]
