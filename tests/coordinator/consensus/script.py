"""One core driven by a script, its effects as lines of text: what rule cases are written in.

Validators are A, B, C, ...; the core under test is A unless `node` says otherwise; views are v1, v2, ... (v1 is led by
B, v4 by A); blocks have names, g is genesis; `a/0` is block a with its parent in view 0; times are in delays.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from coordinator.consensus.certificate import Certificate
from coordinator.consensus.config import Config
from coordinator.consensus.core import Core
from coordinator.consensus.effects import (
    Broadcast,
    Build,
    Certify,
    Deliver,
    Effect,
    EpochBegun,
    PeerFault,
    Persist,
    Send,
    SendPayload,
    ServeBlock,
    ServePayload,
    ServeRange,
    SetTimer,
    StorePayload,
    Timer,
    TimerKind,
)
from coordinator.consensus.epochs import EpochConfig
from coordinator.consensus.evidence import verify_evidence
from coordinator.consensus.header import Header
from coordinator.consensus.host import DurabilityCheck
from coordinator.consensus.inputs import (
    BuildFailed,
    Built,
    Certified,
    EpochKnown,
    Input,
    PayloadStored,
    PeerConnected,
    Received,
    Recovered,
    Start,
    TimerFired,
    WorkWaiting,
)
from coordinator.consensus.journal import (
    CertificateRecord,
    CertifiedRecord,
    FloorRecord,
    Record,
    VoteRecord,
    decode_record,
    encode_record,
)
from coordinator.consensus.messages import (
    Blocks,
    GetBlock,
    GetPayload,
    GetRange,
    Hello,
    Message,
    Payload,
    Proposal,
    ViewReply,
    ViewRequest,
    Vote,
    Want,
    decode,
    encode,
)
from coordinator.consensus.signing import SimulatedScheme, VoteKind, vote_bytes
from coordinator.consensus.validators import ValidatorSet
from tests.coordinator.consensus.support import CHAIN, NAMES, SECOND, ZERO, Chain, simulated_chain

KINDS = {kind.name.lower(): kind for kind in VoteKind}
NEVER = (1 << 64) - 1


@dataclass
class Script:
    """Runs command lines and collects the effects' lines."""

    size: int = 4
    epoch_length: int = 1000
    options: dict[str, int] = field(default_factory=dict)
    me: str = "A"
    now: float = 0.0
    core: Core | None = None
    lines: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    store: list[Header] = field(default_factory=list)
    stored_finalization: Certificate | None = None
    epoch: int = 0

    def __post_init__(self) -> None:
        self.chain: Chain = simulated_chain(self.size, self.epoch_length)
        self.blocks: dict[str, Header] = {"g": self.chain.genesis()}
        self.payloads: dict[str, bytes] = {"g": b""}
        self.names: dict[bytes, str] = {self.blocks["g"].digest: "g"}
        self.peers = {signer.public_key: NAMES[i] for i, signer in enumerate(self.chain.signers)}

    def run(self, commands: str) -> str:
        """Output of the commands; those that begin with a dot are quiet."""
        self.lines = []
        for line in commands.strip().splitlines():
            mark = len(self.lines)
            words = shlex.split(line, comments=True)
            if not words:
                continue
            quiet = words[0].startswith(".")
            self.command(words[0].removeprefix("."), words[1:])
            if quiet:
                del self.lines[mark:]
        return "\n".join(self.lines) or "nothing"

    def command(self, name: str, words: list[str]) -> None:
        """One command."""
        flags = dict(word.split("=", 1) for word in words if "=" in word)
        method: Callable[..., None] = getattr(self, f"do_{name}")
        try:
            method(*[word for word in words if "=" not in word], **flags)
        except (RuntimeError, ValueError) as error:
            self.lines.append(f"error {type(error).__name__}: {error}")

    # What things are called.

    def key(self, name: str) -> bytes:
        """Public key of a validator."""
        index = NAMES.index(name)
        return self.chain.signers[index].public_key if index < self.size else bytes([index]) * 32

    def peer(self, key: bytes) -> str:
        """Name of a validator."""
        return self.peers.get(key, "?")

    def validators(self) -> ValidatorSet:
        """Those of the epoch that the script is in."""
        return self.chain.validators(self.epoch)

    def value(self, text: str | None) -> tuple[int, bytes]:
        """`a/0`: block a, parent in view 0."""
        if text is None:
            return 0, ZERO
        name, parent_view = text.split("/")
        return int(parent_view), self.blocks[name].digest

    def block(self, digest: bytes) -> str:
        """Name of a block."""
        return self.names.get(digest, "?")

    def payload_name(self, digest: bytes) -> str:
        """Name of the block with this payload."""
        found = [name for name, header in self.blocks.items() if header.payload_digest == digest]
        return found[0] if found else "?"

    def signature(self, name: str, kind: VoteKind, view: int, value: tuple[int, bytes]) -> bytes:
        """A validator's signature."""
        signer = self.chain.signers[NAMES.index(name)]
        return signer.sign(vote_bytes(kind, CHAIN, self.epoch, view, *value))

    def certificate(self, kind_name: str, view_name: str, text: str | None, signers: str = "BCD") -> Certificate:
        """A valid certificate."""
        kind, view, value = KINDS[kind_name], int(view_name[1:]), self.value(text)
        names = sorted(signers, key=lambda name: self.validators().public_keys.index(self.key(name)))
        indices = tuple(self.validators().public_keys.index(self.key(name)) for name in names)
        signatures = tuple(self.signature(name, kind, view, value) for name in names)
        return Certificate(kind, CHAIN, self.epoch, view, *value, self.size, indices, signatures)

    def certificates(self, text: str) -> Iterator[Certificate]:
        """`notarize:v1:a/0,nullify:v2`."""
        for one in text.split(","):
            kind, view, *value = one.split(":")
            yield self.certificate(kind, view, value[0] if value else None)

    # Commands about the world.

    def do_chain(self, **flags: str) -> None:
        """Size, epoch length, and options of the configuration in delays."""
        self.size = int(flags.pop("n", self.size))
        self.epoch_length = int(flags.pop("epoch", self.epoch_length))
        self.options |= {f"{name}_ns": int(float(value) * SECOND) for name, value in flags.items()}
        self.__post_init__()

    def do_node(self, name: str) -> None:
        """Who is under test."""
        self.me = name

    def do_block(self, name: str, on: str, **flags: str) -> None:
        """Declare a block: `block a g`, with fields changed as asked."""
        header = self.chain.block(self.blocks[on], name.encode())
        changes: dict[str, int | bytes] = {
            k: int(flags[k]) for k in flags if k in ("height", "time_ms", "epoch", "version")
        }
        changes |= {k: bytes([int(flags[k])]) * 32 for k in flags if k.endswith("_root") or k == "chain_id"}
        header = replace(header, **changes)
        self.blocks[name] = header
        self.payloads[name] = name.encode()
        self.names[header.digest] = name

    def do_at(self, time: str) -> None:
        """Advance the clock."""
        self.now = float(time)

    def do_epoch(self, number: str) -> None:
        """Messages are of this epoch from now on."""
        self.epoch = int(number)

    # Commands that start the core.

    def boot(self) -> None:
        """A core over what is stored."""
        anchor = self.chain.anchor(self.store[-1] if self.store else None, self.stored_finalization)
        options = {"delta_cap_ns": 8 * SECOND, **self.options}
        config = Config(SECOND, self.epoch_length, **options)
        signer = self.chain.signers[NAMES.index(self.me)]
        self.core = Core(config, signer, SimulatedScheme(), anchor)
        self.check = DurabilityCheck()

    def do_start(self, **flags: str) -> None:
        """Start over an empty disk."""
        self.boot()
        self.step(Start(int(flags["rejoin"]) if "rejoin" in flags else None))

    def do_restart(self, **flags: str) -> None:
        """Crash, replay the journal through its encoding, start."""
        self.boot()
        self.step(Recovered(tuple(decode_record(encode_record(record)) for record in self.records)))
        self.step(Start(int(flags["rejoin"]) if "rejoin" in flags else None))

    def do_recover(self) -> None:
        """Replay the journal only."""
        self.boot()
        self.step(Recovered(tuple(self.records)))

    def do_again(self) -> None:
        """Start once more."""
        self.step(Start())

    def do_lose(self) -> None:
        """The journal is lost."""
        self.records = []

    def do_compact(self) -> None:
        """The host replaces the journal by a checkpoint."""
        assert self.core is not None
        self.records = list(self.core.checkpoint())

    # Commands that are inputs.

    def do_propose(self, sender: str, view: str, text: str, **flags: str) -> None:
        """A proposal with its certificates."""
        value = self.value(text)
        certificates = tuple(self.certificates(flags["by"])) if "by" in flags else ()
        signature = self.signature(sender, VoteKind.NOTARIZE, int(view[1:]), value)
        header = self.blocks[text.split("/")[0]]
        self.receive(sender, Proposal(self.epoch, int(view[1:]), value[0], header, signature, certificates))

    def do_vote(self, senders: str, kind_name: str, view: str, text: str | None = None, **flags: str) -> None:
        """Votes of several validators; `signed=no` for a wrong signature, `by=B` for a wrong signer."""
        kind, value = KINDS[kind_name], self.value(text)
        for sender in senders:
            signature = self.signature(flags.get("by", sender), kind, int(view[1:]), value)
            if flags.get("signed") == "no":
                signature = bytes(64)
            self.receive(sender, Vote(kind, self.epoch, int(view[1:]), *value, signature))

    def do_cert(self, sender: str, kind: str, view: str, text: str | None = None, **flags: str) -> None:
        """A certificate."""
        certificate = self.certificate(kind, view, text, flags.get("signers", "BCD"))
        if flags.get("signed") == "no":
            certificate = replace(certificate, signatures=(*certificate.signatures[:-1], bytes(64)))
        self.receive(sender, certificate)

    def do_payload(self, sender: str, name: str) -> None:
        """Payload bytes."""
        self.receive(sender, Payload(self.payloads[name]))

    def do_want(self, sender: str, view: str) -> None:
        """Want."""
        self.receive(sender, Want(self.epoch, int(view[1:])))

    def do_get(self, sender: str, what: str, name: str) -> None:
        """GetBlock, GetPayload, GetRange."""
        if what == "range":
            self.receive(sender, GetRange(int(name)))
        elif what == "block":
            self.receive(sender, GetBlock(self.blocks[name].digest))
        else:
            self.receive(sender, GetPayload(self.blocks[name].payload_digest))

    def do_blocks(self, sender: str, names: str, **flags: str) -> None:
        """Blocks."""
        certificates = list(self.certificates(flags["by"])) if "by" in flags else [None]
        self.receive(sender, Blocks(tuple(self.blocks[name] for name in names.split(",")), certificates[0]))

    def do_hello(self, sender: str, view: str, final: str, **flags: str) -> None:
        """Hello."""
        chain_id = ZERO if flags.get("chain") == "other" else CHAIN
        version = int(flags.get("version", 1))
        self.receive(sender, Hello(chain_id, self.epoch, int(view[1:]), int(final[1:]), version, version))

    def do_viewrequest(self, sender: str, nonce: str) -> None:
        """ViewRequest."""
        self.receive(sender, ViewRequest(self.epoch, int(nonce)))

    def do_viewreply(self, sender: str, nonce: str, view: str, **flags: str) -> None:
        """ViewReply."""
        certificates = list(self.certificates(flags["by"])) if "by" in flags else [None]
        self.receive(sender, ViewReply(self.epoch, int(nonce), int(view[1:]), certificates[0]))

    def do_stored(self, name: str) -> None:
        """PayloadStored."""
        self.step(PayloadStored(self.blocks[name].payload_digest))

    def do_valid(self, name: str) -> None:
        """Certified."""
        self.step(Certified(self.blocks[name].digest, True))

    def do_invalid(self, name: str) -> None:
        """Certified, not ok."""
        self.step(Certified(self.blocks[name].digest, False))

    def do_built(self, view: str, name: str, **flags: str) -> None:
        """Built."""
        payload = b"other" if flags.get("payload") == "other" else self.payloads[name]
        self.step(Built(int(view[1:]), self.blocks[name], payload))

    def do_unable(self, view: str) -> None:
        """BuildFailed."""
        self.step(BuildFailed(int(view[1:])))

    def do_fire(self, kind: str, view: str = "v0") -> None:
        """A timer."""
        self.step(TimerFired(Timer(TimerKind(kind), self.epoch, int(view[1:]))))

    def do_work(self, waiting: str) -> None:
        """WorkWaiting."""
        self.step(WorkWaiting(waiting == "yes"))

    def do_connect(self, peer: str) -> None:
        """PeerConnected."""
        self.step(PeerConnected(self.key(peer)))

    def do_known(self, epoch: str, **flags: str) -> None:
        """EpochKnown."""
        known = self.chain.epoch_config(int(epoch))
        if flags.get("validators") == "other":
            keys = tuple(reversed(known.validators.public_keys))
            known = EpochConfig(ValidatorSet(CHAIN, int(epoch), keys), known.version)
        self.step(EpochKnown(replace(known, version=int(flags.get("version", 1)))))

    def do_status(self) -> None:
        """Where the core stands."""
        assert self.core is not None
        status = self.core.status
        self.lines.append(
            f"status epoch {status.epoch} view {status.view} final {status.final_view} "
            f"delivered {self.block(status.delivered.digest)} leader {self.peer(status.leader)} "
            f"{'votes' if status.may_vote else 'follows'}"
        )

    def do_pass(self, view: str, text: str) -> None:
        """Quietly: a whole good view, proposed, certified and finalized."""
        mark = len(self.lines)
        name = text.split("/")[0]
        leader = self.peer(self.validators().leader_key(int(view[1:])))
        others = [n for n in NAMES[: self.size] if n not in (leader, self.me)]
        self.do_propose(leader, view, text)
        self.do_payload(leader, name)
        self.do_stored(name)
        self.do_valid(name)
        self.do_vote("".join(others), "notarize", view, text)
        self.do_vote("".join(others), "finalize", view, text)
        self.do_vote(leader, "finalize", view, text)
        del self.lines[mark:]

    # Stepping and writing down.

    def receive(self, sender: str, message: Message) -> None:
        """A message, through its encoding."""
        self.step(Received(self.key(sender), decode(encode(message))))

    def step(self, event: Input) -> None:
        """One step; the effects' lines."""
        assert self.core is not None
        for effect in self.core.step(int(self.now * SECOND), event):
            if self.check.needs_sync(effect):
                self.lines.append("sync")
                self.check.synced()
            self.check.before(effect)
            self.remember(effect)
            self.lines.append(self.describe(effect))
        self.check.synced()

    def remember(self, effect: Effect) -> None:
        """What a host keeps."""
        if isinstance(effect, Persist):
            self.records.append(effect.record)
        elif isinstance(effect, Deliver):
            self.store.append(effect.header)
            self.stored_finalization = effect.certificate or self.stored_finalization

    def describe(self, effect: Effect) -> str:
        """One line."""
        match effect:
            case Persist(record):
                return f"persist {self.describe_record(record)}"
            case Broadcast(message, _):
                return f"broadcast {self.describe_message(message)}"
            case Send(to, message):
                return f"send {self.peer(to)} {self.describe_message(message)}"
            case SendPayload(payload, _):
                return f"spread {payload.decode()}"
            case SetTimer(at_ns, timer):
                return f"timer {timer.kind.value} v{timer.view} at {at_ns / SECOND:g}"
            case StorePayload(digest, _):
                return f"store {self.payload_name(digest)}"
            case Build():
                parent = self.block(effect.parent.digest)
                return f"build v{effect.view} on {parent} height {effect.height} time {effect.time_ms}"
            case Certify(header):
                return f"certify {self.block(header.digest)}"
            case Deliver(header, certificate):
                by = "" if certificate is None else f" finalized in v{certificate.view}"
                return f"deliver {self.block(header.digest)}{by}"
            case ServeBlock(to, digest):
                return f"serve {self.peer(to)} block {self.block(digest)}"
            case ServePayload(to, digest):
                return f"serve {self.peer(to)} payload {self.payload_name(digest)}"
            case ServeRange(to, from_height, limit):
                return f"serve {self.peer(to)} range {from_height} limit {limit}"
            case EpochBegun(epoch):
                return f"epoch {epoch} begun"
            case PeerFault(peer, reason, evidence):
                proof = ""
                if evidence is not None:
                    verify_evidence(evidence, self.chain.validators(evidence.epoch), SimulatedScheme())
                    assert evidence.kind is not None
                    proof = f" [{evidence.kind.name.lower()}]"
                return f"fault {self.peer(peer)}: {reason}{proof}"

    def describe_record(self, record: Record) -> str:
        """One line."""
        match record:
            case VoteRecord(kind, _, view, parent_view, digest):
                return self.describe_vote("vote", kind, view, parent_view, digest)
            case CertificateRecord(certificate):
                return self.describe_message(certificate)
            case CertifiedRecord(header, ok):
                return f"{self.block(header.digest)} {'valid' if ok else 'invalid'}"
            case FloorRecord(epoch, view):
                return f"floor {epoch}.{'unknown' if view == NEVER else view}"

    def describe_vote(self, what: str, kind: VoteKind, view: int, parent_view: int, digest: bytes) -> str:
        """A vote or a certificate."""
        value = "" if kind is VoteKind.NULLIFY else f" {self.block(digest)}/{parent_view}"
        return f"{what} {kind.name.lower()} v{view}{value}"

    def describe_message(self, message: Message) -> str:
        """One line."""
        match message:
            case Vote(kind, _, view, parent_view, digest, _):
                return self.describe_vote("vote", kind, view, parent_view, digest)
            case Proposal(_, view, parent_view, header, _, certificates):
                by = "".join(f" +{self.describe_message(certificate)}" for certificate in certificates)
                return f"proposal v{view} {self.block(header.digest)}/{parent_view}{by}"
            case Certificate():
                c = message
                text = self.describe_vote("certificate", c.kind, c.view, c.parent_view, c.digest)
                keys = self.chain.validators(c.epoch).public_keys
                return f"{text} of {''.join(sorted(self.peer(keys[i]) for i in c.signers))}"
            case Want(_, view):
                return f"want v{view}"
            case GetBlock(digest):
                return f"get block {self.block(digest)}"
            case GetPayload(digest):
                return f"get payload {self.payload_name(digest)}"
            case GetRange(from_height):
                return f"get range {from_height}"
            case Blocks(headers, certificate):
                by = "" if certificate is None else f" +{self.describe_message(certificate)}"
                return f"blocks {','.join(self.block(header.digest) for header in headers)}{by}"
            case Payload(payload):
                return f"payload {payload.decode()}"
            case Hello(_, epoch, view, final_view, _, _):
                return f"hello {epoch}.{view} final {final_view}"
            case ViewRequest(_, nonce):
                return f"view request {nonce}"
            case ViewReply(_, nonce, view, certificate):
                by = "" if certificate is None else f" +{self.describe_message(certificate)}"
                return f"view reply {nonce} v{view}{by}"
