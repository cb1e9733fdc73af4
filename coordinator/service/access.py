"""Who may call what, how often, and how long it may take. Every refusal has a reason, in the answer and in the log."""

from __future__ import annotations

import asyncio
import datetime
import os
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from coordinator.service.errors import PeerRefused
from coordinator.service.home import Home
from coordinator.service.identity import Credentials, Identity, Role, check_current, read_identity
from coordinator.service.log import Log
from coordinator.service.metrics import NodeMetrics

PEER, LEDGER = "/gridaccord.v1.Peer/", "/gridaccord.v1.Ledger/"
SUBMIT, SUBMIT_READINGS, CONNECT = LEDGER + "Submit", LEDGER + "SubmitReadings", PEER + "Connect"
_ALL = tuple(Role)
_ALLOWED: tuple[tuple[str, tuple[Role, ...]], ...] = (
    (CONNECT, (Role.VALIDATOR,)),
    (SUBMIT_READINGS, (Role.GATEWAY,)),
    (SUBMIT, (Role.VALIDATOR, Role.COORDINATOR, Role.GATEWAY)),
    (LEDGER, _ALL),
    ("/grpc.health.v1.Health/", _ALL),
    ("/grpc.reflection.", _ALL),
)
"""The first line that a method begins with decides; what stands nowhere nobody may call."""
_TLS_VERSION = b"TLSv1.3"
_CALLS_A_S, _CALLS_BURST = 5_000.0, 10_000.0
_CONCURRENT_CALLS = 2_048
_UNARY_DEADLINE_S = 10.0
_DEADLINES_S = {SUBMIT: 60.0, SUBMIT_READINGS: 300.0}
_IDENTITIES_MAX = 1_024
_LINES_A_S, _LINES_BURST = 10.0, 200.0

# TLS 1.2 could only use this suite, which needs an RSA certificate; the consortium's are on P-256. So only TLS 1.3,
# whose suites this variable does not touch, can be negotiated. gRPC reads it once, at the first handshake.
os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-RSA-AES256-GCM-SHA384"


def allowed(method: str) -> tuple[Role, ...]:
    """The roles that may call a method."""
    return next((roles for prefix, roles in _ALLOWED if method.startswith(prefix)), ())


class Trust:
    """This node's TLS key and certificate, and which certificates of others it accepts; read anew when files change."""

    def __init__(self, home: Home, who: str = "node") -> None:
        self._home = home
        self._who = who
        self._stamp = self._files()
        self.credentials = home.credentials(who)
        self.revoked = home.revoked(self.credentials.authority)

    def refresh(self) -> bool:
        """Whether something changed. Raises ConfigurationError, PeerRefused, and then keeps what it had."""
        stamp = self._files()
        if stamp == self._stamp:
            return False
        credentials = self._home.credentials(self._who)
        read_identity(credentials.certificate, credentials.authority)
        self.revoked = self._home.revoked(credentials.authority)
        self.credentials = credentials
        self._stamp = stamp
        return True

    def _files(self) -> tuple[int, ...]:
        names = (f"{self._who}.key", f"{self._who}.pem", "authority.pem", "revoked.pem")
        paths = [self._home.path / "tls" / name for name in names]
        return tuple(path.stat().st_mtime_ns if path.is_file() else 0 for path in paths)

    def check(self, identity: Identity) -> None:
        """Raise PeerRefused unless a certificate is valid now."""
        check_current(identity, self.revoked, datetime.datetime.now(datetime.UTC))

    def server_credentials(self) -> grpc.ServerCredentials:
        """For a server: each handshake uses the certificate of that time, and demands one of the client."""
        served = self.credentials

        def changed() -> Any:
            nonlocal served
            if served is self.credentials:
                return None
            served = self.credentials
            return _configuration(served)

        return grpc.dynamic_ssl_server_credentials(_configuration(served), changed, require_client_authentication=True)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For a client."""
        mine = self.credentials
        return grpc.ssl_channel_credentials(mine.authority, mine.key, mine.certificate)


def _configuration(mine: Credentials) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(mine.key, mine.certificate)], mine.authority)


class Malformed:
    """What came instead of a message. gRPC would answer bytes that it cannot parse with a traceback in the log."""


def tolerant(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Parses bytes of others: Malformed where they are no such message."""

    def parsed(data: bytes) -> Any:
        try:
            return parse(data)
        except (DecodeError, UnicodeDecodeError):
            return Malformed()

    return parsed


class Bucket:
    """So many a second, with a burst."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._at = time.monotonic()

    def take(self, amount: float = 1.0) -> float:
        """Take; how many seconds too early that is."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        self._left -= amount
        return max(0.0, -self._left / self._rate)

    def give_back(self, amount: float = 1.0) -> None:
        """What was taken is not used."""
        self._left += amount


class _Caller:
    """What one identity is doing."""

    def __init__(self) -> None:
        self.bucket = Bucket(_CALLS_A_S, _CALLS_BURST)
        self.calls = 0


class Gate(grpc.aio.ServerInterceptor):
    """Stands before every method of the server."""

    def __init__(self, trust: Trust, metrics: NodeMetrics, log: Log) -> None:
        self._trust = trust
        self._metrics = metrics
        self._log = log
        self._callers: dict[bytes, _Caller] = {}
        self._lines = Bucket(_LINES_A_S, _LINES_BURST)
        self._unlogged = 0

    def authenticate(self, auth: Mapping[str, Any]) -> Identity:
        """Who calls, by the certificate of the connection. Raises PeerRefused."""
        certificates = auth.get("x509_pem_cert")
        if not certificates:
            raise PeerRefused("it shows no certificate")
        if list(auth.get("ssl_tls_version", ())) != [_TLS_VERSION]:
            raise PeerRefused("its connection is not TLS 1.3")
        identity = read_identity(bytes(certificates[0]), self._trust.credentials.authority)
        self._trust.check(identity)
        return identity

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Put the checks around a method."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        method = str(handler_call_details.method)
        wrap: Any = (_STREAM_WRAPPERS if handler.response_streaming else _UNARY_WRAPPERS)[handler.request_streaming]
        behavior = getattr(handler, _BEHAVIORS[handler.request_streaming, handler.response_streaming])
        wrapped = self._streaming(method, behavior) if handler.response_streaming else self._unary(method, behavior)
        parse = handler.request_deserializer
        if method == CONNECT or not handler.request_streaming:
            parse = tolerant(parse)
        found: grpc.RpcMethodHandler[Any, Any] = wrap(wrapped, parse, handler.response_serializer)
        return found

    def _unary(self, method: str, behavior: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        deadline_s = _DEADLINES_S.get(method, _UNARY_DEADLINE_S)

        async def call(request: Any, context: Any) -> Any:
            caller = await self._enter(method, context)
            try:
                await self._check_parsed(method, request, context)
                async with asyncio.timeout(deadline_s):
                    return await behavior(request, context)
            except TimeoutError:
                await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"not done within {deadline_s:.0f} s")
            finally:
                caller.calls -= 1

        return call

    def _streaming(self, method: str, behavior: Callable[..., Any]) -> Callable[..., Awaitable[None]]:
        async def call(request: Any, context: Any) -> None:
            caller = await self._enter(method, context)
            try:
                await self._check_parsed(method, request, context)
                result = behavior(request, context)
                if isinstance(result, AsyncIterable):
                    async for message in result:
                        await context.write(message)
                else:
                    await result
            finally:
                caller.calls -= 1

        return call

    async def _enter(self, method: str, context: Any) -> _Caller:
        """Who calls, if it may; aborts the call otherwise."""
        peer = str(context.peer())
        try:
            identity = self.authenticate(context.auth_context())
        except PeerRefused as refusal:
            await self.refuse(context, grpc.StatusCode.UNAUTHENTICATED, method, peer, str(refusal))
            raise
        if not any(role in allowed(method) for role in identity.roles):
            reason = f"{identity.name} has the roles {', '.join(identity.roles)}; {method} is not for them"
            await self.refuse(context, grpc.StatusCode.PERMISSION_DENIED, method, peer, reason)
        if len(self._callers) > _IDENTITIES_MAX:
            self._callers = {key: one for key, one in self._callers.items() if one.calls}
        caller = self._callers.setdefault(identity.public_key, _Caller())
        if caller.bucket.take() > 0 or caller.calls >= _CONCURRENT_CALLS:
            caller.bucket.give_back()
            reason = f"{identity.name} calls more than {_CALLS_A_S:.0f} times a second or too much at once"
            await self.refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, method, peer, reason)
        caller.calls += 1
        return caller

    async def _check_parsed(self, method: str, request: Any, context: Any) -> None:
        if isinstance(request, Malformed):
            reason = "the bytes of the request are no such message"
            await self.refuse(context, grpc.StatusCode.INVALID_ARGUMENT, method, str(context.peer()), reason)

    async def refuse(self, context: Any, code: grpc.StatusCode, method: str, peer: str, reason: str) -> None:
        """End a call, and say why."""
        self._metrics.refusals.labels(code.name.lower()).inc()
        if self._lines.take() == 0:
            self._log.warning("refused", method=method, address=peer, reason=reason, unlogged=self._unlogged)
            self._unlogged = 0
        else:
            self._lines.give_back()
            self._unlogged += 1
        await context.abort(code, reason)


_BEHAVIORS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}
_UNARY_WRAPPERS = {False: grpc.unary_unary_rpc_method_handler, True: grpc.stream_unary_rpc_method_handler}
_STREAM_WRAPPERS = {False: grpc.unary_stream_rpc_method_handler, True: grpc.stream_stream_rpc_method_handler}
