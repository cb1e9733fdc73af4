"""A simulated disk: a journal of framed, checksummed records, payloads, and a sign guard that outlives them.

What can happen, what a node must do, and why it is survivable:

    torn tail    a crash leaves a prefix of what was not synchronised, its last frame cut short. The frame is dropped:
                 nothing that rests on it was sent.
    ledger ahead blocks are in another file, written before the journal: a crash in between leaves final blocks, and of
                 the journal nothing that is younger than the last synchronisation.
    full disk    nothing more can be synchronised. The node stops before the next message and comes back with space.
    lost sync    the disk said durable and lost the newest frames. The sign guard names a vote that the journal lacks:
                 the node must rejoin.
    bit flip     one bit of a durable frame. A bad frame before a good one is corruption in the middle; a bad last
                 frame looks torn, and the sign guard tells whether a vote was in it. The node must rejoin.
    lost disk    everything is gone, also blocks and the guard. The operator knows; the node must rejoin from genesis.

Lost sync, bit flip and lost disk damage a node until it may vote again and has caught up. Byzantine and damaged nodes
together are never more than f: the simulation sees to that, for nothing survives more. Not simulated: journal and
guard rolled back together without the operator's knowledge (a restored image is his to declare); damage to payloads.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass, field

from coordinator.consensus.certificate import Certificate, decode_certificate
from coordinator.consensus.errors import DecodeError
from coordinator.consensus.header import HEADER_BYTES, Header, decode_header
from coordinator.consensus.journal import FloorRecord, Record, VoteRecord, decode_record, encode_record
from coordinator.consensus.rejoin import NEVER

_MAGIC = b"\xa5GAJ"
_HEAD_BYTES = 12
_RECORD, _BLOCK = b"R", b"B"


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """A delivered block: the header, and its own finalization if it has one."""

    header: Header
    certificate: Certificate | None


Entry = Record | StoredBlock


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a restart found. With `must_rejoin` the records are only what stands before the damage."""

    records: tuple[Record, ...]
    must_rejoin: bool
    finding: str


class DiskFull(Exception):
    """Nothing more can be made durable."""


@dataclass(slots=True)
class Disk:
    """Blocks that a checkpoint has covered are in `blocks` and safe; younger ones stand in the journal."""

    entries: list[Entry] = field(default_factory=list)
    synced: int = 0
    image: bytes | None = None
    """The journal's bytes after damage; None while `entries` are what the bytes say."""
    blocks: list[StoredBlock] = field(default_factory=list)
    payloads: dict[bytes, bytes] = field(default_factory=dict)
    guard: dict[tuple[int, int, int], VoteRecord] = field(default_factory=dict)
    """Signed votes by epoch, view and kind."""
    rejoining: bool = False
    """Written durably before a rejoin, so that a crash in between does not make the node forget it."""
    full: bool = False

    def append(self, entry: Entry) -> None:
        """Write, not yet durable."""
        self.entries.append(entry)

    def sync(self) -> list[Entry]:
        """Make everything durable; gives what became so. The guard learns of votes before they are released."""
        if self.full:
            raise DiskFull
        fresh = self.entries[self.synced :]
        for entry in fresh:
            if isinstance(entry, VoteRecord):
                self.guard[entry.epoch, entry.view, int(entry.kind)] = entry
            elif isinstance(entry, FloorRecord):
                self.rejoining = entry.view == NEVER
        self.synced = len(self.entries)
        return fresh

    def compact(self, checkpoint: tuple[Record, ...], final: tuple[int, int]) -> None:
        """Replace the journal by a checkpoint, atomically; `final` is the last final epoch and view."""
        self.blocks += [entry for entry in self.entries if isinstance(entry, StoredBlock)]
        self.entries = list(checkpoint)
        self.synced = len(self.entries)
        self.guard = {key: vote for key, vote in self.guard.items() if key[:2] > final}

    def all_blocks(self) -> list[StoredBlock]:
        """Every delivered block, in order."""
        return self.blocks + [entry for entry in self.entries if isinstance(entry, StoredBlock)]

    # What a crash does.

    def crash(self, rng: random.Random, torn: bool, ledger_ahead: bool = False) -> None:
        """Lose what was not synchronised, or keep a prefix of it whose last frame is torn, or only its final blocks."""
        kept = rng.randint(self.synced, len(self.entries)) if torn else self.synced
        blocks = self._certified_blocks(self.entries[kept:]) if ledger_ahead else []
        self.image = None
        if torn and kept < len(self.entries):
            cut = frame(self.entries[kept])
            self.image = b"".join(map(frame, self.entries[:kept])) + cut[: rng.randrange(len(cut))]
        self.entries[kept:] = blocks
        self.synced = len(self.entries)
        self.full = False

    @staticmethod
    def _certified_blocks(entries: list[Entry]) -> list[StoredBlock]:
        """Those that go into the ledger: up to the last with a finalization of its own."""
        blocks = [entry for entry in entries if isinstance(entry, StoredBlock)]
        while blocks and blocks[-1].certificate is None:
            blocks.pop()
        return blocks

    def lose_syncs(self, rng: random.Random) -> None:
        """The newest durable frames are gone."""
        kept = max(0, len(self.entries) - rng.randint(1, 12))
        del self.entries[kept:]
        self.synced = kept
        self.image = None

    def flip_bit(self, rng: random.Random) -> None:
        """One bit of the journal is wrong."""
        data = bytearray(b"".join(map(frame, self.entries)))
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            self.image = bytes(data)

    def lose_everything(self) -> None:
        """A new, empty disk."""
        self.entries, self.synced, self.image = [], 0, None
        self.blocks, self.payloads, self.guard = [], {}, {}
        self.rejoining = True

    # What a restart finds.

    def recover(self, epoch_length: int) -> Recovery:
        """Read the journal back: drop a torn tail, find corruption and lost votes."""
        finding = "clean"
        if self.image is not None:
            self.entries, finding = parse(self.image)
            self.image = None
        self.synced = len(self.entries)
        if self._lacks_votes(epoch_length):
            finding = f"{finding}, votes lost"
        if finding not in ("clean", "torn"):
            self.rejoining = True
        records = tuple(entry for entry in self.entries if not isinstance(entry, StoredBlock))
        return Recovery(records, self.rejoining, finding)

    def _lacks_votes(self, epoch_length: int) -> bool:
        """Whether the guard holds a vote that the journal does not, above finality and above the floor of a rejoin."""
        final = newest_final(self.all_blocks(), epoch_length)
        floors = [(entry.epoch, entry.view) for entry in self.entries if isinstance(entry, FloorRecord)]
        above = max([final, *(floor for floor in floors if floor[1] != NEVER)])
        journal = [entry for entry in self.entries if isinstance(entry, VoteRecord)]
        return any(vote not in journal for key, vote in self.guard.items() if key[:2] > above)


def newest_final(blocks: list[StoredBlock], epoch_length: int) -> tuple[int, int]:
    """Epoch and view up to which blocks are final; (e + 1, 0) once epoch e is over."""
    if blocks and blocks[-1].header.height % epoch_length == 0:
        return blocks[-1].header.epoch + 1, 0
    for block in reversed(blocks):
        if block.certificate is not None:
            return block.certificate.epoch, block.certificate.view
    return 0, 0


def frame(entry: Entry) -> bytes:
    """Magic, length and checksum, then the record or block."""
    if isinstance(entry, StoredBlock):
        certificate = b"" if entry.certificate is None else entry.certificate.encode()
        content = _BLOCK + entry.header.encode() + certificate
    else:
        content = _RECORD + encode_record(entry)
    return _MAGIC + len(content).to_bytes(4, "big") + zlib.crc32(content).to_bytes(4, "big") + content


def parse(data: bytes) -> tuple[list[Entry], str]:
    """Frames up to the first bad one; `corrupt` if a good one follows anywhere behind it, else it was torn."""
    entries: list[Entry] = []
    offset = 0
    while offset < len(data):
        content = _frame_at(data, offset)
        if content is None:
            behind = data.find(_MAGIC, offset + 1)
            while behind >= 0:
                if _frame_at(data, behind) is not None:
                    return entries, "corrupt"
                behind = data.find(_MAGIC, behind + 1)
            return entries, "torn"
        try:
            entries.append(_decode(content))
        except DecodeError:
            return entries, "corrupt"
        offset += _HEAD_BYTES + len(content)
    return entries, "clean"


def _frame_at(data: bytes, offset: int) -> bytes | None:
    head = data[offset : offset + _HEAD_BYTES]
    if len(head) < _HEAD_BYTES or head[:4] != _MAGIC:
        return None
    content = data[offset + _HEAD_BYTES : offset + _HEAD_BYTES + int.from_bytes(head[4:8], "big")]
    whole = len(content) == int.from_bytes(head[4:8], "big")
    return content if whole and zlib.crc32(content) == int.from_bytes(head[8:12], "big") else None


def _decode(content: bytes) -> Entry:
    if content[:1] == _RECORD:
        return decode_record(content[1:])
    rest = content[1 + HEADER_BYTES :]
    return StoredBlock(decode_header(content[1 : 1 + HEADER_BYTES]), decode_certificate(rest) if rest else None)
