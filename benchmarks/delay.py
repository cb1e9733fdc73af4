"""A proxy that holds bytes back: what comes on one connection leaves on another one a delay later, in order.

It shares the cores with the nodes whose delays it makes, and all of them send at once: so it is one loop over sockets
and a heap, with nothing between. `select` waits to the microsecond, where epoll wakes on the
next whole millisecond and three delays would be up to 3 ms longer.
"""

from __future__ import annotations

import heapq
import multiprocessing
import select
import socket
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from threading import Thread

from actors.ports import free_ports

_HOST = "127.0.0.1"
_READ_BYTES = 1 << 18
Route = tuple[int, int]
"""Port to listen on, and the port behind it."""


class _Proxy:
    def __init__(self, routes: Sequence[Route], delay_s: float) -> None:
        self._delay_s = delay_s
        self._targets = {socket.create_server((_HOST, port), backlog=64): target for port, target in routes}
        self._others: dict[socket.socket, socket.socket] = {}
        self._due: list[tuple[float, int, socket.socket, bytes]] = []
        self._number = 0

    def run(self) -> None:
        """For ever."""
        while True:
            wait_s = max(0.0, self._due[0][0] - time.perf_counter()) if self._due else None
            ready, _, _ = select.select([*self._targets, *self._others], (), (), wait_s)
            for one in ready:
                if one in self._targets:
                    self._connect(one)
                elif one in self._others:
                    self._read(one)
            self._send_due()

    def _connect(self, server: socket.socket) -> None:
        near, _ = server.accept()
        try:
            far = socket.create_connection((_HOST, self._targets[server]))
        except OSError:
            near.close()
            return
        for one, other in ((near, far), (far, near)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._others[one] = other

    def _read(self, one: socket.socket) -> None:
        """Nothing to read is the end, which takes as long as bytes do."""
        data = b""
        with suppress(OSError):
            data = one.recv(_READ_BYTES)
        self._number += 1
        heapq.heappush(self._due, (time.perf_counter() + self._delay_s, self._number, self._others[one], data))
        if not data:
            del self._others[one]

    def _send_due(self) -> None:
        while self._due and self._due[0][0] <= time.perf_counter():
            _, _, target, data = heapq.heappop(self._due)
            try:
                target.sendall(data) if data else target.shutdown(socket.SHUT_WR)
            except OSError:
                self._close(target)

    def _close(self, one: socket.socket) -> None:
        other = self._others.pop(one, None)
        one.close()
        if other is not None and self._others.pop(other, None) is not None:
            other.close()


def _run(routes: Sequence[Route], delay_s: float) -> None:
    _Proxy(routes, delay_s).run()


@contextmanager
def delayed(routes: Sequence[Route], delay_s: float) -> Iterator[None]:
    """While these routes have a delay each way."""
    process: BaseProcess = multiprocessing.get_context("spawn").Process(target=_run, args=(routes, delay_s))
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def measured_delay_s(delay_s: float, count: int = 20) -> float:
    """What the proxy really takes one way: half the median round trip of a few bytes through it."""
    port, target = free_ports(2)
    server = socket.create_server((_HOST, target))
    Thread(target=_echo, args=(server,), daemon=True).start()
    with delayed([(port, target)], delay_s), _connected(port) as connection:
        samples = []
        for _ in range(count):
            started = time.perf_counter()
            connection.sendall(bytes(100))
            left = 100
            while left:
                left -= len(connection.recv(left))
            samples.append(time.perf_counter() - started)
    server.close()
    return statistics.median(samples) / 2


def _connected(port: int) -> socket.socket:
    deadline = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection((_HOST, port))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _echo(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        while data := connection.recv(_READ_BYTES):
            connection.sendall(data)
