"""How fast is a transaction final on four validators in four processes, and how far is that from what the machine can?

    python -m benchmarks.service [--quick] [--json FILE]

Loopback, mutual TLS 1.3, real keys, journal and SQLite synchronised. Finality is the time from when a proposer begins
to build a block until it knows that the block is final; "submitted" is what a client waits until the transaction is
final and durable on its node. Beside it, measured in the same run before the nodes start: a durable append to a file,
the rate of signature verification of one core, and a bare round trip on a gRPC stream with the same TLS between two
processes. The second table has a proxy that delays every byte between nodes; its limit is three delays and 12 ms. A
delay counts as measured, by an echo through the same proxy: a timer and two sockets add about half a millisecond. It
is measured with the ledgers on the disk, which four validators share here, and in memory, which none of them waits for.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer

from benchmarks.cases import (
    Column,
    Criterion,
    JsonOption,
    Row,
    RowFile,
    conclude,
    print_table,
    progress,
    values,
)
from benchmarks.cluster import ORGANIZATIONS, Cluster
from benchmarks.delay import measured_delay_s
from coordinator.consensus.signing import Ed25519Scheme, Ed25519Signer
from coordinator.service import access
from coordinator.service.identity import ANY_NODE, Credentials, Role, issue, make_authority
from protos.gridaccord.v1 import service_pb2

FINALITY_AIM_S = 0.012
DELAYS_MS = (25, 50, 100)
_PHASES = 3
_SAMPLES = 300
_MESSAGE = bytes(200)
_IN_FLIGHT = 128
_MEMORY = Path("/dev/shm")

QuickOption = Annotated[bool, typer.Option("--quick", help="A third of everything.")]


@dataclass(frozen=True)
class ServiceRow:
    """One measurement; times in seconds."""

    name: str
    p50_s: float | None = None
    p99_s: float | None = None
    per_s: float | None = None
    samples: int = 0
    delay_s: float = 0.0


def percentiles(samples: Sequence[float]) -> tuple[float, float]:
    """p50 and p99."""
    ordered = sorted(samples)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]


def raw_sync(folder: Path) -> ServiceRow:
    """An append and fsync of a few hundred bytes."""
    handle, samples = os.open(folder / "sync.bin", os.O_CREAT | os.O_WRONLY, 0o600), []
    for _ in range(_SAMPLES):
        started = time.perf_counter()
        os.write(handle, _MESSAGE)
        os.fsync(handle)
        samples.append(time.perf_counter() - started)
    os.close(handle)
    return ServiceRow("raw fsync of 200 bytes, nothing else running", *percentiles(samples), None, len(samples))


def raw_verification() -> ServiceRow:
    """Signatures that one core verifies a second."""
    signer, scheme, count = Ed25519Signer(bytes(range(32))), Ed25519Scheme(), 3_000
    signature = signer.sign(_MESSAGE)
    started = time.perf_counter()
    for _ in range(count):
        assert scheme.verify(signer.public_key, _MESSAGE, signature)
    return ServiceRow("raw Ed25519 verification, one core", per_s=count / (time.perf_counter() - started))


def raw_round_trip(folder: Path) -> ServiceRow:
    """A message of 200 bytes there and back on a gRPC stream with mutual TLS, between two processes."""
    authority = make_authority("bench", datetime.datetime.now(datetime.UTC), 1)
    signer = Ed25519Signer(bytes(range(32)))
    mine = issue(authority, signer, "echo", "echo", (Role.VALIDATOR,), datetime.datetime.now(datetime.UTC), 1)
    for name, content in (("key", mine.key), ("certificate", mine.certificate), ("authority", mine.authority)):
        (folder / f"echo.{name}").write_bytes(content)
    command = [sys.executable, "-m", "benchmarks.service", "--echo", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        try:
            samples = asyncio.run(_round_trips(port, mine))
        finally:
            process.terminate()
    return ServiceRow("bare gRPC round trip, stream, mutual TLS", *percentiles(samples), None, len(samples))


async def _round_trips(port: int, mine: Credentials) -> list[float]:
    credentials = grpc.ssl_channel_credentials(mine.authority, mine.key, mine.certificate)
    options = (("grpc.ssl_target_name_override", ANY_NODE),)
    samples = []
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        call: Any = channel.stream_stream("/echo/Echo")
        stream = call()
        for _ in range(_SAMPLES):
            started = time.perf_counter()
            await stream.write(_MESSAGE)
            await stream.read()
            samples.append(time.perf_counter() - started)
        stream.cancel()
    return samples[_SAMPLES // 10 :]


async def echo(folder: Path) -> None:
    """The other side of the round trip."""
    key, certificate, authority = (
        (folder / f"echo.{name}").read_bytes() for name in ("key", "certificate", "authority")
    )

    async def behavior(requests: Any, context: Any) -> None:
        while (message := await context.read()) is not grpc.aio.EOF:
            await context.write(message)

    server = grpc.aio.server()
    methods = {"Echo": grpc.stream_stream_rpc_method_handler(behavior)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo", methods),))
    credentials = grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


async def latency(cluster: Cluster, count: int) -> list[float]:
    """One transaction after another, submitted to one node: what its client waits."""
    await cluster.ready()
    samples = []
    async with cluster.client("alpha") as client:
        for sequence in range(count):
            request = cluster.request(cluster.transfer("alpha", sequence, "beta"))
            started = time.perf_counter()
            reply = await client.call("Submit", request)
            samples.append(time.perf_counter() - started)
            assert reply.code == "", reply.detail
    return samples


async def finality(cluster: Cluster) -> tuple[float, float, float, int]:
    """p50 and p99 of finality over all proposers, p50 of durable writes, and the number of blocks."""
    found = []
    for name in ORGANIZATIONS:
        async with cluster.client(name, "auditor") as client:
            found.append((await client.call("GetStatus", service_pb2.StatusRequest())).chains[0])
    return (
        statistics.median(one.finality_p50_us for one in found) / 1e6,
        max(one.finality_p99_us for one in found) / 1e6,
        statistics.median(one.sync_p50_us for one in found) / 1e6,
        sum(one.finality_samples for one in found),
    )


async def throughput(cluster: Cluster, first: int, count: int) -> float:
    """Final transactions a second: four signers, each through its own node, many in flight."""
    signed = {
        name: [cluster.transfer(name, n, ORGANIZATIONS[0 if name != "alpha" else 1]) for n in range(count)]
        for name in ORGANIZATIONS[1:]
    }
    started = time.perf_counter()
    await asyncio.gather(*(_submit_all(cluster, name, ones) for name, ones in signed.items()))
    return count * len(signed) / (time.perf_counter() - started)


async def _submit_all(cluster: Cluster, name: str, transactions: Sequence[Any]) -> None:
    async with cluster.client(name) as client:
        for start in range(0, len(transactions), _IN_FLIGHT):
            part = transactions[start : start + _IN_FLIGHT]
            last = start + _IN_FLIGHT >= len(transactions)
            calls = [client.call("Submit", cluster.request(one, wait=last and one is part[-1]), 60.0) for one in part]
            await asyncio.gather(*calls)


def on_loopback(folder: Path, quick: bool, log: RowFile) -> None:
    """The first table."""
    count = 60 if quick else 200
    with Cluster(folder, pace={"delay_ms": 500, "heartbeat_ms": 100}) as cluster:

        async def measure() -> None:
            samples = await latency(cluster, count)
            p50, p99, sync, blocks = await finality(cluster)
            log.add(asdict(ServiceRow("durable write of a node (with final blocks or without)", sync, samples=blocks)))
            log.add(asdict(ServiceRow("finality, 4 validators", p50, p99, samples=blocks)))
            log.add(asdict(ServiceRow("submitted until final and durable", *percentiles(samples), None, count)))
            rate = await throughput(cluster, count, count * 5)
            log.add(asdict(ServiceRow("final transactions, three signers", per_s=rate, samples=count * 15)))

        asyncio.run(measure())


def with_delay(folder: Path, delay_ms: int, where: str, quick: bool, log: RowFile) -> None:
    """A row of the second table. An idle chain waits for work longer than a round trip, as it would over such links."""
    pace = {"delay_ms": max(500, 5 * delay_ms), "heartbeat_ms": 1_000}
    delay_s = measured_delay_s(delay_ms / 1000)
    with Cluster(folder, pace=pace, delay_s=delay_ms / 1000) as cluster:

        async def measure() -> None:
            samples = await latency(cluster, 20 if quick else 40)
            p50, p99, sync, blocks = await finality(cluster)
            about = f"{delay_s * 1e3:.1f} ms one way, ledgers {where}"
            log.add(asdict(ServiceRow(f"finality, {about}", p50, p99, samples=blocks, delay_s=delay_s)))
            log.add(asdict(ServiceRow(f"durable write, {about}", sync, samples=blocks)))
            log.add(asdict(ServiceRow(f"submitted until final, {about}", *percentiles(samples), None, len(samples))))

        asyncio.run(measure())


def verdicts(rows: Sequence[Row]) -> list[Criterion]:
    """What the rows prove."""
    criteria = []
    for row in rows:
        name, delay_s = str(row["name"]), float(str(row["delay_s"]))
        if name.startswith("finality"):
            (p50,) = values([row], "p50_s")
            limit = _PHASES * delay_s + FINALITY_AIM_S
            detail = f"p50 {p50 * 1e3:.1f} ms, aim {limit * 1e3:.0f} ms"
            criteria.append(Criterion(name, p50 <= limit, detail, aim=True))
    return criteria


COLUMNS = (
    Column("", "name"),
    Column("p50 ms", "p50_s", ",.2f", 1e3),
    Column("p99 ms", "p99_s", ",.2f", 1e3),
    Column("per s", "per_s", ",.0f"),
    Column("samples", "samples"),
)


def main(
    quick: QuickOption = False,
    json_file: JsonOption = None,
    echo_folder: Annotated[Path | None, typer.Option("--echo", hidden=True)] = None,
) -> None:
    """Measure finality and throughput of four nodes beside disk, signatures and gRPC alone."""
    assert access.CONNECT, "imported first: it sets what TLS may negotiate"
    if echo_folder is not None:
        asyncio.run(echo(echo_folder))
        return
    log = RowFile(("name",), json_file, None)
    with tempfile.TemporaryDirectory(dir=os.environ.get("GRIDACCORD_BENCH_DIR")) as text:
        folder = Path(text)
        for row in (raw_sync(folder), raw_verification(), raw_round_trip(folder)):
            log.add(asdict(row))
        (folder / "near").mkdir()
        on_loopback(folder / "near", quick, log)
        progress("loopback measured")
        near = len(log.rows)
        for delay_ms in DELAYS_MS:
            far = folder / f"far{delay_ms}"
            far.mkdir()
            with_delay(far, delay_ms, "on disk", quick, log)
            if _MEMORY.is_dir():
                with tempfile.TemporaryDirectory(dir=_MEMORY) as memory:
                    with_delay(Path(memory), delay_ms, "in memory", quick, log)
            progress(f"{delay_ms} ms measured")
    print_table("Four validators, four processes, loopback, mutual TLS 1.3", COLUMNS, log.rows[:near])
    print_table("The same with a delay between nodes", COLUMNS, log.rows[near:])
    conclude(verdicts(log.rows))


if __name__ == "__main__":
    typer.run(main)
