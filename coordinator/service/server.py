"""The public interface over gRPC: what a method does once the gate has let its caller in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import grpc

from coordinator.consensus.errors import DecodeError
from coordinator.ledger.errors import ReadingsRefused, TransactionRefused
from coordinator.ledger.handlers import READINGS
from coordinator.ledger.transaction import decode_transaction
from coordinator.service.batch_intake import BatchIntake
from coordinator.service.errors import Busy, ServiceError
from coordinator.service.evidence import Evidence
from coordinator.service.following import FollowedChain
from coordinator.service.home import NodeSettings
from coordinator.service.host import ChainHost
from coordinator.service.metrics import percentile
from coordinator.service.outcomes import Outcome
from coordinator.service.reading import NotThere, Reader
from coordinator.service.transport import Transport
from coordinator.settlement.escrow.registration import is_hub
from protos.gridaccord.v1 import service_pb2 as pb

PEER_SERVICE, LEDGER_SERVICE = "gridaccord.v1.Peer", "gridaccord.v1.Ledger"


class LedgerService:
    """The methods of the service Ledger."""

    def __init__(
        self,
        settings: NodeSettings,
        key: bytes,
        hosts: Mapping[bytes, ChainHost],
        followed: Mapping[bytes, FollowedChain],
        readers: Mapping[bytes, Reader],
        evidence: Mapping[bytes, Evidence],
        intakes: Mapping[bytes, BatchIntake],
        transport: Transport,
    ) -> None:
        """`evidence` of the chains that take part in settlements."""
        self._settings = settings
        self._key = key
        self._hosts = hosts
        self._followed = followed
        self._readers = readers
        self._evidence = evidence
        self._intakes = intakes
        self._transport = transport

    async def _host(self, chain_id: bytes, context: Any) -> ChainHost:
        host = self._hosts.get(chain_id)
        followed = self._followed.get(chain_id)
        if followed is not None:
            where = f"chain {followed.genesis.name} is only followed here; ask a node with a seat of it (--address)"
            await context.abort(grpc.StatusCode.NOT_FOUND, where)
        if host is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"chain {chain_id.hex()} is not on this node")
        assert host is not None
        return host

    async def _read(self, chain_id: bytes, context: Any, name: str, *arguments: object) -> Any:
        await self._host(chain_id, context)
        reader = self._readers[chain_id]
        try:
            return await asyncio.wrap_future(reader.submit(getattr(reader, name), *arguments))
        except NotThere as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))

    async def submit(self, request: pb.SubmitRequest, context: Any) -> pb.SubmitReply:
        """Admit a transaction and spread it; with `wait`, answer when it is final."""
        host = await self._host(request.chain_id, context)
        try:
            _refuse_commitment(request.transaction)
            digest = host.submit(request.transaction)
        except (TransactionRefused, DecodeError) as error:
            host.metrics.refused_transactions.inc()
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
            raise
        waiting = host.outcomes.wait_for(digest) if request.wait else None
        if waiting is None:
            return pb.SubmitReply(digest=digest)
        return _reply(await waiting)

    async def submit_readings(self, parts: AsyncIterator[pb.ReadingsPart], context: Any) -> pb.SubmitReply:
        """Take in a batch of readings and commit to it; the answer comes when that is final."""
        first = await anext(parts, pb.ReadingsPart())
        host = await self._host(first.chain_id, context)
        (caller,) = (name.decode() for name in context.auth_context()["x509_common_name"])
        code = grpc.StatusCode.FAILED_PRECONDITION
        try:
            return _reply(await self._intakes[first.chain_id].submit(caller, first, parts))
        except (ReadingsRefused, TransactionRefused, DecodeError) as error:
            refusal: Exception = error
        except Busy as error:
            refusal, code = error, grpc.StatusCode.RESOURCE_EXHAUSTED
        except ServiceError as error:
            refusal, code = error, grpc.StatusCode.ABORTED
        host.metrics.refused_transactions.inc()
        await context.abort(code, str(refusal))
        raise refusal

    async def status(self, request: pb.StatusRequest, context: Any) -> pb.StatusReply:
        """Where this node stands."""
        peers = [
            pb.PeerStatus(
                name=link.peer.name, public_key=link.key, connected=link.session is not None, reason=link.reason
            )
            for link in self._transport.links.values()
        ]
        return pb.StatusReply(
            node=self._settings.name,
            organization=self._settings.organization,
            public_key=self._key,
            chains=[
                await self._with_settlements(found)
                for found in (*map(chain_status, self._hosts.values()), *map(followed_status, self._followed.values()))
            ],
            peers=peers,
        )

    async def _with_settlements(self, found: pb.ChainStatus) -> pb.ChainStatus:
        evidence = self._evidence.get(found.chain_id)
        if evidence is not None:
            await asyncio.wrap_future(evidence.submit(evidence.add_settlements, found))
        return found

    async def settlement(self, request: pb.SettlementRequest, context: Any) -> Any:
        """A settlement, by its id on the hub."""
        host = await self._host(request.chain_id, context)
        if not is_hub(host.genesis):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"chain {host.genesis.name} is not a hub; ask for the hub's")
        evidence = self._evidence[request.chain_id]
        reply = await asyncio.wrap_future(evidence.submit(evidence.settlement, request.height, request.index))
        if reply is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no settlement {request.height}/{request.index}")
        return reply

    async def block(self, request: pb.BlockRequest, context: Any) -> Any:
        """A final block."""
        return await self._read(request.chain_id, context, "block", request.height, request.digest)

    async def transaction(self, request: pb.TransactionRequest, context: Any) -> Any:
        """What became of a transaction."""
        return await self._read(request.chain_id, context, "transaction", request.digest)

    async def participant(self, request: pb.ParticipantRequest, context: Any) -> Any:
        """A participant."""
        return await self._read(request.chain_id, context, "participant", request.participant)

    async def account(self, request: pb.AccountRequest, context: Any) -> Any:
        """An account with its proof."""
        return await self._read(request.chain_id, context, "account", request.owner, request.asset)

    async def history(self, request: pb.HistoryRequest, context: Any) -> Any:
        """A proof about the history."""
        arguments = (request.size, request.height, request.inclusion)
        return await self._read(request.chain_id, context, "history", *arguments)

    async def checkpoint(self, request: pb.CheckpointRequest, context: Any) -> Any:
        """A signed checkpoint."""
        return await self._read(request.chain_id, context, "checkpoint")

    async def stream(self, request: pb.StreamRequest, context: Any) -> None:
        """Final blocks from a height on, and each further one as it becomes final; as fast as the caller reads."""
        host = await self._host(request.chain_id, context)
        height = max(1, request.from_height)
        while True:
            coming = host.new_block
            while height <= host.writer.store.state.header.height:
                await context.write(await self._read(request.chain_id, context, "block", height, b""))
                height += 1
            await coming.wait()


def _refuse_commitment(encoded: bytes) -> None:
    """A commitment without its batch would wait for ever. Raises TransactionRefused, DecodeError."""
    if decode_transaction(encoded).transaction.kind == READINGS:
        raise TransactionRefused("readings are submitted as a batch: SubmitReadings")


def _reply(outcome: Outcome) -> pb.SubmitReply:
    receipt = outcome.receipt
    return pb.SubmitReply(digest=receipt.transaction, height=outcome.height, code=receipt.code, detail=receipt.detail)


def chain_status(host: ChainHost) -> pb.ChainStatus:
    """Where one chain stands, without its settlements."""
    status, metrics = host.core.status, host.metrics
    header = host.writer.store.state.header
    finality, sync = metrics.finality_samples, metrics.sync_samples
    return pb.ChainStatus(
        name=host.genesis.name,
        chain_id=host.genesis.chain_id,
        height=header.height,
        time_ms=header.time_ms,
        tip=header.digest,
        epoch=status.epoch,
        view=status.view,
        final_view=status.final_view,
        may_vote=status.may_vote,
        healthy=host.is_healthy,
        waiting_transactions=len(host.mempool),
        finality_p50_us=round(percentile(finality, 0.5) * 1e6),
        finality_p99_us=round(percentile(finality, 0.99) * 1e6),
        finality_samples=len(finality),
        transactions=metrics.transactions,
        sync_p50_us=round(percentile(sync, 0.5) * 1e6),
    )


def followed_status(chain: FollowedChain) -> pb.ChainStatus:
    """Where a chain stands that this node follows, without its settlements."""
    header = chain.told.header
    return pb.ChainStatus(
        name=chain.genesis.name,
        chain_id=chain.genesis.chain_id,
        height=header.height,
        time_ms=header.time_ms,
        tip=header.digest,
        epoch=header.epoch,
        healthy=chain.is_healthy,
        transactions=chain.metrics.transactions,
        followed=True,
        sources=chain.sources,
        fault=chain.fault,
    )


def handlers(ledger: LedgerService, transport: Transport) -> Sequence[grpc.GenericRpcHandler]:
    """The two services as gRPC takes them."""
    unary: dict[str, Callable[..., Any]] = {
        "Submit": ledger.submit,
        "GetStatus": ledger.status,
        "GetBlock": ledger.block,
        "GetTransaction": ledger.transaction,
        "GetParticipant": ledger.participant,
        "ProveAccount": ledger.account,
        "ProveHistory": ledger.history,
        "GetCheckpoint": ledger.checkpoint,
        "GetSettlement": ledger.settlement,
    }
    methods = {name: _unary(name, behavior) for name, behavior in unary.items()}
    methods["StreamBlocks"] = grpc.unary_stream_rpc_method_handler(
        ledger.stream, pb.StreamRequest.FromString, pb.BlockReply.SerializeToString
    )
    methods["SubmitReadings"] = grpc.stream_unary_rpc_method_handler(
        ledger.submit_readings, pb.ReadingsPart.FromString, pb.SubmitReply.SerializeToString
    )
    connect = grpc.stream_stream_rpc_method_handler(transport.serve, pb.Frame.FromString, pb.Frame.SerializeToString)
    return (
        grpc.method_handlers_generic_handler(LEDGER_SERVICE, methods),
        grpc.method_handlers_generic_handler(PEER_SERVICE, {"Connect": connect}),
    )


def _unary(name: str, behavior: Callable[..., Any]) -> Any:
    method = pb.DESCRIPTOR.services_by_name["Ledger"].methods_by_name[name]
    request, reply = (getattr(pb, message.name) for message in (method.input_type, method.output_type))
    return grpc.unary_unary_rpc_method_handler(behavior, request.FromString, reply.SerializeToString)
