"""A node: all its chains, streams to its peers, the public interface, health and metrics, in one process."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import Mapping, Sequence
from functools import partial
from wsgiref.simple_server import WSGIServer

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from coordinator.ledger.genesis import Genesis
from coordinator.ledger.keys import load_key
from coordinator.service.access import Gate, Trust
from coordinator.service.batch_intake import BatchIntake
from coordinator.service.errors import ConfigurationError, ServiceError
from coordinator.service.following import FollowedChain, connecting
from coordinator.service.frames import STREAM_MESSAGE_BYTES
from coordinator.service.home import Home
from coordinator.service.host import ChainHost
from coordinator.service.identity import read_identity
from coordinator.service.interregional import Interregional
from coordinator.service.log import Log
from coordinator.service.metrics import ChainMetrics, NodeMetrics
from coordinator.service.own_transactions import OwnTransactions
from coordinator.service.reading import Reader
from coordinator.service.server import LEDGER_SERVICE, PEER_SERVICE, LedgerService, handlers
from coordinator.service.transport import Transport
from protos.gridaccord.v1 import service_pb2 as pb

_BLOCK_REPLY_BYTES = 8 * 2**20
_READINGS_VALID_BLOCKS = 64
"""A batch that another one has made impossible holds up what this node signs after it for no longer."""
_CONNECTIONS_MAX = 2_048
_FILES_MIN = _CONNECTIONS_MAX + 512
"""Each connection is a file to the system; ledgers and streams to peers need some as well."""
_WATCH_S = 1.0
_GRACE_S = 1.0
_SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", STREAM_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _BLOCK_REPLY_BYTES),
    ("grpc.max_concurrent_streams", 1_024),
    ("grpc.max_allowed_incoming_connections", _CONNECTIONS_MAX),
    ("grpc.max_metadata_size", 16_384),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 2_000),
    ("grpc.http2.max_ping_strikes", 3),
    ("grpc.so_reuseport", 0),
)


class Node:
    """Everything that runs for one folder."""

    def __init__(self, home: Home, log: Log | None = None) -> None:
        settings = home.settings
        self._settings = settings
        self._log = (log or Log()).bind(node=settings.name)
        self._signer = load_key(home.validator_key)
        self._trust = Trust(home)
        self._metrics = NodeMetrics()
        own = read_identity(self._trust.credentials.certificate, self._trust.credentials.authority)
        self._trust.check(own)
        if own.public_key != self._signer.public_key:
            raise ConfigurationError(f"{home.path}: the certificate is not bound to keys/validator.key; renew it")
        self._gate = Gate(self._trust, self._metrics, self._log)
        self._transport = Transport(self._signer.public_key, settings.peers, self._trust, self._gate, self._log)
        self._followed = self._followed_chains(home)
        self._hosts: dict[bytes, ChainHost] = {}
        self._readers: dict[bytes, Reader] = {}
        self._intakes: dict[bytes, BatchIntake] = {}
        for chain in settings.chains:
            genesis = _genesis(home, chain.name)
            host = ChainHost(
                genesis,
                chain.pace,
                self._signer,
                home.chain_folder(chain.name),
                partial(self._transport.post, genesis.chain_id),
                partial(self._transport.spread, genesis.chain_id),
                self._transport.post_batch_frame,
                ChainMetrics(self._metrics, chain.name),
                self._log,
            )
            self._hosts[genesis.chain_id] = host
            participant = f"{settings.organization}-validator"
            commitments = OwnTransactions(host, self._signer, participant, _READINGS_VALID_BLOCKS)
            self._intakes[genesis.chain_id] = BatchIntake(host.batches, commitments)
            self._readers[genesis.chain_id] = Reader(host.writer, settings.name, self._signer)
        self._interregional = Interregional(home, self._hosts, self._followed, self._signer, self._log)
        self._health = health.aio.HealthServicer()
        self._page: WSGIServer | None = None

    @property
    def hosts(self) -> Mapping[bytes, ChainHost]:
        """Its chains, by their ids; they are open once the node runs."""
        return self._hosts

    def _followed_chains(self, home: Home) -> dict[bytes, FollowedChain]:
        found = {}
        for chain in self._settings.follows:
            genesis = _genesis(home, chain.name)
            found[genesis.chain_id] = FollowedChain(
                genesis,
                chain.pace,
                home.chain_folder(chain.name),
                self._settings.peers,
                connecting(genesis.chain_id, self._trust),
                ChainMetrics(self._metrics, chain.name),
                self._log,
            )
        return found

    async def run(self, force_rejoin: bool = False, stopping: asyncio.Event | None = None) -> None:
        """Until `stopping` is set, or a signal asks to stop where it is left out; raises what ends the node.

        A program that hosts a node in a thread gives the event: signals come to its main thread.
        """
        self._allow_files()
        if stopping is None:
            stopping = asyncio.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        try:
            await self._serve(force_rejoin, stopping)
        except Exception as error:
            self._log.error("failed", reason=f"{type(error).__name__}: {error}")
            raise
        self._log.info("stopped")

    async def _serve(self, force_rejoin: bool, stopping: asyncio.Event) -> None:
        server = await self._open(force_rejoin)
        try:
            await self._work(stopping)
        finally:
            await self._transport.stop()
            await server.stop(_GRACE_S)
            await asyncio.to_thread(self._close_page)
            await self._interregional.close()
            for chain_id, host in self._hosts.items():
                await asyncio.to_thread(self._readers[chain_id].close)
                await host.close()
            for chain in self._followed.values():
                await chain.close()

    def _allow_files(self) -> None:
        """So many connections must never leave the ledger without a file."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        allowed = max(soft, min(hard, _FILES_MIN)) if hard != resource.RLIM_INFINITY else max(soft, _FILES_MIN)
        if allowed < _FILES_MIN:
            raise ConfigurationError(f"this process may open {hard} files, it needs {_FILES_MIN}: raise `ulimit -Hn`")
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))

    def _close_page(self) -> None:
        if self._page is not None:
            self._page.shutdown()
            self._page.server_close()

    async def _open(self, force_rejoin: bool) -> grpc.aio.Server:
        for chain_id, host in self._hosts.items():
            await host.open(force_rejoin)
            reader = self._readers[chain_id]
            await asyncio.wrap_future(reader.submit(reader.open))
        for chain in self._followed.values():
            await chain.open()
        await self._interregional.open()
        server = grpc.aio.server(interceptors=(self._gate,), options=_SERVER_OPTIONS)
        evidence = self._interregional.evidence
        ledger = LedgerService(
            self._settings,
            self._signer.public_key,
            self._hosts,
            self._followed,
            self._readers,
            evidence,
            self._intakes,
            self._transport,
        )
        server.add_generic_rpc_handlers(tuple(handlers(ledger, self._transport)))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (LEDGER_SERVICE, PEER_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        try:
            port = server.add_secure_port(self._settings.listen, self._trust.server_credentials())
        except RuntimeError as error:
            raise ServiceError(f"cannot listen on {self._settings.listen}: {error}; is another node there?") from None
        await server.start()
        if self._settings.metrics:
            address, _, metrics_port = self._settings.metrics.rpartition(":")
            self._page, _ = start_http_server(int(metrics_port), address, self._metrics.registry)
        self._transport.start(self._hosts)
        self._log.info("serving", listen=self._settings.listen, port=port, chains=len(self._hosts))
        return server

    async def _work(self, stopping: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(host.run()) for host in self._hosts.values()]
        tasks += [loop.create_task(chain.run()) for chain in self._followed.values()]
        tasks += [loop.create_task(self._accuse(host)) for host in self._hosts.values()]
        tasks += [loop.create_task(self._watch()), loop.create_task(_until(stopping))]
        tasks.append(loop.create_task(self._interregional.run()))
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for task in done:
            task.result()

    async def _accuse(self, host: ChainHost) -> None:
        """Bring what peers did before the chain."""
        own = OwnTransactions(host, self._signer, f"{self._settings.organization}-validator")
        await host.accusations.bring(lambda: host.execution.delivered, own.submit)

    async def _watch(self) -> None:
        """Once a second: certificates and revocations on disk, health, gauges."""
        while True:
            try:
                if self._trust.refresh():
                    self._log.info("certificates read anew")
            except (ServiceError, OSError, ValueError) as error:
                self._log.warning("certificates on disk are not usable", reason=str(error))
            self._transport.check_sessions()
            await self._show(list(self._hosts.values()))
            await asyncio.sleep(_WATCH_S)

    async def _show(self, hosts: Sequence[ChainHost]) -> None:
        serving, failing = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
        metrics = self._metrics
        for host in hosts:
            name, status = host.genesis.name, host.core.status
            await self._health.set(name, serving if host.is_healthy else failing)
            metrics.healthy.labels(name).set(host.is_healthy)
            metrics.view.labels(name).set(status.view)
            metrics.epoch.labels(name).set(status.epoch)
            metrics.waiting.labels(name).set(len(host.mempool))
        for chain in self._followed.values():
            name, header = chain.genesis.name, chain.told.header
            await self._health.set(name, serving if chain.is_healthy else failing)
            metrics.healthy.labels(name).set(chain.is_healthy)
            metrics.epoch.labels(name).set(header.epoch)
            metrics.sources.labels(name).set(len(chain.sources))
        chains: dict[bytes, ChainHost | FollowedChain] = {**self._hosts, **self._followed}
        for chain_id, evidence in self._interregional.evidence.items():
            found = pb.ChainStatus()
            await asyncio.wrap_future(evidence.submit(evidence.add_settlements, found))
            metrics.settled(chains[chain_id].genesis.name, found)
        self._interregional.show(metrics)
        await self._health.set("", serving if all(chain.is_healthy for chain in chains.values()) else failing)
        for link in self._transport.links.values():
            metrics.connected.labels(link.peer.name).set(link.session is not None)
            metrics.queued.labels(link.peer.name).set(len(link.outbox))
            metrics.dropped.labels(link.peer.name).set(link.outbox.dropped)


def _genesis(home: Home, name: str) -> Genesis:
    """Raises ConfigurationError."""
    genesis = home.genesis(name)
    if genesis.name != name:
        raise ConfigurationError(f"chain {name}: its genesis file is of {genesis.name}")
    return genesis


async def _until(stopping: asyncio.Event) -> None:
    await stopping.wait()
