"""What agreement costs: CPU, messages and bytes per view and validator, and latency in network delays.

    python -m benchmarks.consensus [--quick] [--sizes 4,7,16,40,100] [--views 6] [--json FILE | --resume FILE]

All validators run in this process, with real Ed25519 keys and every message through its encoding, on a network in which
each message takes one delay. CPU is the time in decoding and in the core, divided by views and validators; sending is
one encoding a broadcast. Blocks are empty: payload bytes come on top. Exit code 1 when a criterion fails.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from benchmarks.cases import (
    Column,
    Criterion,
    JsonOption,
    QuickOption,
    ResumeOption,
    Row,
    RowFile,
    conclude,
    print_table,
    progress,
    values,
)
from coordinator.consensus.config import Config
from coordinator.consensus.core import Core
from coordinator.consensus.effects import (
    Broadcast,
    Build,
    Certify,
    Deliver,
    Effect,
    EpochBegun,
    Send,
    SendPayload,
    SetTimer,
    StorePayload,
)
from coordinator.consensus.epochs import EpochConfig
from coordinator.consensus.header import Header, payload_digest
from coordinator.consensus.inputs import (
    Built,
    Certified,
    EpochKnown,
    Input,
    PayloadStored,
    Received,
    Start,
    TimerFired,
)
from coordinator.consensus.messages import Payload, Proposal, decode, encode
from coordinator.consensus.signing import Ed25519Scheme, Ed25519Signer
from coordinator.consensus.state import Anchor
from coordinator.consensus.validators import ValidatorSet

SIZES, QUICK_SIZES = "4,7,16,40,100", "4,7"
FINALITY_DELAYS, BLOCK_DELAYS = 3.0, 2.0
BYTES_SIZE, BYTES_AIM = 100, 40_000
"""Aim: about 30 KB a validator and view at n = 100; certificates sent by everybody would make it 0.85 MB."""
_DELAY_NS = 100_000_000
_EPOCH_LENGTH = 1_000_000
_CHAIN, _ZERO = b"b" * 32, bytes(32)

SizesOption = Annotated[str, typer.Option("--sizes", help="Numbers of validators, as 4,7,16.")]
ViewsOption = Annotated[int, typer.Option("--views", help="Views to run.")]


@dataclass(frozen=True)
class ConsensusRow:
    """One size. CPU, messages and bytes are per view and validator; bytes are those sent, without payloads."""

    validators: int
    views: int
    cpu_s: float
    messages: float
    sent_bytes: float
    block_delays: float
    finality_delays: float


class Bench:
    """Validators in one process on a network with one fixed delay."""

    def __init__(self, size: int) -> None:
        signers = [Ed25519Signer(i.to_bytes(32, "big")) for i in range(1, size + 1)]
        self.keys = [signer.public_key for signer in signers]
        self.validators = [ValidatorSet(_CHAIN, epoch, tuple(self.keys)) for epoch in range(3)]
        root = self.validators[0].root
        genesis = Header(1, _CHAIN, 0, 0, 0, *[_ZERO] * 5, root, root, payload_digest(b""))
        known = tuple(EpochConfig(validators, 1) for validators in self.validators[:2])
        config = Config(10 * _DELAY_NS, _EPOCH_LENGTH)
        anchor = Anchor(genesis, None, known)
        self.cores = {s.public_key: Core(config, s, Ed25519Scheme(), anchor) for s in signers}
        self.queue: list[tuple[int, int, bytes, Input | tuple[bytes, bytes]]] = []
        self.sequence = self.now_ns = self.messages = self.bytes = 0
        self.cpu_s = 0.0
        self.proposed_ns: dict[int, int] = {}
        self.delivered_ns: dict[int, int] = {}

    def run(self, views: int) -> None:
        """Run until every validator has delivered that many blocks."""
        for key in self.keys:
            self.step(key, Start())
        while self.queue and any(core.status.delivered.height < views for core in self.cores.values()):
            now_ns = self.queue[0][0]
            assert now_ns < 20 * (views + 1) * _DELAY_NS, "a network without faults makes a block every two delays"
            while self.queue and self.queue[0][0] == now_ns:
                self.now_ns, _, key, event = heapq.heappop(self.queue)
                self.step(key, event)

    def step(self, key: bytes, event: Input | tuple[bytes, bytes]) -> None:
        """One input with what the host answers at once; a pair is a sender and a message's bytes."""
        waiting: deque[Input | tuple[bytes, bytes]] = deque([event])
        while waiting:
            event = waiting.popleft()
            started = time.perf_counter()
            taken = Received(event[0], decode(event[1])) if isinstance(event, tuple) else event
            effects = self.cores[key].step(self.now_ns, taken)
            self.cpu_s += time.perf_counter() - started
            for effect in effects:
                waiting.extend(self.carry_out(key, effect))

    def carry_out(self, key: bytes, effect: Effect) -> list[Input]:
        """Do it; the answers of a host whose disk and application take no time."""
        if isinstance(effect, Broadcast):
            if isinstance(effect.message, Proposal):
                self.proposed_ns[effect.message.header.height] = self.now_ns
            self.post(key, effect.recipients, encode(effect.message))
        elif isinstance(effect, Send):
            self.post(key, (effect.to,), encode(effect.message))
        elif isinstance(effect, SendPayload):
            self.post(key, effect.recipients, encode(Payload(effect.payload)))
        elif isinstance(effect, SetTimer):
            self.push(effect.at_ns, key, TimerFired(effect.timer))
        elif isinstance(effect, StorePayload):
            return [PayloadStored(effect.digest)]
        elif isinstance(effect, Certify):
            return [Certified(effect.header.digest, True)]
        elif isinstance(effect, Build):
            return [Built(effect.view, self.block(effect), b"")]
        elif isinstance(effect, EpochBegun):
            return [EpochKnown(EpochConfig(self.validators[effect.epoch + 1], 1))]
        elif isinstance(effect, Deliver):
            self.delivered_ns[effect.header.height] = self.now_ns
        return []

    def block(self, build: Build) -> Header:
        """An empty block."""
        roots = [_ZERO] * 4, [build.validators_root] * 2
        identity = build.version, _CHAIN, build.epoch, build.height, build.time_ms, build.parent.digest
        return Header(*identity, *roots[0], *roots[1], payload_digest(b""))

    def post(self, sender: bytes, recipients: Sequence[bytes], data: bytes) -> None:
        """Send bytes."""
        self.messages += len(recipients)
        self.bytes += len(recipients) * len(data)
        for to in recipients:
            self.push(self.now_ns + _DELAY_NS, to, (sender, data))

    def push(self, at_ns: int, key: bytes, event: Input | tuple[bytes, bytes]) -> None:
        """Queue an event."""
        self.sequence += 1
        heapq.heappush(self.queue, (at_ns, self.sequence, key, event))


def measure(size: int, views: int) -> ConsensusRow:
    """One size."""
    bench = Bench(size)
    bench.run(views)
    share = views * size
    first, last = bench.proposed_ns[1], bench.proposed_ns[views]
    finality = max(bench.delivered_ns[h] - bench.proposed_ns[h] for h in range(1, views + 1))
    return ConsensusRow(
        validators=size,
        views=views,
        cpu_s=bench.cpu_s / share,
        messages=bench.messages / share,
        sent_bytes=bench.bytes / share,
        block_delays=(last - first) / (views - 1) / _DELAY_NS,
        finality_delays=finality / _DELAY_NS,
    )


def verdicts(rows: Sequence[Row]) -> list[Criterion]:
    """What the rows prove."""
    finality, block = list(values(rows, "finality_delays")), list(values(rows, "block_delays"))
    criteria = [
        Criterion(f"finality in {FINALITY_DELAYS:g} delays", set(finality) == {FINALITY_DELAYS}, f"{finality}"),
        Criterion(f"a block every {BLOCK_DELAYS:g} delays", set(block) == {BLOCK_DELAYS}, f"{block}"),
    ]
    largest = [row for row in rows if row["validators"] == BYTES_SIZE]
    for sent in values(largest, "sent_bytes"):
        detail = f"{sent:,.0f} bytes a view and validator at n = {BYTES_SIZE}, aim {BYTES_AIM:,}"
        criteria.append(Criterion("certificates on demand", sent <= BYTES_AIM, detail, aim=True))
    return criteria


COLUMNS = (
    Column("validators", "validators"),
    Column("views", "views"),
    Column("CPU ms", "cpu_s", ",.2f", 1e3),
    Column("messages", "messages", ",.1f"),
    Column("bytes", "sent_bytes", ",.0f"),
    Column("block, delays", "block_delays", ".2f"),
    Column("finality, delays", "finality_delays", ".2f"),
)


def main(
    quick: QuickOption = False,
    sizes: SizesOption = "",
    views: ViewsOption = 6,
    json_file: JsonOption = None,
    resume: ResumeOption = None,
) -> None:
    """Cost and latency of agreement by the number of validators."""
    started = time.perf_counter()
    log = RowFile(["validators", "views"], json_file, resume)
    for size in (int(text) for text in (sizes or (QUICK_SIZES if quick else SIZES)).split(",")):
        if log.has(size, views):
            continue
        row = measure(size, max(2, views))
        progress(f"n = {size}: {row.cpu_s * 1e3:.2f} ms, {row.sent_bytes:,.0f} bytes a view and validator")
        log.add(asdict(row))
    print_table("Simplex, per view and validator, Ed25519", COLUMNS, log.rows)
    print(f"elapsed {time.perf_counter() - started:.0f} s")
    conclude(verdicts(log.rows))


if __name__ == "__main__":
    typer.run(main)
