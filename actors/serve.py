"""`gridaccord init`, `serve`, `status`, `submit`, `prove`, `renew`, `revoke`: thin commands over coordinator.service.

gRPC is imported where a command needs it, so that the others start as fast as before.
"""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.consensus.errors import CertificateRefused, DecodeError, LocalMisuse, SafetyViolation
from coordinator.ledger.errors import (
    BlockRefused,
    Contradiction,
    GenesisError,
    ProofRefused,
    SigningRefused,
    StoreError,
)
from coordinator.service.errors import ConfigurationError, ServiceError

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from coordinator.service.client import Client
    from coordinator.service.home import Home
    from protos.gridaccord.v1 import service_pb2 as pb

FAILURES = (
    ServiceError,
    StoreError,
    DecodeError,
    GenesisError,
    ProofRefused,
    CertificateRefused,
    SigningRefused,
    LocalMisuse,
    SafetyViolation,
    BlockRefused,
    Contradiction,
)
_VALID_BLOCKS = 1_000_000
_BY_VALIDATORS = ("signal_validators", "signal_version", "register_participant")
"""Kinds that the ledger takes from validators only: signed with the consensus key, as `<organization>-validator`."""

HomePath = Annotated[Path, typer.Argument(metavar="HOME", help="A node's folder, one of those that init made.")]
ConsortiumFile = Annotated[Path, typer.Argument(metavar="CONSORTIUM", help="The consortium, a YAML file.")]
ConsortiumFolder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder that init made, with its authority.")]
Output = Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="A folder that does not exist yet.")]
ChainName = Annotated[str, typer.Option("--chain", help="Which of the node's chains; the first where left out.")]
Address = Annotated[str, typer.Option(help="HOST:PORT of another node of the consortium than the folder's own.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def init(consortium: ConsortiumFile, output: Output) -> None:
    """Make keys, certificates and genesis files of a consortium: one folder an organization."""
    from coordinator.service.consortium import Consortium, found
    from coordinator.service.home import Home, read_settings

    settings = read_settings(consortium, Consortium)
    found(settings, output, datetime.datetime.now(datetime.UTC), consortium.parent)
    for organization in settings.organizations:
        typer.echo(f"{output / organization.name}  listens on {organization.listen or organization.address}")
    for chain in settings.chains:
        genesis = Home(output / settings.seats(chain)[0]).genesis(chain.name)
        typer.echo(f"chain {chain.name}  {genesis.chain_id.hex()}")


def serve(
    home: HomePath,
    rejoin: Annotated[
        bool, typer.Option("--rejoin", help="The folder is a restored copy: votes may be missing from its journal.")
    ] = False,
) -> None:
    """Run a node until it is told to stop; logs go to standard error, one JSON object a line."""
    from coordinator.service.home import Home
    from coordinator.service.node import Node

    opened = Home(home)

    async def run() -> None:
        await Node(opened).run(rejoin)

    asyncio.run(run())


def status(
    home: HomePath,
    address: Address = "",
    watch: Annotated[bool, typer.Option("--watch", help="Again every second.")] = False,
    as_json: AsJson = False,
) -> None:
    """Where a node stands: heights, views, peers, finality latency."""
    from protos.gridaccord.v1 import service_pb2 as pb

    async def show(client: Client, opened: Home) -> None:
        while True:
            reply = await client.call("GetStatus", pb.StatusRequest())
            typer.echo(json.dumps(status_document(reply), indent=None if watch else 2) if as_json else _shown(reply))
            if not watch:
                return
            await asyncio.sleep(1.0)

    with_client(home, address, "auditor", show)


def submit(
    home: HomePath,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="transfer, mint, burn, credit_limit, ...")],
    content: Annotated[str, typer.Argument(metavar="JSON", help='{"to": "beta", "asset": "EUR", "amount": 5}')],
    chain: ChainName = "",
    address: Address = "",
    as_json: AsJson = False,
) -> None:
    """Sign a transaction with the organization's key (signals: the validator's), submit it, wait until it is final."""
    from coordinator.ledger.keys import load_key
    from coordinator.ledger.transaction import Transaction, sign_transaction
    from protos.gridaccord.v1 import service_pb2 as pb

    encoded = encode_content(kind, content)

    async def send(client: Client, opened: Home) -> None:
        chain_id, name = opened.genesis(_chain(opened, chain)).chain_id, opened.settings.organization
        by_validator = kind in _BY_VALIDATORS
        signer = load_key(opened.validator_key if by_validator else opened.path / "keys" / "participant.key")
        name = f"{name}-validator" if by_validator else name
        known = await client.call("GetParticipant", pb.ParticipantRequest(chain_id=chain_id, participant=name))
        body = Transaction(name, known.next_sequence, known.height + _VALID_BLOCKS, kind, encoded)
        signed = sign_transaction(signer, chain_id, body)
        request = pb.SubmitRequest(chain_id=chain_id, transaction=signed.encoded, wait=True)
        reply = await client.call("Submit", request, 60.0)
        outcome = {"digest": reply.digest.hex(), "height": reply.height, "code": reply.code, "detail": reply.detail}
        text = f"{reply.digest.hex()}  final at height {reply.height}"
        typer.echo(json.dumps(outcome) if as_json else text)
        if reply.code:
            typer.echo(f"error: not carried out: {reply.code}: {reply.detail}", err=True)
            raise typer.Exit(1)

    with_client(home, address, "gateway", send)


def prove(
    home: HomePath,
    what: Annotated[str, typer.Argument(metavar="OWNER|DIGEST", help="Whose account, or which transaction.")],
    asset: Annotated[str, typer.Argument(metavar="[ASSET]", help="The account's asset.")] = "",
    chain: ChainName = "",
    address: Address = "",
    as_json: AsJson = False,
) -> None:
    """Fetch the proof of an account or a transaction, and verify it from genesis alone."""
    from coordinator.consensus.signing import Ed25519Scheme
    from coordinator.service.proving import verify_account, verify_receipt
    from protos.gridaccord.v1 import service_pb2 as pb

    async def fetch(client: Client, opened: Home) -> None:
        genesis, scheme = opened.genesis(_chain(opened, chain)), Ed25519Scheme()
        chain_id = genesis.chain_id
        if asset:
            request = pb.AccountRequest(chain_id=chain_id, owner=what, asset=asset)
            proof = await client.call("ProveAccount", request)
            header, account = verify_account(proof, what, asset, genesis, scheme)
            proven: dict[str, object] = {"owner": what, "asset": asset, "balance": account.balance}
            proven["credit_limit"] = account.credit_limit
        else:
            digest = _digest(what)
            proof = await client.call("GetTransaction", pb.TransactionRequest(chain_id=chain_id, digest=digest))
            header, receipt = verify_receipt(proof, digest, genesis, scheme)
            proven = {"transaction": what, "place": receipt.place, "code": receipt.code}
        proven |= {"height": header.height, "block": header.digest.hex(), "chain_id": chain_id.hex()}
        pairs = "\n".join(f"{name:<12}  {value}" for name, value in proven.items())
        typer.echo(json.dumps(proven, indent=2) if as_json else f"{pairs}\nresult        proven from genesis")

    with_client(home, address, "auditor", fetch)


def renew(
    folder: ConsortiumFolder,
    organization: Annotated[str, typer.Argument(help="Whose certificates.")],
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long the new ones are valid.")] = 398,
) -> None:
    """New TLS keys and certificates for an organization; a node that runs takes them up by itself."""
    from coordinator.service import consortium

    consortium.renew(folder, organization, datetime.datetime.now(datetime.UTC), days)
    typer.echo(f"{folder / organization / 'tls'}: renewed for {days} days")


def revoke(
    folder: ConsortiumFolder,
    certificate: Annotated[Path, typer.Argument(metavar="PEM", help="The certificate that is valid no more.")],
) -> None:
    """Revoke a certificate: copy the list that this writes to the tls folder of every node."""
    from coordinator.service import consortium

    typer.echo(f"{consortium.revoke(folder, certificate, datetime.datetime.now(datetime.UTC))}: copy it to every node")


COMMANDS: tuple[Callable[..., None], ...] = (init, serve, status, submit, prove, renew, revoke)


def encode_content(kind: str, text: str) -> bytes:
    """The content of a transaction of the core's kinds from JSON. Raises ConfigurationError."""
    from google.protobuf.json_format import ParseDict, ParseError

    from protos.gridaccord.v1 import ledger_pb2

    messages = {
        "transfer": ledger_pb2.Transfer,
        "mint": ledger_pb2.Issue,
        "burn": ledger_pb2.Issue,
        "credit_limit": ledger_pb2.CreditLimit,
        "register_participant": ledger_pb2.NewParticipant,
        "register_device": ledger_pb2.NewDevice,
        "rotate_key": ledger_pb2.NewKey,
        "rotate_device_key": ledger_pb2.NewKey,
        "signal_validators": ledger_pb2.ValidatorSignal,
        "signal_version": ledger_pb2.VersionSignal,
    }
    if kind in INTERVAL_KINDS:
        return encode_interval_content(kind, text)
    if kind not in messages:
        raise ConfigurationError(f"there is no kind {kind}; it is one of {', '.join((*messages, *INTERVAL_KINDS))}")
    try:
        encoded: bytes = ParseDict(json.loads(text), messages[kind]()).SerializeToString()
    except (json.JSONDecodeError, ParseError) as error:
        raise ConfigurationError(f"content of {kind}: {error}") from None
    return encoded


_OUTAGE_FIELDS = {"tie": str, "from_s": int, "out": bool}
INTERVAL_KINDS = ("interval_offers", "interval_target", "tie_outage")


def encode_interval_content(kind: str, text: str) -> bytes:
    """Offers {"start_s", "duration_s", "offers": [{"resource", "fixed_w", "steps": [[width_w, price_micro]]}]}, the
    interval {"start_s", "duration_s"} whose gate the stepper closes, or {"tie", "from_s", "out"}: whether an end of a
    tie-line is open from an interval on; from JSON. Raises ConfigurationError.
    """
    if kind == "tie_outage":
        return _encode_outage(text)
    from coordinator.market.offers import Step
    from coordinator.settlement.interval.schedules import Curve, Offers
    from coordinator.settlement.interval.topics import Interval

    try:
        given = json.loads(text)
        interval = Interval(int(given.pop("start_s")), int(given.pop("duration_s")))
        curves = {
            entry["resource"]: Curve(int(entry["fixed_w"]), tuple(Step(*map(int, step)) for step in entry["steps"]))
            for entry in given.pop("offers", [])
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"content of {kind}: {type(error).__name__}: {error}") from None
    if given:
        raise ConfigurationError(f"content of {kind}: unknown key {next(iter(given))!r}")
    if kind == "interval_target":
        return interval.encode()
    return Offers(interval, tuple(sorted(curves.items(), key=lambda item: item[0].encode()))).encode()


def _encode_outage(text: str) -> bytes:
    from coordinator.ledger.codec import INT64_MAX
    from coordinator.settlement.interval.outages import Outage

    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"content of tie_outage: {error}") from None
    if not isinstance(given, dict) or {key: type(value) for key, value in given.items()} != _OUTAGE_FIELDS:
        wanted = '{"tie": "tie-119", "from_s": 1580083200, "out": true}'
        raise ConfigurationError(f"content of tie_outage: {text[:200]}; it is like {wanted}, no other keys")
    if not 0 <= given["from_s"] <= INT64_MAX:
        raise ConfigurationError(f"content of tie_outage: from_s is {given['from_s']}; it is the start of an interval")
    return Outage(**given).encode()


def with_client(path: Path, address: str, who: str, work: Callable[[Client, Home], Awaitable[None]]) -> None:
    """Do something over a connection to a folder's node, or another, under one of the folder's certificates."""
    from coordinator.service.client import Client
    from coordinator.service.home import Home

    async def run() -> None:
        opened = Home(path)
        async with Client(address or opened.settings.listen, opened.credentials(who)) as client:
            await work(client, opened)

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _chain(home: Home, name: str) -> str:
    names = [chain.name for chain in (*home.settings.chains, *home.settings.follows)]
    if not names or (name and name not in names):
        raise ConfigurationError(f"{home.path}: there is no chain {name!r}; there is {', '.join(names) or 'none'}")
    return name or names[0]


def _digest(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ConfigurationError(f"{text}: not a digest in hexadecimal; for an account name its asset too") from None


def status_document(reply: pb.StatusReply) -> dict[str, object]:
    """A status as plain values."""
    from google.protobuf.message import Message

    def plain(message: Message) -> dict[str, object]:
        found: dict[str, object] = {}
        for field in message.DESCRIPTOR.fields:
            value = getattr(message, field.name)
            if field.is_repeated:
                found[field.name] = [plain(item) if isinstance(item, Message) else item for item in value]
            else:
                found[field.name] = value.hex() if isinstance(value, bytes) else value
        return found

    return {
        "node": reply.node,
        "organization": reply.organization,
        "public_key": reply.public_key.hex(),
        "chains": [plain(chain) for chain in reply.chains],
        "peers": [plain(peer) for peer in reply.peers],
    }


def _shown(reply: pb.StatusReply) -> str:
    lines = [f"{reply.node}  {reply.public_key.hex()[:16]}"]
    for chain in reply.chains:
        when = datetime.datetime.fromtimestamp(chain.time_ms / 1000, datetime.UTC)
        place = f"  {chain.name:<12} height {chain.height:,}  {when:%Y-%m-%d %H:%M:%S} UTC  epoch {chain.epoch}"
        lines.append(
            f"{place}  {_following(chain)}"
            if chain.followed
            else f"{place}  view {chain.view}  {'healthy' if chain.healthy else 'NOT FINALIZING'}"
            f"{'' if chain.may_vote else '  does not vote yet'}  {chain.waiting_transactions:,} waiting"
            f"  finality p50 {chain.finality_p50_us / 1000:.1f} ms"
        )
        lines += _settlement_lines(chain)
    lines += [
        f"  peer {peer.name:<12} {'connected' if peer.connected else 'NOT connected: ' + peer.reason}"
        for peer in reply.peers
    ]
    return "\n".join(lines)


def _following(chain: pb.ChainStatus) -> str:
    if chain.fault:
        return f"NOT FOLLOWED any more: {chain.fault}"
    state = "healthy" if chain.healthy else "NOT ADVANCING"
    return f"followed from {', '.join(chain.sources) or 'nobody'}  {state}"


def _settlement_lines(chain: pb.ChainStatus) -> list[str]:
    counts = [f"{item.count:,} {item.state}" for item in chain.settlements if item.count]
    lines = [f"    regions      {', '.join(chain.regions)}"] if chain.regions else []
    lines += [f"    settlements  {', '.join(counts)}"] if counts else []
    for item in chain.in_doubt:
        since = datetime.datetime.fromtimestamp(item.since_ms / 1000, datetime.UTC)
        lines.append(f"    in doubt     {item.sid} since height {item.since_height:,}, {since:%Y-%m-%d %H:%M:%S} UTC")
    if chain.in_doubt_total > len(chain.in_doubt):
        lines.append(f"    in doubt     {chain.in_doubt_total - len(chain.in_doubt):,} more")
    return lines
