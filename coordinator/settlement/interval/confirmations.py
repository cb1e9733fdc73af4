"""A quorum of a chain's validators stands behind a message: statements, which others may rely on.

What a validator computes with floats (an optimum, a boundary state, a schedule) cannot be recomputed by a state
machine. So one validator proposes its message, the others verify it as they can, and confirm its digest; with a quorum
of them the message is stated. The state machine counts; it never judges numbers that are not integers.

Key                    entry
said/<step><name>      the topic and digest that a validator confirmed last in this step
text/<step><name>      the topic and message that it proposed last

One entry a validator and step: whoever confirms nonsense fills nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from coordinator.consensus.errors import DecodeError
from coordinator.ledger.codec import Reader, Writer
from coordinator.ledger.errors import Rejected
from coordinator.ledger.registry import CURRENT, committee
from coordinator.ledger.view import Context, Records
from coordinator.settlement.interval.topics import TOPIC_BYTES, Step, Topic, read_topic

CONFIRM_HUB, CONFIRM_REGION = "confirm_hub", "confirm_region"
DIGEST_BYTES = 32
MESSAGE_MAX = 2**20 - 2**10
_SAID, _TEXT = b"said/", b"text/"


def digest_of(message: bytes) -> bytes:
    """What stands for a message in confirmations and events."""
    return hashlib.sha256(message).digest()


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A validator stands behind the message with this digest; who proposes the message gives it too."""

    topic: Topic
    digest: bytes
    message: bytes | None = None

    def encode(self) -> bytes:
        """The content of a `confirm_hub` or `confirm_region` transaction."""
        head = self.topic.encode() + self.digest
        return head + (b"\x00" if self.message is None else b"\x01" + self.message)


def proposal(topic: Topic, message: bytes) -> Confirmation:
    """The confirmation of one's own message."""
    return Confirmation(topic, digest_of(message), message)


def decode_confirmation(content: bytes) -> Confirmation:
    """Raises DecodeError."""
    reader = Reader(content)
    topic, digest = read_topic(reader), reader.raw(DIGEST_BYTES)
    if not reader.flag():
        reader.end()
        return Confirmation(topic, digest)
    message = reader.rest()
    if len(message) > MESSAGE_MAX or digest_of(message) != digest:
        raise DecodeError(f"the message on {topic} is not the one of its digest, or longer than {MESSAGE_MAX} bytes")
    return Confirmation(topic, digest, message)


def confirm(context: Context, given: Confirmation) -> bytes | None:
    """Count a confirmation; the message once a quorum of this epoch's validators stands behind it.

    A validator's latest confirmation counts, so that a split over two proposals can heal. The caller has checked that
    the topic is one that is waited for.
    """
    current = committee(context.view, CURRENT)
    if context.signer not in current.names:
        raise Rejected("not_validator", f"{context.signer} is not a validator of this epoch")
    records, step = context.records, given.topic.step
    value = given.topic.encode() + given.digest
    records.put(_key(_SAID, step, context.signer), value)
    if given.message is not None:
        records.put(_key(_TEXT, step, context.signer), given.topic.encode() + given.message)
    agreeing = [name for name in current.names if records.get(_key(_SAID, step, name)) == value]
    if len(agreeing) < current.quorum:
        return None
    message = _message(records, given)
    if message is not None:
        _forget(records, step)
    return message


def confirmed_by(records: Records, topic: Topic) -> dict[str, bytes]:
    """The digest that each validator stands behind now, for those who spoke on this topic."""
    prefix, about = _key(_SAID, topic.step, ""), topic.encode()
    found = ((key[len(prefix) :].decode(), value) for key, value in records.items(prefix))
    return {name: value[len(about) :] for name, value in found if value.startswith(about)}


def proposals(records: Records, topic: Topic) -> dict[str, bytes]:
    """The messages that validators proposed on a topic and still stand behind."""
    standing = confirmed_by(records, topic)
    texts = {name: _proposed(records, topic, name) for name in standing}
    return {name: text for name, text in texts.items() if text is not None and digest_of(text) == standing[name]}


def check_first_proposal(records: Records, given: Confirmation, signer: str) -> None:
    """Raise Rejected where a validator has proposed another message on the topic.

    Whoever proposes anew in every block takes the text away from those who are about to confirm it.
    """
    earlier = _proposed(records, given.topic, signer)
    if given.message is not None and earlier is not None and earlier != given.message:
        raise Rejected("again", f"{signer} has proposed another message on {given.topic}")


def _proposed(records: Records, topic: Topic, name: str) -> bytes | None:
    data = records.get(_key(_TEXT, topic.step, name))
    return None if data is None or data[:TOPIC_BYTES] != topic.encode() else data[TOPIC_BYTES:]


def event_payload(topic: Topic, digest: bytes) -> bytes:
    """What the event of a statement says; the message itself travels beside it."""
    return topic.encode() + digest


def decode_event(payload: bytes) -> tuple[Topic, bytes]:
    """Raises DecodeError."""
    reader = Reader(payload)
    topic, digest = read_topic(reader), reader.raw(DIGEST_BYTES)
    reader.end()
    return topic, digest


def _message(records: Records, given: Confirmation) -> bytes | None:
    for _, data in records.items(_key(_TEXT, given.topic.step, "")):
        about, text = data[:TOPIC_BYTES], data[TOPIC_BYTES:]
        if about == given.topic.encode() and digest_of(text) == given.digest:
            return text
    return None


def _forget(records: Records, step: Step) -> None:
    for kind in (_SAID, _TEXT):
        for key, _ in tuple(records.items(_key(kind, step, ""))):
            records.delete(key)


def _key(kind: bytes, step: Step, name: str) -> bytes:
    return kind + Writer().uint32(step).encoded + name.encode()
