"""`gridaccord audit`: verify a ledger file from nothing but its genesis, and say what is wrong where.

Exit code 0 where all is well, 1 where something is wrong or there is no ledger.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from coordinator.consensus.signing import Ed25519Scheme
from coordinator.ledger.audit import AuditReport, audit
from coordinator.ledger.errors import StoreError
from coordinator.service.modules import MODULES

LEDGER_FILE = "ledger.sqlite"
_PROGRESS_AFTER_S = 2.0
_CHAIN_ID_DIGITS = 64

LedgerPath = Annotated[
    Path, typer.Argument(metavar="PATH", help="A ledger file, or a folder with ledger.sqlite in it.")
]
ChainId = Annotated[
    str | None, typer.Option(metavar="HEX", help="The chain it must be: SHA-256 of its genesis document.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]


def audit_command(path: LedgerPath, chain_id: ChainId = None, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Verify a ledger: certificates, hashes, roots, invariants; names the first wrong table, height and field."""
    file = path / LEDGER_FILE if path.is_dir() else path
    started = time.monotonic()
    progress = _ignore if quiet else _Progress(time.monotonic)
    try:
        report = audit(file, MODULES, Ed25519Scheme(), chain_id=_chain_id(chain_id), progress=progress)
    except StoreError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    seconds = time.monotonic() - started
    if as_json:
        document = {"valid": report.valid, **asdict(report), "seconds": round(seconds, 3)}
        typer.echo(json.dumps(document, indent=2, allow_nan=False))
    else:
        _show(report, seconds, trusted=chain_id is not None)
    if report.finding is not None:
        if not as_json:
            typer.echo(f"error: {report.finding}", err=True)
        raise typer.Exit(1)


def _chain_id(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(text) != _CHAIN_ID_DIGITS or not value:
        raise typer.BadParameter(f"a chain id is {_CHAIN_ID_DIGITS} hexadecimal digits", param_hint="--chain-id")
    return value


def _show(report: AuditReport, seconds: float, *, trusted: bool) -> None:
    begin = "genesis" if not report.base_height else f"the snapshot at height {report.base_height}"
    pairs = {
        "ledger": report.path,
        "chain": f"{report.chain} {report.chain_id}" + ("" if trusted else " (as the file says; compare it)"),
        "verified": f"{begin} to height {report.height}, {_rate(report.blocks, 'blocks', seconds)}",
        "transactions": f"{report.transactions:,}",
        "certificates": f"{report.certificates:,}",
        "readings": _rate(report.readings, "readings", seconds) + f"; {report.readings_pruned:,} pruned",
        "result": "valid" if report.valid else "NOT valid",
    }
    for name, value in pairs.items():
        typer.echo(f"{name:<12}  {value}")


def _rate(number: int, what: str, seconds: float) -> str:
    rate = f", {number / seconds:,.0f}/s" if number and seconds > 0 else ""
    return f"{number:,} {what}{rate}"


def _ignore(report: AuditReport) -> None:
    """No progress."""


class _Progress:
    """A line on standard error every two seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = clock()

    def __call__(self, report: AuditReport) -> None:
        now = self._clock()
        if now - self._last >= _PROGRESS_AFTER_S:
            self._last = now
            typer.echo(f"height {report.height:,}, {report.readings:,} readings", err=True)


if __name__ == "__main__":
    typer.run(audit_command)
