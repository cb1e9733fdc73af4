"""A node of the coordinator service in a thread with an event loop of its own: its process does other things too."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

from actors.cluster.equivocator import EquivocatingCore
from coordinator.ledger.keys import load_key
from coordinator.service.home import Home
from coordinator.service.log import Log
from coordinator.service.node import Node

_STOP_S = 60.0


class NodeThread:
    """Starts at once. `failed` is called in the thread with what ended the node, if it was not asked to."""

    def __init__(self, home: Path, log: Path, failed: Callable[[BaseException], None]) -> None:
        """Raises ConfigurationError where the folder cannot be used."""
        self._home = Home(home)
        self._log = log
        self._failed = failed
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._node: Node
        self._stopping: asyncio.Event
        self._thread = threading.Thread(target=self._run, name=f"node-{self._home.settings.name}", daemon=True)
        self._thread.start()
        self._started.wait()

    def equivocate(self) -> None:
        """Break the protocol from now on, on every chain."""
        self._loop.call_soon_threadsafe(self._turn_byzantine)

    def _turn_byzantine(self) -> None:
        signer = load_key(self._home.validator_key)
        for chain_id, host in self._node.hosts.items():
            host.core = EquivocatingCore(host.core, signer, chain_id)  # type: ignore[assignment]

    def stop(self) -> None:
        """End the node and wait until its files are closed."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._failed(error)
        finally:
            self._started.set()

    async def _main(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        with self._log.open("a", encoding="utf-8") as stream:
            self._node = Node(self._home, Log(stream))
            self._started.set()
            await self._node.run(stopping=self._stopping)
