"""How many meter readings does a ledger take in and audit, and what would the bare cryptography allow?

    python -m benchmarks.ledger [--quick] [--json FILE]

Intake is all of it: signatures, registers, clocks, replay, the salted root, and the SQLite commit with
synchronous=FULL. Raw Ed25519 verification and raw SHA-256 run beside it, before and after, in the same process and
on the same machine, because absolute figures of shared machines drift. A column is what one device signs: with one
reading a column the signature dominates, with 96 (a day of quarter hours) the database does. The audit runs in a
process of its own, so that its peak memory is its own; two sizes of ledger show whether it grows. Block speed is
measured on a chain of small blocks, each with a certificate of three signatures.
"""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.cases import Column as TableColumn
from benchmarks.cases import Criterion, JsonOption, Row, RowFile, conclude, print_table, progress
from coordinator.consensus.certificate import Certificate
from coordinator.consensus.header import Header
from coordinator.consensus.signing import Ed25519Scheme, Ed25519Signer, VoteKind, vote_bytes
from coordinator.ledger.audit import audit
from coordinator.ledger.block_readings import check_block_readings
from coordinator.ledger.genesis import decode_genesis, encode_genesis
from coordinator.ledger.handlers import CORE
from coordinator.ledger.readings import Column, MeterBatch, PendingReadings, SignedColumn, sign_column
from coordinator.ledger.state import Machine
from coordinator.ledger.store import Finalized, Store
from coordinator.ledger.transaction import SignedTransaction, Transaction, sign_transaction
from protos.gridaccord.v1 import ledger_pb2 as pb

QuickOption = Annotated[bool, typer.Option("--quick", help="A tenth of the readings, under a minute.")]
_START_S = 1_900_000_800
_QUARTER_S = 900
_VALIDATORS = 4
_BATCH = 9_600
_RAW = 3_000
_GROWTH_LIMIT = 1.25


@dataclass(frozen=True)
class LedgerRow:
    """One measurement. Rates per second; `peak_mb` the resident set of the auditing process at its largest."""

    name: str
    readings: int = 0
    blocks: int = 0
    seconds: float = 0.0
    readings_per_s: float | None = None
    blocks_per_s: float | None = None
    operations_per_s: float | None = None
    peak_mb: float | None = None
    file_mb: float | None = None


class Operator:
    """Four validators and a utility with meters, all in one process: makes blocks and commits them."""

    def __init__(self, path: Path, devices: int) -> None:
        self.scheme = Ed25519Scheme()
        self.machine = Machine((CORE,), self.scheme)
        self.validators = [_signer(f"validator-{n}") for n in range(_VALIDATORS)]
        self.utility = _signer("utility")
        self.meters = [_signer(f"meter-{n}") for n in range(devices)]
        genesis = decode_genesis(encode_genesis(self._content()))
        self.chain_id = genesis.chain_id
        self.store = Store.create(path, genesis, self.machine)
        self.sequence = 0

    def _content(self) -> dict[str, object]:
        devices = [
            {"name": f"meter-{n}", "owner": "utility", "account": "utility", "public_key": meter.public_key.hex()}
            for n, meter in enumerate(self.meters)
        ]
        keys = [{"name": f"v{n}", "public_key": v.public_key.hex()} for n, v in enumerate(self.validators)]
        return {
            "format": "gridaccord-genesis-1",
            "name": "benchmark",
            "time_ms": _START_S * 1000,
            "version": 1,
            "epoch_length": 1000,
            "validators": keys,
            "participants": [{"name": "utility", "public_key": self.utility.public_key.hex()}],
            "devices": devices,
            "assets": [{"name": "EUR", "issuer": "utility"}],
            "accounts": [{"owner": "utility", "asset": "EUR", "balance": 10**12, "credit_limit": 0}],
            "parameters": {},
            "modules": {},
        }

    def transaction(self, kind: str, content: bytes) -> SignedTransaction:
        """The utility's next."""
        body = Transaction("utility", self.sequence, 2**40, kind, content)
        self.sequence += 1
        return sign_transaction(self.utility, self.chain_id, body)

    def commit(self, transactions: Sequence[SignedTransaction], time_ms: int, batch: MeterBatch | None = None) -> None:
        """A block with its certificate and its readings, checked and made durable."""
        before, batches = self.store.state, {} if batch is None else {0: batch}
        block, applied = self.machine.build(before, transactions, time_ms)
        check_block_readings(before, block, applied, batches, PendingReadings(self.store.readings), self.scheme)
        self.store.commit([Finalized(block, applied, self._certificate(block.header), batches)])

    def _certificate(self, header: Header) -> Certificate:
        at = (header.chain_id, header.epoch, header.height, header.height - 1, header.digest)
        message = vote_bytes(VoteKind.FINALIZE, *at)
        signatures = tuple(validator.sign(message) for validator in self.validators[:3])
        return Certificate(VoteKind.FINALIZE, *at, _VALIDATORS, (0, 1, 2), signatures)

    def column(self, meter: int, first: int, count: int) -> SignedColumn:
        """What a meter says about intervals first, first + 1, ..."""
        start_s = _START_S + first * _QUARTER_S
        clocks = tuple((start_s + (n + 1) * _QUARTER_S) * 1000 for n in range(count))
        registers = tuple(range(1000 + first, 1000 + first + count))
        column = Column(f"meter-{meter}", start_s, _QUARTER_S, 0, clocks, registers)
        return sign_column(self.meters[meter], self.chain_id, column)

    def take_in(self, batch: MeterBatch, time_s: int) -> None:
        """Commit to a batch, check it as every validator does, and store it."""
        signed = self.transaction("readings", batch.commitment.SerializeToString())
        self.commit([signed], max(time_s * 1000, self.store.state.header.time_ms + 1), batch)


def _signer(name: str) -> Ed25519Signer:
    return Ed25519Signer(hashlib.sha256(name.encode()).digest())


def batches(operator: Operator, total: int, count: int) -> Iterator[tuple[MeterBatch, int]]:
    """Batches of columns of `count` readings, until `total` readings; and when the last interval of each has ended."""
    meters, made, day = len(operator.meters), 0, 0
    while made < total:
        for low in range(0, meters, max(1, _BATCH // count)):
            chosen = range(low, min(meters, low + max(1, _BATCH // count)))
            columns = tuple(operator.column(meter, day * count, count) for meter in chosen)
            yield MeterBatch(hashlib.sha256(b"%d" % made).digest()[:16], columns), _ended(day, count)
            made += count * len(chosen)
            if made >= total:
                return
        day += 1


def _ended(day: int, count: int) -> int:
    return _START_S + (day + 1) * count * _QUARTER_S


def raw_rates() -> tuple[float, float]:
    """Ed25519 verifications and SHA-256 hashes of 200 bytes a second, on one core."""
    scheme, signers = Ed25519Scheme(), [_signer(f"raw-{n}") for n in range(50)]
    message = bytes(200)
    signed = [(signer.public_key, signer.sign(message)) for signer in signers]
    started = time.perf_counter()
    for number in range(_RAW):
        key, signature = signed[number % len(signed)]
        assert scheme.verify(key, message, signature)
    verified = _RAW / (time.perf_counter() - started)
    started = time.perf_counter()
    for _ in range(100 * _RAW):
        hashlib.sha256(message).digest()
    return verified, 100 * _RAW / (time.perf_counter() - started)


def intake(folder: Path, count: int, total: int, devices: int) -> LedgerRow:
    """Readings checked and committed, `count` a signature; making and signing them is not counted."""
    operator = Operator(folder / f"intake{count}.sqlite", devices)
    seconds, readings, blocks = 0.0, 0, 0
    for batch, time_s in batches(operator, total, count):
        started = time.perf_counter()
        operator.take_in(batch, time_s)
        seconds += time.perf_counter() - started
        readings, blocks = readings + batch.size, blocks + 1
    operator.store.close()
    name = f"intake, {count} a signature"
    return LedgerRow(name, readings, blocks, seconds, readings / seconds, blocks / seconds)


def transfers(path: Path, blocks: int) -> None:
    """A chain of blocks with ten transactions each."""
    operator = Operator(path, 1)
    content = pb.Issue(owner="utility", asset="EUR", amount=1).SerializeToString()
    for _ in range(blocks):
        signed = [operator.transaction("mint", content) for _ in range(10)]
        operator.commit(signed, operator.store.state.header.time_ms + 1000)
    operator.store.close()


def audited(path: Path, name: str) -> LedgerRow:
    """An audit in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.ledger", "--audit", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    seconds = found["seconds"]
    return LedgerRow(
        name,
        found["readings"],
        found["blocks"],
        seconds,
        found["readings"] / seconds if found["readings"] else None,
        found["blocks"] / seconds,
        peak_mb=found["peak_mb"],
        file_mb=path.stat().st_size / 1e6,
    )


def _audit(path: Path) -> None:
    started = time.perf_counter()
    report = audit(path, (CORE,), Ed25519Scheme())
    seconds = time.perf_counter() - started
    if report.finding is not None:
        sys.exit(f"the audit finds {report.finding}")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(json.dumps({"seconds": seconds, "readings": report.readings, "blocks": report.blocks, "peak_mb": peak_mb}))


def measure(folder: Path, quick: bool, log: RowFile) -> None:
    """All rows, in order."""

    def add(row: LedgerRow) -> None:
        progress(f"{row.name}: {row.seconds:.1f} s")
        log.add(asdict(row))

    def add_raw(when: str) -> None:
        verified, hashed = raw_rates()
        add(LedgerRow(f"raw Ed25519 verification, {when}", operations_per_s=verified))
        add(LedgerRow(f"raw SHA-256 of 200 bytes, {when}", operations_per_s=hashed))

    scale = 10 if quick else 1
    add_raw("before")
    for count, total in ((1, 50_000), (4, 100_000), (96, 300_000)):
        add(intake(folder, count, total // scale, 1_000))
    add_raw("after")
    transfers(folder / "transfers.sqlite", 2_000 // scale)
    add(audited(folder / "transfers.sqlite", "audit, 10 transactions a block"))
    for total in (100_000, 1_000_000):
        path = folder / f"intake96-{total}.sqlite"
        operator = Operator(path, 1_000)
        for batch, time_s in batches(operator, total // scale, 96):
            operator.take_in(batch, time_s)
        operator.store.close()
        add(audited(path, f"audit, {total // scale:,} readings"))


def main(
    quick: QuickOption = False,
    json_file: JsonOption = None,
    audit_path: Annotated[Path | None, typer.Option("--audit", hidden=True)] = None,
) -> None:
    """Measure intake and audit of meter readings beside bare cryptography."""
    if audit_path is not None:
        _audit(audit_path)
        return
    log = RowFile(("name",), json_file, None)
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), quick, log)
    columns = (
        TableColumn("", "name"),
        TableColumn("readings", "readings", ",.0f"),
        TableColumn("blocks", "blocks", ",.0f"),
        TableColumn("s", "seconds", ".2f"),
        TableColumn("readings/s", "readings_per_s", ",.0f"),
        TableColumn("blocks/s", "blocks_per_s", ",.0f"),
        TableColumn("operations/s", "operations_per_s", ",.0f"),
        TableColumn("peak MB", "peak_mb", ".0f"),
        TableColumn("file MB", "file_mb", ".0f"),
    )
    print_table("Ledger: one process, one core, SQLite with synchronous=FULL", columns, log.rows)
    conclude(_criteria(log.rows))


def _criteria(rows: Sequence[Row]) -> list[Criterion]:
    peaks = [float(str(row["peak_mb"])) for row in rows if row["peak_mb"] is not None and row["readings"]]
    growth = peaks[-1] / peaks[0]
    detail = f"{peaks[0]:.0f} MB, with ten times the readings {peaks[-1]:.0f} MB; limit x {_GROWTH_LIMIT}"
    return [Criterion("the audit's memory does not grow with the readings", growth <= _GROWTH_LIMIT, detail)]


if __name__ == "__main__":
    typer.run(main)
