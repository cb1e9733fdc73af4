"""`gridaccord pay`: from an owner's account in one region to an account in another, by the hub's escrow."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated

import typer

from actors.serve import Address, AsJson, HomePath, with_client

if TYPE_CHECKING:
    from coordinator.ledger.genesis import Genesis
    from coordinator.service.client import Client
    from coordinator.service.home import Home
    from coordinator.service.paying import Payment
    from coordinator.settlement.escrow.types import SettlementId
    from protos.gridaccord.v1 import service_pb2 as pb

_VALID_BLOCKS = 1_000_000
_POLL_S = 0.2


def pay(
    home: HomePath,
    source: Annotated[str, typer.Option("--from", metavar="REGION", help="Where the organization's account is.")],
    target: Annotated[str, typer.Option("--to", metavar="REGION:ACCOUNT", help="Whom to pay, and where.")],
    asset: Annotated[str, typer.Option(help="What is paid in.")],
    amount: Annotated[int, typer.Option(metavar="MICRO", help="How much, in micro-units.")],
    wait: Annotated[bool, typer.Option("--wait", help="Until it is decided, and applied in both regions.")] = False,
    address: Address = "",
    as_json: AsJson = False,
) -> None:
    """Pay from the organization's account in one region to an account in another: all or nothing."""
    from coordinator.service.paying import hub_of, is_done, payment, refusal

    async def work(client: Client, opened: Home) -> None:
        hub = hub_of(opened)
        wanted = payment(opened.settings.organization, source, target, asset, amount)
        sid = await _open(client, opened, hub, wanted)
        reply = await _settlement(client, hub, sid)
        while wait and not is_done(reply):
            await asyncio.sleep(_POLL_S)
            reply = await _settlement(client, hub, sid)
        document = {"sid": str(sid), "state": reply.state, "reason": reply.reason, "deadline": reply.deadline_height}
        typer.echo(json.dumps(document) if as_json else f"{sid}  {reply.state}")
        if reply.state == "abort":
            typer.echo(f"error: not paid: {refusal(reply)}", err=True)
            raise typer.Exit(1)

    with_client(home, address, "gateway", work)


async def _open(client: Client, home: Home, hub: Genesis, wanted: Payment) -> SettlementId:
    """Sign, submit, and the id that the hub gave, proven from genesis."""
    from coordinator.consensus.signing import Ed25519Scheme
    from coordinator.ledger.keys import load_key
    from coordinator.ledger.transaction import Transaction, sign_transaction
    from coordinator.service.errors import CallFailed
    from coordinator.service.paying import opened_in, sign_payment
    from coordinator.service.proving import verify_receipt
    from protos.gridaccord.v1 import service_pb2 as pb

    signer, chain_id = load_key(home.path / "keys" / "participant.key"), hub.chain_id
    known = await client.call("GetParticipant", pb.ParticipantRequest(chain_id=chain_id, participant=wanted.owner))
    content = sign_payment(wanted, hub, known.height, signer).encoded
    body = Transaction(wanted.owner, known.next_sequence, known.height + _VALID_BLOCKS, "escrow_open", content)
    signed = sign_transaction(signer, chain_id, body)
    reply = await client.call(
        "Submit", pb.SubmitRequest(chain_id=chain_id, transaction=signed.encoded, wait=True), 60.0
    )
    if reply.code:
        raise CallFailed(f"not opened: {reply.code}: {reply.detail}")
    request = pb.TransactionRequest(chain_id=chain_id, digest=reply.digest)
    proof = await client.call("GetTransaction", request)
    return opened_in(verify_receipt(proof, reply.digest, hub, Ed25519Scheme())[1])


async def _settlement(client: Client, hub: Genesis, sid: SettlementId) -> pb.SettlementReply:
    from protos.gridaccord.v1 import service_pb2 as pb

    request = pb.SettlementRequest(chain_id=hub.chain_id, height=sid.height, index=sid.index)
    reply: pb.SettlementReply = await client.call("GetSettlement", request)
    return reply
