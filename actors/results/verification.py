"""Independent verification of a run: is it feasible, optimal, paid for to the micro-unit, and proven?

Everything is judged from ledgers and grid files alone. `verify` says what was checked and what does not hold;
`write_verification` puts that beside the run's tables.
"""

from __future__ import annotations

from pathlib import Path

from actors.results.audits import audits
from actors.results.collect import RunRecord, complete_manifest, read_run
from actors.results.ledger_checks import LedgerChecks
from actors.results.market_checks import MarketChecks
from actors.results.money_checks import MoneyChecks
from actors.results.tables import FOLDER, PROOFS, Row, write_tables
from actors.results.verdict import Verification


def verify(run: Path) -> Verification:
    """Verify a run as its ledgers are now. Raises RunError where there is nothing to read."""
    return verify_record(read_run(run))


def verify_record(record: RunRecord) -> Verification:
    """Verify what was read. Raises RunError where a ledger has gone meanwhile."""
    with audits(record.folder.chains) as under_way:
        market, money, ledgers = MarketChecks(record), MoneyChecks(record), LedgerChecks(record.folder, under_way)
        for part in (market, money, ledgers):
            part.run()
    return Verification((*market.checks, *money.checks, *ledgers.checks), tuple(ledgers.proofs))


def write_verification(run: Path, verification: Verification) -> dict[str, int]:
    """Write the tables `chains`, `checks` and `failures`; how many rows each has, which also go to the manifest."""
    rows: dict[str, list[Row]] = {
        "chains": [
            (
                proof.chain, proof.role, proof.chain_id, proof.organization, proof.height, proof.tip,
                not proof.finding, proof.finding or None, proof.blocks, proof.transactions, proof.certificates,
                proof.readings, list(proof.agreeing), proof.common_height,
            )
            for proof in verification.chains
        ],
        "checks": [
            (check.name, check.checked, len(check.failures), check.worst, check.tolerance, check.unit)
            for check in verification.checks
        ],
        "failures": [
            (
                failure.check, None if failure.interval is None else failure.interval.start_s * 1000,
                failure.region or None, failure.element, failure.problem,
            )
            for failure in verification.failures
        ],
    }  # fmt: skip
    counts = write_tables(run / FOLDER, PROOFS, rows)
    complete_manifest(run, counts)
    return counts
