"""A consortium of four organizations on this machine, each node a process of its own, for benchmarks and tests.

Ports are free ones of loopback. With a delay, every node reaches every other through a proxy that holds bytes back
by so much each way.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from actors.ports import free_ports
from benchmarks.delay import Route, delayed
from coordinator.ledger.keys import load_key
from coordinator.ledger.transaction import SignedTransaction, Transaction, sign_transaction
from coordinator.service.client import Client
from coordinator.service.errors import CallFailed
from coordinator.service.home import Home
from protos.gridaccord.v1 import ledger_pb2, service_pb2

ORGANIZATIONS = ("alpha", "beta", "gamma", "delta")
CHAIN = "hub"
_ROOT = Path(__file__).resolve().parent.parent
_SERVE = "import typer; from actors.serve import serve; typer.run(serve)"
"""`gridaccord serve` without loading what the other commands need."""
_COMMAND = "import sys; from actors.cli import app; sys.argv[0] = 'gridaccord'; app()"
_VALID = 10**9


def gridaccord(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command of this checkout."""
    command = [sys.executable, "-c", _COMMAND, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=check, cwd=_ROOT, timeout=120, env=environment()
    )


def environment() -> dict[str, str]:
    """Processes compile what they import once, and not each of them anew."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {"PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / f"gridaccord-cache-{os.getuid()}"), **kept}


class Cluster:
    """Nodes of one chain below a folder, four unless others are named; a context manager that leaves none running."""

    def __init__(
        self,
        folder: Path,
        *,
        organizations: Sequence[str] = ORGANIZATIONS,
        pace: Mapping[str, int] | None = None,
        epoch_length: int = 10_000,
        delay_s: float = 0.0,
        certificate_days: int = 398,
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder / "consortium"
        self._logs = folder
        self.ports = dict(zip(organizations, free_ports(len(organizations)), strict=True))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._delay_s = delay_s
        self._delaying = ExitStack()
        chain = {
            "name": CHAIN,
            "epoch_length": epoch_length,
            "pace": dict(pace or {"delay_ms": 250, "heartbeat_ms": 100}),
            "assets": [{"name": "EUR", "issuer": organizations[0]}],
            "accounts": [{"owner": name, "asset": "EUR", "balance": 10**12} for name in organizations],
            "parameters": dict(parameters or {}),
        }
        addresses = [{"name": name, "address": f"127.0.0.1:{port}"} for name, port in self.ports.items()]
        content = {
            "name": "test",
            "organizations": addresses,
            "chains": [chain],
            "certificate_days": certificate_days,
        }
        self.file = folder / "consortium.yaml"
        self.file.write_text(yaml.safe_dump(content), encoding="utf-8")
        gridaccord("init", self.file, "-o", self.folder)
        self.chain_id = Home(self.home(organizations[0])).genesis(CHAIN).chain_id

    def home(self, name: str) -> Path:
        """A node's folder."""
        return self.folder / name

    def ledger(self, name: str) -> Path:
        """A node's ledger file."""
        return self.home(name) / "chains" / CHAIN / "ledger.sqlite"

    def log(self, name: str) -> str:
        """What a node has logged."""
        return (self._logs / f"{name}.log").read_text(encoding="utf-8")

    def __enter__(self) -> Self:
        if self._delay_s:
            self._start_proxy()
        for name in self.ports:
            self.start(name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._delaying.close()

    def start(self, name: str, *options: str, script: Sequence[str] = ("-c", _SERVE)) -> None:
        """Start a node; `script` says as what, where it is not the program of this checkout."""
        with (self._logs / f"{name}.log").open("ab") as log:
            command = [sys.executable, *script, str(self.home(name)), *options]
            self.processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, cwd=_ROOT, env=environment()
            )

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """End a node and wait until it is gone."""
        os.kill(self.processes[name].pid, number)
        self.processes[name].wait(20)

    def _start_proxy(self) -> None:
        routes: list[Route] = []
        for name in self.ports:
            path = self.home(name) / "node.yaml"
            settings = yaml.safe_load(path.read_text(encoding="utf-8"))
            for peer in settings["peers"]:
                (port,) = free_ports(1)
                routes.append((port, self.ports[peer["name"]]))
                peer["address"] = f"127.0.0.1:{port}"
            path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        self._delaying.enter_context(delayed(routes, self._delay_s))

    def client(self, name: str, who: str = "gateway") -> Client:
        """A connection to a node, with one of its organization's certificates."""
        return Client(f"127.0.0.1:{self.ports[name]}", Home(self.home(name)).credentials(who))

    def transfer(self, name: str, sequence: int, to: str, amount: int = 1) -> SignedTransaction:
        """A transfer by an organization."""
        signer = load_key(self.home(name) / "keys" / "participant.key")
        content = ledger_pb2.Transfer(to=to, asset="EUR", amount=amount).SerializeToString()
        return sign_transaction(signer, self.chain_id, Transaction(name, sequence, _VALID, "transfer", content))

    def request(self, signed: SignedTransaction, wait: bool = True) -> service_pb2.SubmitRequest:
        """To submit a transaction."""
        return service_pb2.SubmitRequest(chain_id=self.chain_id, transaction=signed.encoded, wait=wait)

    async def wait_until(
        self, condition: Callable[[service_pb2.ChainStatus], bool], names: Sequence[str], within_s: float = 20.0
    ) -> None:
        """Until the chain's status satisfies a condition on each of these nodes; fails after a deadline."""
        await asyncio.gather(*(self._wait_for(name, condition, within_s) for name in names))

    async def _wait_for(self, name: str, condition: Callable[[service_pb2.ChainStatus], bool], within_s: float) -> None:
        deadline, last = time.monotonic() + within_s, "no answer"
        while time.monotonic() < deadline:
            if self.processes[name].poll() is not None:
                raise AssertionError(f"{name} has ended:\n{self.log(name)[-3000:]}")
            # A new channel each time: one that failed to connect waits long before it tries again.
            async with self.client(name, "auditor") as client:
                try:
                    while time.monotonic() < deadline:
                        reply = await client.call("GetStatus", service_pb2.StatusRequest(), 2.0)
                        last = str(reply.chains[0])
                        if condition(reply.chains[0]):
                            return
                        await asyncio.sleep(0.02)
                except CallFailed as error:
                    last = str(error)
            await asyncio.sleep(0.05)
        raise AssertionError(f"{name}: not within {within_s} s; last: {last}\n{self.log(name)[-3000:]}")

    async def ready(self, names: Sequence[str] = ()) -> None:
        """Until these nodes finalize; all of them where none is named."""
        await self.wait_until(lambda status: status.height >= 2, names or tuple(self.ports), 60.0)


@contextmanager
def cluster(folder: Path, **options: Any) -> Iterator[Cluster]:
    """A consortium that runs."""
    with Cluster(folder, **options) as running:
        yield running
