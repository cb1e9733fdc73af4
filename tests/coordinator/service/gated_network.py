"""Between the nodes of a consortium: a process that all their connections pass, and that can cut one node off.

Commands reach a node directly; only what nodes say to each other comes through here.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

import yaml

from actors.ports import free_ports
from tests.coordinator.service.consortium_harness import ORGANIZATIONS, Consortium

_PART_BYTES = 65_536


class Gate(Enum):
    """Of a node: whether bytes pass to it and from it."""

    OPEN = "open"
    CLOSED = "connections are closed, new ones at once"
    SILENT = "bytes wait, and new connections too"


@dataclass(frozen=True, slots=True)
class Route:
    """Where `dialer` reaches `target`, and where that listens."""

    dialer: str
    target: str
    port: int
    target_port: int


class GatedNetwork:
    """These routes, all of them open at first; a context manager that leaves no process behind."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._control, far_control = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=_run, args=(routes, far_control))

    def __enter__(self) -> Self:
        self._process.start()
        assert self._control.recv() is Gate.OPEN
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()

    def set(self, node: str, gate: Gate) -> None:
        """In force on return."""
        self._control.send((node, gate))
        self._control.recv()


def redirected(consortium: Consortium) -> list[Route]:
    """Routes between the nodes of a consortium, whose folders are changed so that each dials the others by them."""
    routes = []
    for name in ORGANIZATIONS:
        path = consortium.home(name) / "node.yaml"
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        for peer, port in zip(settings["peers"], free_ports(len(settings["peers"])), strict=True):
            routes.append(Route(name, peer["name"], port, consortium.ports[peer["name"]]))
            peer["address"] = f"127.0.0.1:{port}"
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return routes


def _run(routes: Sequence[Route], control: Connection) -> None:
    asyncio.run(_Proxy(routes, control).run())


class _Proxy:
    def __init__(self, routes: Sequence[Route], control: Connection) -> None:
        self._routes = routes
        self._control = control
        self._gates = dict.fromkeys(ORGANIZATIONS, Gate.OPEN)
        self._changed = asyncio.Event()
        self._writers: dict[Route, set[asyncio.StreamWriter]] = {route: set() for route in routes}

    async def run(self) -> None:
        """Until it is killed."""
        for route in self._routes:
            await asyncio.start_server(self._server_of(route), "127.0.0.1", route.port)
        asyncio.get_running_loop().add_reader(self._control.fileno(), self._commanded)
        self._control.send(Gate.OPEN)
        await asyncio.Event().wait()

    def _commanded(self) -> None:
        node, gate = self._control.recv()
        self._gates[node] = gate
        for route, writers in self._writers.items():
            if self._gate(route) is Gate.CLOSED:
                for writer in writers:
                    writer.transport.abort()
        self._changed.set()
        self._changed = asyncio.Event()
        self._control.send(gate)

    def _gate(self, route: Route) -> Gate:
        gates = (self._gates[route.dialer], self._gates[route.target])
        return next((gate for gate in (Gate.CLOSED, Gate.SILENT) if gate in gates), Gate.OPEN)

    def _server_of(
        self, route: Route
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._connected(route, reader, writer)

        return connected

    async def _connected(self, route: Route, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._not_silent(route)
        if self._gate(route) is Gate.CLOSED:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", route.target_port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, far_writer}
        self._writers[route] |= both
        await asyncio.gather(self._pump(route, reader, far_writer), self._pump(route, far_reader, writer))
        self._writers[route] -= both

    async def _pump(self, route: Route, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_PART_BYTES):
                await self._not_silent(route)
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _not_silent(self, route: Route) -> None:
        while self._gate(route) is Gate.SILENT:
            await self._changed.wait()
