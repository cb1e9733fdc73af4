"""`gridaccord audit` as a user runs it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from actors import audit as command
from coordinator.ledger.audit import AuditReport
from tests.actors.support import gridaccord
from tests.coordinator.ledger.support import Chain


@pytest.fixture
def ledger(tmp_path: Path) -> Chain:
    chain = Chain(path=tmp_path / "ledger.sqlite")
    for _ in range(3):
        chain.add(chain.pay("alice", "bob", 5))
    assert chain.store is not None
    chain.store.close()
    return chain


def path_of(chain: Chain) -> Path:
    assert chain.path is not None
    return chain.path


def test_a_valid_ledger_by_file_and_by_folder(ledger: Chain) -> None:
    for path in (path_of(ledger), path_of(ledger).parent):
        ran = gridaccord("audit", path)
        assert (ran.code, ran.err) == (0, "")
        assert "genesis to height 3, 3 blocks" in ran.out
        assert "result        valid" in ran.out
        assert ledger.chain_id.hex() in ran.out


def test_json_is_one_object(ledger: Chain) -> None:
    document = gridaccord("audit", path_of(ledger), "--json", "--quiet", "--chain-id", ledger.chain_id.hex()).json
    assert (document["valid"], document["height"], document["finding"]) == (True, 3, None)
    assert {"blocks", "transactions", "certificates", "readings", "chain_id", "seconds"} <= set(document)


def test_what_is_wrong_is_named_and_the_exit_code_says_so(ledger: Chain) -> None:
    connection = sqlite3.connect(path_of(ledger))
    with connection:
        connection.execute("UPDATE blocks SET payload = x'00' WHERE height = 2")
    connection.close()
    ran = gridaccord("audit", path_of(ledger))
    assert ran.code == 1
    assert "error: table blocks, height 2, payload:" in ran.err
    assert "NOT valid" in ran.out
    ran = gridaccord("audit", path_of(ledger), "--json")
    finding = json.loads(ran.out)["finding"]
    assert (ran.code, finding["table"], finding["height"], finding["field"]) == (1, "blocks", 2, "payload")


def test_a_truncated_file_another_chain_and_no_file(ledger: Chain, tmp_path: Path) -> None:
    ran = gridaccord("audit", path_of(ledger), "--chain-id", "00" * 32)
    assert ran.code == 1
    assert "table meta" in ran.err
    whole = path_of(ledger).read_bytes()
    path_of(ledger).write_bytes(whole[: len(whole) // 2])
    ran = gridaccord("audit", path_of(ledger))
    assert ran.code == 1
    assert "error: table database" in ran.err
    for missing in (tmp_path / "missing", tmp_path.parent):
        ran = gridaccord("audit", missing)
        assert ran.code == 1
        assert "there is no ledger file; check the path" in ran.err


def test_a_wrong_option_is_exit_code_two(ledger: Chain) -> None:
    assert gridaccord("audit", path_of(ledger), "--chain-id", "xyz").code == 2


def test_progress_comes_every_two_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    now = iter((0.0, 1.0, 2.5, 3.0, 4.6))
    progress = command._Progress(lambda: next(now))
    for height in range(4):
        progress(AuditReport("ledger", height=height))
    assert capsys.readouterr().err == "height 1, 0 readings\nheight 3, 0 readings\n"
