"""A consortium of regions on this machine: organizations, a process each; unless a test says otherwise four of them,
with validator j of every region and seat j of the hub. Starts, kills, pauses and wipes nodes, waits for conditions, and
checks every ledger.

Conditions are polled until a deadline that suits a machine several times slower than one left alone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from actors.ports import free_ports
from benchmarks.cluster import environment, gridaccord
from coordinator.consensus.header import decode_header
from coordinator.consensus.signing import Ed25519Scheme
from coordinator.ledger.audit import audit
from coordinator.ledger.database import open_database
from coordinator.ledger.history import Frontier
from coordinator.ledger.keys import load_key
from coordinator.ledger.records import ACCOUNT, ESCROW, Account, Escrow
from coordinator.ledger.state import LedgerState
from coordinator.ledger.state_tree import tree_of
from coordinator.ledger.transaction import Transaction, sign_transaction
from coordinator.service.client import Client
from coordinator.service.errors import CallFailed
from coordinator.service.home import Home
from coordinator.service.interval_files import EQUIVALENTS, GRID, INTERCONNECTION, SECRET
from coordinator.service.modules import MODULES
from coordinator.service.paying import Payment, opened_in, sign_payment
from coordinator.service.proving import verify_receipt
from coordinator.settlement.escrow.finalized import hub_books, region_books
from coordinator.settlement.escrow.records import RegionState
from coordinator.settlement.escrow.types import Outcome, SettlementId
from protos.gridaccord.v1 import service_pb2 as pb

ROOT = Path(__file__).resolve().parents[3]
ORGANIZATIONS = ("alpha", "beta", "gamma", "delta")
HUB, REGIONS = "center", ("north", "south", "west")
ASSET, OWNED, LIMIT = "EUR", 10**9, 5 * 10**8
WITHIN_S, EPOCH_LENGTH = 90.0, 50
PACE = {"delay_ms": 100, "heartbeat_ms": 250}
HUB_PACE = {"delay_ms": 100, "heartbeat_ms": 100}
WINDOWS = {"window_min": 4, "window_max": 150, "netting_window": 150}
SERVE = "import typer; from actors.serve import serve; typer.run(serve)"
_VALID_BLOCKS = 10**6
_FOUNDED = ("genesis.json", GRID, SECRET, INTERCONNECTION, EQUIVALENTS)


class Consortium:
    """Its nodes; a context manager that starts them and leaves no process behind."""

    def __init__(
        self,
        folder: Path,
        *,
        epoch_length: int = EPOCH_LENGTH,
        pace: Mapping[str, int] = PACE,
        hub_pace: Mapping[str, int] = HUB_PACE,
        windows: Mapping[str, int] = WINDOWS,
        limit: int = LIMIT,
        credit: int = 0,
        intervals: Mapping[str, Any] | None = None,
        parameters: Mapping[str, str] | None = None,
        organizations: Sequence[str] = ORGANIZATIONS,
        seats: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """`credit` is how far each owner may go below zero, `intervals` that section of the consortium file.

        `seats` by chain, of all organizations where it is left out.
        """
        self.folder = folder / "consortium"
        self._logs = folder
        self.organizations = tuple(organizations)
        self.seats = {chain: tuple((seats or {}).get(chain, organizations)) for chain in (HUB, *REGIONS)}
        ports = free_ports(2 * len(organizations))
        self.ports = dict(zip(organizations, ports, strict=False))
        self._metrics_ports = dict(zip(organizations, ports[len(organizations) :], strict=True))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.file = folder / "consortium.yaml"
        held = {"asset": ASSET, "balance": OWNED, "credit_limit": credit}
        accounts = [{"owner": name, **held} for name in organizations]
        common = {"epoch_length": epoch_length, "assets": [{"name": ASSET, "issuer": "alpha"}]}
        regions = [
            {
                "name": name,
                "role": "region",
                "validators": list(self.seats[name]),
                "pace": dict(pace),
                "accounts": accounts,
                "limits": {ASSET: limit},
                "parameters": dict(parameters or {}),
                **common,
            }
            for name in REGIONS
        ]
        hub = {"name": HUB, "role": "hub", "pace": dict(hub_pace), "escrow": dict(windows), **common}
        hub["validators"] = list(self.seats[HUB])
        members = [
            {"name": name, "address": f"127.0.0.1:{port}", "metrics": f"127.0.0.1:{self._metrics_ports[name]}"}
            for name, port in self.ports.items()
        ]
        content: dict[str, Any] = {"name": "test", "organizations": members, "chains": [hub, *regions]}
        content |= {} if intervals is None else {"intervals": dict(intervals)}
        self.file.write_text(yaml.safe_dump(content), encoding="utf-8")
        gridaccord("init", self.file, "-o", self.folder)
        self.genesis = {chain: Home(self.home(seats[0])).genesis(chain) for chain, seats in self.seats.items()}
        self.total = len(REGIONS) * len(organizations) * OWNED

    # Processes.

    def __enter__(self) -> Self:
        for name in self.organizations:
            self.start(name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
        for process in self.processes.values():
            process.wait()

    def start(self, name: str, *options: str, program: Sequence[str] = ("-c", SERVE)) -> None:
        """Start a node, or another program on its folder."""
        with (self._logs / f"{name}.log").open("ab") as log:
            command = [sys.executable, *program, str(self.home(name)), *options]
            self.processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=ROOT,
                env={**environment(), "PYTHONFAULTHANDLER": "1"},
            )

    def has_ended(self, name: str) -> bool:
        """Whether a node had a process and it is gone."""
        process = self.processes.get(name)
        return process is not None and process.poll() is not None

    def send(self, name: str, number: int) -> None:
        """SIGSTOP and SIGCONT, say."""
        os.kill(self.processes[name].pid, number)

    def kill(self, *names: str, number: int = signal.SIGKILL) -> None:
        """End nodes and wait until they are gone."""
        for name in names:
            self.send(name, number)
        for name in names:
            try:
                self.processes[name].wait(WITHIN_S)
            except subprocess.TimeoutExpired:
                self.send(name, signal.SIGABRT)
                self.processes[name].wait()
                raise AssertionError(f"{name} does not end; its threads:\n{self.log(name)[-6000:]}") from None

    def restart(self, *names: str, program: Sequence[str] = ("-c", SERVE), options: Sequence[str] = ()) -> None:
        """Kill nodes that run, all of them before the first starts again."""
        self.kill(*(name for name in names if self.processes[name].poll() is None))
        for name in names:
            self.start(name, *options, program=program)

    def wipe(self, name: str, *kept: str) -> None:
        """Lose what a node which does not run has written, but for these files; what `init` wrote has a backup."""
        for chain in (HUB, *REGIONS):
            for path in (self.home(name) / "chains" / chain).iterdir():
                if path.name not in (*_FOUNDED, *kept):
                    path.unlink()

    # Folders.

    def chains(self, name: str) -> list[str]:
        """Those that a node validates, or follows: everybody has the hub."""
        return [HUB, *(region for region in REGIONS if name in self.seats[region])]

    def home(self, name: str) -> Path:
        """A node's folder."""
        return self.folder / name

    def ledger(self, name: str, chain: str) -> Path:
        """A node's ledger of a chain."""
        return self.home(name) / "chains" / chain / "ledger.sqlite"

    def log(self, name: str) -> str:
        """What a node has logged."""
        return (self._logs / f"{name}.log").read_text(encoding="utf-8")

    def state(self, name: str, chain: str) -> LedgerState:
        """What is final and durable on a node, whether it runs or not."""
        return durable_state(self.ledger(name, chain))

    # Calls.

    def client(self, name: str, who: str = "gateway") -> Client:
        """A connection to a node, with one of its organization's certificates."""
        return Client(f"127.0.0.1:{self.ports[name]}", Home(self.home(name)).credentials(who))

    async def status(self, name: str, chain: str) -> pb.ChainStatus | None:
        """Where a node's chain stands; None where it does not answer."""
        async with self.client(name, "auditor") as client:
            try:
                reply = await client.call("GetStatus", pb.StatusRequest(), 10.0)
            except CallFailed:
                return None
        found: pb.ChainStatus = next(one for one in reply.chains if one.name == chain)
        return found

    def metrics(self, name: str) -> str:
        """A node's Prometheus page."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_ports[name]}/metrics", timeout=10) as page:
            return str(page.read(), "utf-8")

    async def until(self, what: str, condition: Callable[[], Awaitable[Any]], within_s: float = WITHIN_S) -> Any:
        """The first true answer to a question that is asked again and again; fails after a deadline."""
        deadline_s = time.monotonic() + within_s
        while time.monotonic() < deadline_s:
            answer = await condition()
            if answer:
                return answer
            await asyncio.sleep(0.1)
        logs = "\n".join(f"--- {name}\n{self.log(name)[-2500:]}" for name in self.processes)
        raise AssertionError(f"not within {within_s:.0f} s: {what}\n{logs}")

    async def ready(self, names: Sequence[str] = ()) -> None:
        """Until these nodes, or all, vote on their chains or follow them, and know from the hub all regions."""
        for name in names or self.organizations:
            for chain in self.chains(name):

                async def takes_part(name: str = name, chain: str = chain) -> bool:
                    found = await self.status(name, chain)
                    return found is not None and (found.may_vote or found.followed) and found.height > 0

                await self.until(f"{name} takes part in {chain}", takes_part)

            async def registered(name: str = name) -> bool:
                books = hub_books(self.state(name, HUB))
                return all(books.region(region) is not None for region in REGIONS)

            await self.until(f"{name} knows all regions", registered)

    async def open(
        self, payer: str, source: str, target: str, amount: int, *, at: str = "alpha", window: int = 0
    ) -> SettlementId:
        """Open a payment of an owner; `target` is REGION:ACCOUNT, `window` the blocks to D, the hub's own if 0."""
        hub, signer = self.genesis[HUB], load_key(self.home(payer) / "keys" / "participant.key")
        region, _, account = target.partition(":")
        wanted = Payment(payer, source, region, account, ASSET, amount)
        async with self.client(at) as client:
            request = pb.ParticipantRequest(chain_id=hub.chain_id, participant=payer)
            known = await client.call("GetParticipant", request)
            opening = sign_payment(wanted, hub, known.height, signer, window)
            valid_until = known.height + _VALID_BLOCKS
            body = Transaction(payer, known.next_sequence, valid_until, "escrow_open", opening.encoded)
            signed = sign_transaction(signer, hub.chain_id, body)
            submission = pb.SubmitRequest(chain_id=hub.chain_id, transaction=signed.encoded, wait=True)
            reply = await client.call("Submit", submission, WITHIN_S)
            assert not reply.code, f"{reply.code}: {reply.detail}"
            receipt = pb.TransactionRequest(chain_id=hub.chain_id, digest=reply.digest)
            proof = await client.call("GetTransaction", receipt)
        return opened_in(verify_receipt(proof, reply.digest, hub, Ed25519Scheme())[1])

    async def settlement(self, sid: SettlementId, at: str = "alpha") -> pb.SettlementReply:
        """What the hub says of a settlement."""
        request = pb.SettlementRequest(chain_id=self.genesis[HUB].chain_id, height=sid.height, index=sid.index)
        async with self.client(at) as client:
            reply: pb.SettlementReply = await client.call("GetSettlement", request)
        return reply

    async def decided(self, sid: SettlementId, at: str = "alpha") -> str:
        """Until the hub has decided, and the node says so: commit or abort."""

        async def decision() -> str:
            try:
                state = (await self.settlement(sid, at)).state
            except CallFailed:
                return ""
            return "" if state == "open" else state

        found: str = await self.until(f"{sid} is decided", decision)
        return found

    # Books.

    def region_state(self, name: str, region: str, sid: SettlementId) -> RegionState | None:
        """How a settlement stands in a region; None where it is not known (any more)."""
        record = region_books(self.state(name, region)).record(sid)
        return None if record is None else record.state

    def balance(self, name: str, region: str, owner: str) -> int:
        """What an owner has in a region, on a node."""
        data = self.state(name, region).tree.get(Account.key(owner, ASSET))
        return 0 if data is None else Account.decode(data).balance

    def is_at_rest(self, name: str) -> bool:
        """Whether on a node every settlement is decided and applied, and nothing is in escrow."""
        books = hub_books(self.state(name, HUB))
        records = [books.record(sid) for sid in books.unclosed()]
        applied = all(record is not None and record.outcome and all(record.applied) for record in records)
        return applied and not any(any(self.state(name, region).tree.items(ESCROW)) for region in REGIONS)

    async def rest(self, names: Sequence[str] = ORGANIZATIONS) -> None:
        """Until these nodes, which have all chains, are at rest; then money is conserved on each to the micro-unit."""
        for name in names:

            async def at_rest(name: str = name) -> bool:
                return self.is_at_rest(name)

            await self.until(f"{name} is at rest", at_rest)
        for name in names:
            assert self.money(name) == self.total, f"{name} counts {self.money(name)} of {self.total} micro-units"

    def money(self, name: str) -> int:
        """All of it on one node: free, in escrow, owed, and what decided settlements have still to move (I4).

        Chains are read one after another, so it is exact while nothing moves.
        """
        hub = hub_books(self.state(name, HUB))
        states = {region: self.state(name, region) for region in REGIONS}
        total = sum(_held(state) for state in states.values())
        for sid in hub.unclosed():
            record = hub.record(sid)
            if record is None or record.outcome is not Outcome.COMMIT:
                continue
            for leg in record.opening.open.legs:
                if leg.region not in states:
                    continue
                here = region_books(states[leg.region]).record(sid)
                if here is None or here.state is not RegionState.COMMITTED:
                    total += leg.amount
        return total + hub.held(ASSET)

    def audit_all(self, names: Sequence[str] = ()) -> None:
        """Every ledger of these nodes, or of all, is valid from its genesis."""
        for name in names or self.organizations:
            for chain in self.chains(name):
                chain_id = self.genesis[chain].chain_id
                report = audit(self.ledger(name, chain), MODULES, Ed25519Scheme(), chain_id=chain_id)
                assert report.finding is None, f"{name} {chain}: {report.finding}"
                assert report.height > 0, f"{name} {chain} is empty"


def durable_state(ledger: Path) -> LedgerState:
    """What a ledger holds after its last block, without its history; a node may be at work on it."""
    with closing(open_database(ledger, read_only=True)) as connection:
        connection.execute("BEGIN")
        (header,) = connection.execute("SELECT header FROM blocks ORDER BY height DESC LIMIT 1").fetchone()
        tree = tree_of(connection.execute("SELECT key, value FROM state"))
    return LedgerState(decode_header(header), tree, Frontier())


def _held(state: LedgerState) -> int:
    accounts = [(key, Account.decode(data).balance) for key, data in state.tree.items(ACCOUNT)]
    free = sum(balance for key, balance in accounts if key.endswith(b"\0" + ASSET.encode()))
    escrowed = [Escrow.decode(data) for _, data in state.tree.items(ESCROW)]
    books = region_books(state)
    owed = sum(books.suspense(key[len(ACCOUNT) :].split(b"\0")[0], ASSET) for key, _ in accounts)
    return free + sum(one.amount for one in escrowed if one.asset == ASSET) + owed
