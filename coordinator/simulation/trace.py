"""The trace of a run: one line an event, a legend of its columns, and a SHA-256 over all lines.

Two runs of a seed are the same run exactly if their hashes are equal: on any machine, under any PYTHONHASHSEED.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from coordinator.consensus.certificate import Certificate
from coordinator.consensus.messages import Blocks, GetRange, Message, Payload, Proposal, Vote

LEGEND = """\
time      virtual time in ns
chain     name of the chain
node      number of the node on its chain; - for the environment
event     what happened to the node: the message received (sender first), the timer, the answer of the application
epoch     of the node, after the event
view      of the node, after the event
final     its last final view, after the event
height    of its last delivered block, after the event
effects   number of effects that the core asked for"""


class Trace:
    """Takes lines in; keeps their hash, and hands them on if somebody listens."""

    __slots__ = ("_hash", "_sink", "last", "lines")

    def __init__(self, sink: Callable[[str], None] | None = None) -> None:
        self._hash = hashlib.sha256()
        self._sink = sink
        self.lines = 0
        self.last = "before the first event"

    def write(self, line: str) -> None:
        """One event."""
        self.lines += 1
        self.last = line
        self._hash.update(line.encode())
        self._hash.update(b"\n")
        if self._sink is not None:
            self._sink(line)

    @property
    def digest(self) -> str:
        """SHA-256 over all lines so far, in hexadecimal."""
        return self._hash.hexdigest()


def describe(message: Message) -> str:
    """A message in a few characters."""
    if isinstance(message, Vote):
        return f"{message.kind.name.lower()}:{message.view}:{message.digest[:3].hex()}"
    if isinstance(message, Certificate):
        signers = ",".join(map(str, message.signers))
        return f"cert-{message.kind.name.lower()}:{message.view}:{message.digest[:3].hex()}[{signers}]"
    if isinstance(message, Proposal):
        head = f"proposal:{message.view}<{message.parent_view}:{message.header.digest[:3].hex()}"
        return head + "".join(f"+{certificate.kind.name[0]}{certificate.view}" for certificate in message.justification)
    if isinstance(message, Payload):
        return f"payload:{len(message.payload)}B"
    if isinstance(message, Blocks):
        return f"blocks:{message.headers[0].height}-{message.headers[-1].height}"
    if isinstance(message, GetRange):
        return f"getrange:{message.from_height}"
    name = type(message).__name__.lower()
    view = getattr(message, "view", None)
    digest = getattr(message, "digest", None)
    return f"{name}:{digest[:3].hex()}" if digest is not None else f"{name}:{view}"
