"""Ports for processes that start in a moment: free now, and nothing takes one by accident meanwhile."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice

_PORTS = range(20_000, 32_000)
"""Below those that systems give to whoever asks for any (Linux: from 32768 on, RFC 6335: from 49152 on), which Ray's
processes and every outgoing connection do."""


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports of an address of this machine that nobody has. Raises OSError where it has not so many."""
    with ExitStack() as held:
        ports = list(islice(_bound(held, host), count))
    if len(ports) < count:
        raise OSError(f"{host}: fewer than {count} ports are free from {_PORTS.start} to {_PORTS.stop - 1}")
    return ports


def _bound(held: ExitStack, host: str) -> Iterator[int]:
    for port in random.sample(_PORTS, len(_PORTS)):
        one = socket.socket()
        try:
            one.bind((host, port))
        except OSError as error:
            one.close()
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        held.enter_context(one)
        yield port
