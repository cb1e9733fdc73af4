"""Consortia go through manifests; and what generates, cuts off, carries out and checks does what it says."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from actors.ports import free_ports
from coordinator.ledger.records import Account
from coordinator.settlement.escrow.types import Outcome, SettlementId
from tests.coordinator.service import bills, manifests
from tests.coordinator.service.consortium_harness import ASSET, HUB, LIMIT, ORGANIZATIONS, OWNED, REGIONS, Consortium
from tests.coordinator.service.gated_network import Gate, GatedNetwork, Route
from tests.coordinator.service.manifest_checks import (
    check_all,
    check_audits,
    check_conserved,
    check_convictions,
    check_intervals,
    check_one_history,
    check_region,
    check_settlements,
)
from tests.coordinator.service.manifest_plan import (
    Coupling,
    Expected,
    FaultKind,
    Local,
    Manifest,
    Money,
    Payment,
    Readings,
    generate,
)
from tests.coordinator.service.manifest_run import Done
from tests.coordinator.service.manifests import Result, carry_out, main, run
from tests.coordinator.service.recomputation import Settlements, settlements_of
from tests.coordinator.service.small_market import interval_of

PHASES = 3
CUT_BYZANTINE_KILL_ALL, PAUSE_KILL_LOSE_DISK = 18, 53
WITHIN_S = 60.0

Past = tuple[Manifest, Consortium, Done]


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    """What a manifest has left, checked."""
    manifest = generate(CUT_BYZANTINE_KILL_ALL, PHASES, intervals=True)
    print(manifest)
    consortium, done = carry_out(manifest, tmp_path_factory.mktemp("manifest"))
    check_all(manifest, consortium, done)
    return manifest, consortium, done


def test_cut_off_byzantine_and_all_killed(past: Past) -> None:
    manifest, _, done = past
    assert [phase.fault.kind for phase in manifest.phases] == [FaultKind.CUT, FaultKind.BYZANTINE, FaultKind.KILL]
    assert manifest.phases[1].fault.mode == "equivocate"
    assert manifest.phases[2].fault.nodes == tuple(sorted(ORGANIZATIONS))
    assert sum(done.counts.values()) == len(list(manifest.operations))
    assert {*done.settlements.values()} == {Expected.COMMITTED, Expected.ABORTED}
    assert len(done.intervals) == PHASES


def test_stopped_killed_and_a_lost_disk(tmp_path: Path) -> None:
    manifest = generate(PAUSE_KILL_LOSE_DISK, PHASES)
    kinds = [phase.fault.kind for phase in manifest.phases]
    assert kinds == [FaultKind.PAUSE, FaultKind.KILL, FaultKind.LOSE_DISK]
    run(manifest, tmp_path)


# The checks find what they are for.


def change(consortium: Consortium, name: str, chain: str, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(consortium.ledger(name, chain))) as connection:
        assert connection.execute(statement, values).rowcount > 0
        connection.commit()


@pytest.fixture
def copied(past: Past, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Past:
    """The same on a copy of its folders."""
    shutil.copytree(past[1].folder, tmp_path / "copy")
    monkeypatch.setattr(past[1], "folder", tmp_path / "copy")
    return past


def give(consortium: Consortium, name: str, region: str, owner: str, amount: int) -> None:
    key = Account.key(owner, ASSET)
    data = consortium.state(name, region).tree.get(key)
    assert data is not None
    account = Account.decode(data)
    more = replace(account, balance=account.balance + amount).encode()
    change(consortium, name, region, "UPDATE state SET value = ? WHERE key = ?", more, key)


def test_a_micro_unit_at_the_wrong_owner_is_found(copied: Past) -> None:
    manifest, consortium, _ = copied
    settlements = settlements_of(consortium.ledger("beta", HUB))
    give(consortium, "beta", "west", "alpha", 1)
    give(consortium, "beta", "west", "beta", -1)
    check_conserved(consortium, "beta", manifest, settlements_of(consortium.ledger("beta", HUB)))
    with pytest.raises(AssertionError, match="its blocks say"):
        check_region(consortium, "beta", "west", settlements)


def test_a_micro_unit_too_much_is_found(copied: Past) -> None:
    manifest, consortium, done = copied
    give(consortium, "beta", "west", "alpha", 1)
    with pytest.raises(AssertionError, match="micro-units"):
        check_conserved(consortium, "beta", manifest, settlements_of(consortium.ledger("beta", HUB)))
    with pytest.raises(AssertionError, match="audit of west on beta"):
        check_audits(consortium, done)


def test_a_region_that_has_not_applied_a_settlement_is_found(copied: Past) -> None:
    """A ledger that ends before the last of them is applied there."""
    _, consortium, _ = copied
    settlements = settlements_of(consortium.ledger("gamma", HUB))
    check_region(consortium, "gamma", "north", settlements)
    last = max(sid for sid, settlement in settlements.items() if "north" in settlement.participants)
    for height in range(consortium.state("gamma", "north").header.height, 0, -1):
        for table in ("receipts", "blocks"):
            change(consortium, "gamma", "north", f"DELETE FROM {table} WHERE height = ?", height)
        try:
            check_region(consortium, "gamma", "north", settlements)
        except AssertionError as error:
            assert f"to {last}: " in str(error)
            return
    raise AssertionError("found in no block")


def test_another_outcome_than_the_expected_is_found(past: Past) -> None:
    _, consortium, done = past
    settlements = settlements_of(consortium.ledger("alpha", HUB))
    for wanted, other in ((Expected.COMMITTED, Expected.ABORTED), (Expected.ABORTED, Expected.COMMITTED)):
        sid = next(sid for sid, expected in done.settlements.items() if expected is wanted)
        with pytest.raises(AssertionError, match=f"{sid} is to be {other.value}"):
            check_settlements(settlements, replace(done, settlements=done.settlements | {sid: other}))
        missing = {one: expected for one, expected in done.settlements.items() if one != sid}
        with pytest.raises(AssertionError, match="told"):
            check_settlements(settlements, replace(done, settlements=missing))


def test_another_history_is_found(copied: Past) -> None:
    _, consortium, _ = copied
    change(consortium, "delta", "north", "UPDATE blocks SET digest = ? WHERE height = 7", bytes(32))
    with pytest.raises(AssertionError, match="delta has another history of north"):
        check_one_history(consortium)


def test_a_conviction_too_few_or_too_many_is_found(past: Past) -> None:
    manifest, consortium, _ = past
    (culprit,) = manifest.byzantine
    harmless = replace(manifest, phases=(manifest.phases[0],))
    with pytest.raises(AssertionError, match=f"convicts on center: .*{culprit}"):
        check_convictions(consortium, "alpha", harmless)


def one_netting(past: Past) -> tuple[Settlements, SettlementId]:
    """What alpha's hub has settled, and the last netting of an interval that moved money."""
    settlements = settlements_of(past[1].ledger("alpha", HUB))
    return settlements, max(sid for sid, one in settlements.items() if one.is_netting and one.committed)


def test_a_coupled_interval_that_is_not_paid_is_found(past: Past) -> None:
    _, consortium, done = past
    settlements, sid = one_netting(past)
    check_intervals(consortium, "alpha", settlements, done)
    with pytest.raises(AssertionError, match=r"moved \[\] of"):
        check_intervals(
            consortium, "alpha", {**settlements, sid: replace(settlements[sid], outcomes=[Outcome.ABORT])}, done
        )
    del settlements[sid]
    with pytest.raises(AssertionError, match=r"moved \[\] of"):
        check_intervals(consortium, "alpha", settlements, done)


def test_an_interval_that_is_paid_otherwise_than_agreed_is_found(past: Past) -> None:
    _, consortium, done = past
    settlements, sid = one_netting(past)
    first, second, *others = settlements[sid].legs
    legs = (replace(first, amount=first.amount + 1), replace(second, amount=second.amount - 1), *others)
    settlements[sid] = replace(settlements[sid], legs=legs)
    with pytest.raises(AssertionError, match=r"alpha: \{.* of \{"):
        check_intervals(consortium, "alpha", settlements, done)


def test_an_interval_that_never_ended_is_found(past: Past) -> None:
    _, consortium, done = past
    settlements, _ = one_netting(past)
    longer = replace(done, intervals=[*done.intervals, interval_of(len(done.intervals))])
    with pytest.raises(AssertionError, match="alpha: "):
        check_intervals(consortium, "alpha", settlements, longer)


def test_a_bill_with_another_price_is_found(copied: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recomputation multiplies; it does not repeat what the state says."""
    _, consortium, _ = copied
    settlements = settlements_of(consortium.ledger("beta", HUB))
    check_region(consortium, "beta", "north", settlements)
    monkeypatch.setattr(bills, "_PRICE_SCALE", 2**20 + 1)
    with pytest.raises(AssertionError, match="its blocks say"):
        check_region(consortium, "beta", "north", settlements)


# Manifests.


def test_a_manifest_follows_from_its_seed_and_begins_alike_whatever_its_length() -> None:
    assert generate(3) == generate(3)
    assert str(generate(3)) == str(generate(3))
    assert generate(3).phases != generate(4).phases
    assert generate(3, 2).phases == generate(3).phases[:2]
    for line in map(str, (*generate(3).operations, *(phase.fault for phase in generate(3).phases))):
        assert line in str(generate(3))


def test_with_intervals_a_manifest_is_the_same_and_has_one_in_every_phase() -> None:
    plain, coupled = generate(3), generate(3, intervals=True)
    assert (plain.has_intervals, coupled.has_intervals) == (False, True)
    for before, phase in zip(plain.phases, coupled.phases, strict=True):
        more = [one for one in phase.operations if isinstance(one, Coupling)]
        rest = tuple(one for one in phase.operations if not isinstance(one, Coupling))
        assert (len(more), phase.fault, rest) == (1, before.fault, before.operations)


def test_manifests_hold_everything_and_at_most_one_process_is_faulty_unless_all_stop() -> None:
    found = [generate(seed) for seed in range(24)]
    phases = [phase for manifest in found for phase in manifest.phases]
    assert {phase.fault.kind for phase in phases} == set(FaultKind)
    assert {len(phase.fault.nodes) for phase in phases} == {1, 2, 3, 4}
    assert {phase.fault.mode for phase in phases} == {"", "equivocate", "replay", "garbage", "flood"}
    assert all(len(phase.fault.nodes) == 1 or phase.fault.kind is FaultKind.KILL for phase in phases)
    assert all(phase.fault.hold_ms >= 10_000 for phase in phases if phase.fault.kind is FaultKind.PAUSE)
    operations = [operation for phase in phases for operation in phase.operations]
    assert {one.kind for one in operations if isinstance(one, Local)} == set(Money)
    assert {one.expected for one in operations if isinstance(one, Payment)} == set(Expected) - {Expected.CARRIED_OUT}
    assert any(isinstance(one, Readings) for one in operations)


@pytest.mark.parametrize("seed", range(24))
def test_who_is_not_poor_can_always_pay_and_no_region_owes_more_than_its_limit(seed: int) -> None:
    manifest = generate(seed)
    for region in REGIONS:
        paid = dict.fromkeys(ORGANIZATIONS, 0)
        for one in manifest.operations:
            where = one.region if isinstance(one, Local) else one.source if isinstance(one, Payment) else ""
            done = not isinstance(one, Readings) and one.expected in (Expected.CARRIED_OUT, Expected.COMMITTED)
            if where == region and done and not isinstance(one, Readings):
                minted = isinstance(one, Local) and one.kind is Money.MINT
                paid[one.signer] += 0 if minted else one.amount
        rich = [name for name in ORGANIZATIONS if (name, region) != (manifest.poor, manifest.poor_region)]
        assert max(paid[name] for name in rich) <= min(OWNED, LIMIT), f"seed {seed}"
        if region == manifest.poor_region:
            assert paid[manifest.poor] == OWNED - 5, f"seed {seed}"


# The network.


@pytest.fixture
def routed() -> Iterator[tuple[GatedNetwork, Route]]:
    route = Route("alpha", "beta", *free_ports(2))
    with GatedNetwork([route]) as network:
        yield network, route


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)
    writer.close()


async def exchanged(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    writer.write(data)
    async with asyncio.timeout(WITHIN_S):
        return await reader.readexactly(len(data))


@pytest.mark.parametrize("node", ["alpha", "beta"])
def test_a_closed_gate_ends_connections_and_takes_no_new_ones(routed: tuple[GatedNetwork, Route], node: str) -> None:
    network, route = routed

    async def scenario() -> None:
        await asyncio.start_server(echo, "127.0.0.1", route.target_port)
        before = await asyncio.open_connection("127.0.0.1", route.port)
        assert await exchanged(*before, b"one") == b"one"
        network.set("gamma", Gate.CLOSED)
        assert await exchanged(*before, b"two") == b"two"
        network.set(node, Gate.CLOSED)
        for connection in (before, await asyncio.open_connection("127.0.0.1", route.port)):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await exchanged(*connection, b"three")
        network.set(node, Gate.OPEN)
        assert await exchanged(*await asyncio.open_connection("127.0.0.1", route.port), b"four") == b"four"

    asyncio.run(scenario())


def test_behind_a_silent_gate_bytes_and_connections_wait(routed: tuple[GatedNetwork, Route]) -> None:
    network, route = routed

    async def scenario() -> None:
        await asyncio.start_server(echo, "127.0.0.1", route.target_port)
        before = await asyncio.open_connection("127.0.0.1", route.port)
        assert await exchanged(*before, b"one") == b"one"
        network.set("beta", Gate.SILENT)
        connections = (before, await asyncio.open_connection("127.0.0.1", route.port))
        waiting = [asyncio.create_task(exchanged(*connection, b"two")) for connection in connections]
        done, _ = await asyncio.wait(waiting, timeout=0.5)
        assert not done
        network.set("beta", Gate.OPEN)
        assert await asyncio.gather(*waiting) == [b"two", b"two"]

    asyncio.run(scenario())


# The command.


@pytest.fixture
def attempted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Seeds that were run; seed 2 fails."""
    seeds: list[int] = []

    def attempt(seed: int, phases: int, intervals: bool, keep: Path | None) -> Result:
        seeds.append(seed)
        return Result(seed, phases, 1.0, [], error="wrong" if seed == 2 else "")

    monkeypatch.setattr(manifests, "_attempt", attempt)
    return seeds


def command(path: Path, *options: str) -> Sequence[str]:
    return ("--resume", str(path), *options)


def test_the_command_goes_on_where_it_stopped_and_remembers_what_failed(attempted: list[int], tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    assert main(command(path, "--seeds", "2")) == 0
    assert main(command(path, "--seeds", "4")) == 1
    assert attempted == [0, 1, 2, 3]
    assert [json.loads(line)["seed"] for line in path.read_text().splitlines()] == [0, 1, 2, 3]
    assert main(command(path, "--seeds", "4")) == 1
    assert main(command(path, "--seeds", "1", "--start-seed", "3")) == 0
    assert attempted == [0, 1, 2, 3]


def test_a_line_that_was_cut_short_is_run_again(attempted: list[int], tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    main(command(path, "--seeds", "2"))
    path.write_text(path.read_text()[:-20])
    assert main(command(path, "--seeds", "2")) == 0
    assert attempted == [0, 1, 1]
    assert main(command(path, "--seeds", "2")) == 0
    assert attempted == [0, 1, 1]
