"""I1 to I10 over what an observer of all chains sees. Shared by the model, the simulator and tests.

An observation holds the books as they are and the histories that finalized chains never forget: what the hub opened
and decided, which verdicts it counted, which states each region entered. I11 (replay gives the same) needs two runs
and is a property of the hosts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from coordinator.settlement.escrow.errors import InvariantViolated
from coordinator.settlement.escrow.memory import HubMemory, RegionMemory
from coordinator.settlement.escrow.records import HubRecord, HubTransition, RegionState, RegionTransition
from coordinator.settlement.escrow.types import (
    HUB,
    Decided,
    Opened,
    Opening,
    Outcome,
    Reason,
    SettlementId,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision in the hub's history."""

    sid: SettlementId
    open_digest: bytes
    outcome: Outcome
    reason: Reason
    height: int


@dataclass(frozen=True, slots=True)
class Counted:
    """A verdict in the hub's history, at the height that included its receipt."""

    sid: SettlementId
    region: str
    verdict: Verdict
    height: int


@dataclass(frozen=True, slots=True)
class Entered:
    """A state that a region entered; `watermark` is the one it had then."""

    sid: SettlementId
    state: RegionState
    open_digest: bytes
    watermark: SettlementId | None


@dataclass(frozen=True, slots=True)
class HubObserved:
    """One hub node. `height` is its last finished block."""

    books: HubMemory
    height: int
    opened: tuple[tuple[SettlementId, Opening], ...] = ()
    decided: tuple[Decision, ...] = ()
    counted: tuple[Counted, ...] = ()

    def after(self, transition: HubTransition) -> HubObserved:
        """Observe a transition as well; the books are applied here."""
        opened = [(event.sid, event.opening) for event in transition.events if isinstance(event, Opened)]
        latest = {record.sid: record for record in transition.records}
        decided, counted = [], []
        for event in transition.events:
            if isinstance(event, Decided):
                record = latest[event.sid]
                assert record.reason is not None, "a decision has a reason"
                assert record.decided_height is not None, "a decision has a height"
                decided.append(
                    Decision(event.sid, event.open_digest, event.outcome, record.reason, record.decided_height)
                )
        for record in latest.values():
            earlier = self.books.record(record.sid)
            before = earlier.votes if earlier is not None else (None,) * len(record.votes)
            for name, old, new in zip(record.participants, before, record.votes, strict=True):
                if new is not None and new != old:
                    counted.append(Counted(record.sid, name, new.verdict, new.height))
        return replace(
            self,
            books=self.books.apply(transition),
            opened=(*self.opened, *opened),
            decided=(*self.decided, *decided),
            counted=tuple(sorted((*self.counted, *counted), key=_counted_key)),
        )


@dataclass(frozen=True, slots=True)
class RegionObserved:
    """One region."""

    books: RegionMemory
    entered: tuple[Entered, ...] = ()

    def after(self, transition: RegionTransition) -> RegionObserved:
        """Observe a transition as well; the books are applied here."""
        entered = [
            Entered(record.sid, record.state, record.open_digest, self.books.watermark) for record in transition.records
        ]
        return RegionObserved(self.books.apply(transition), (*self.entered, *entered))

    def states(self, sid: SettlementId) -> tuple[RegionState, ...]:
        """Every state it entered for a settlement, in order."""
        return tuple(entry.state for entry in self.entered if entry.sid == sid)


@dataclass(frozen=True, slots=True)
class Observation:
    """All chains at once. `hubs` are nodes of the hub, the most advanced first; `supply` per asset is from genesis."""

    hubs: tuple[HubObserved, ...]
    regions: tuple[RegionObserved, ...]
    supply: Mapping[str, int]


def check(observation: Observation) -> None:
    """Raise InvariantViolated unless I1 to I9 hold, and of I10 that nothing is undecided past its deadline."""
    hub = observation.hubs[0]
    _check_outcomes(hub, observation.regions)
    for other in observation.hubs[1:]:
        _check_same_decisions(hub, other)
    _check_decisions(hub, observation.regions)
    _check_conservation(observation)
    for region in observation.regions:
        _check_escrow(region)
        _check_order_of_states(region)
    _check_positions(hub)
    _check_decided_in_time(hub)


def check_settled(observation: Observation) -> None:
    """I10 at the end of a run in which everything healed: nothing is open, in doubt, or undelivered."""
    hub = observation.hubs[0]
    for sid in hub.books.unclosed():
        record = hub.books.record(sid)
        _require("I10", record is not None and record.outcome is not None, f"{sid} is still open")
        _require("I10", record is not None and _applied(hub.books, record), f"{sid} is not applied everywhere")
    for region in observation.regions:
        for sid, record_ in region.books.records.items():
            _require("I10", record_.state is not RegionState.YES, f"{region.books.region} still doubts {sid}")


def _applied(books: HubMemory, record: HubRecord) -> bool:
    """By everybody whose chain still counts."""
    pairs = zip(record.participants, record.applied, strict=True)
    return all(done or books.regions[name].frozen for name, done in pairs)


def _counted_key(item: Counted) -> tuple[SettlementId, str]:
    return item.sid, item.region


def _require(name: str, holds: bool, reason: str) -> None:
    if not holds:
        raise InvariantViolated(name, reason)


def _check_outcomes(hub: HubObserved, regions: tuple[RegionObserved, ...]) -> None:
    """I1: no settlement is COMMITTED in one region and ABORTED in another."""
    for sid, _ in hub.opened:
        states = [state for region in regions for state in region.states(sid)]
        both = RegionState.COMMITTED in states and RegionState.ABORTED in states
        _require("I1", not both, f"{sid} is committed in one region and aborted in another")


def _check_same_decisions(hub: HubObserved, other: HubObserved) -> None:
    """I2: what two nodes of the hub decided is the same."""
    decided = {decision.sid: decision for decision in hub.decided}
    for decision in other.decided:
        _require("I2", decided.get(decision.sid, decision) == decision, f"two hub nodes differ on {decision.sid}")


def _check_decisions(hub: HubObserved, regions: tuple[RegionObserved, ...]) -> None:
    """I2: one decision a settlement. I3: a COMMIT rests on a YES of everybody in time. I8: no early timeout."""
    openings = dict(hub.opened)
    seen: dict[SettlementId, Outcome] = {}
    for decision in hub.decided:
        sid, opening = decision.sid, openings[decision.sid]
        deadline = opening.open.deadline_height
        _require("I2", sid not in seen, f"{sid} is decided twice")
        seen[sid] = decision.outcome
        early = decision.reason is Reason.DEADLINE and decision.height <= deadline
        _require("I8", not early, f"{sid} timed out at {decision.height}, its deadline is {deadline}")
        if decision.outcome is Outcome.COMMIT:
            _check_commit(hub, regions, sid, opening)
    for region in regions:
        for entry in region.entered:
            committed = entry.state is RegionState.COMMITTED
            _require("I3", not committed or seen.get(entry.sid) is Outcome.COMMIT, f"{entry.sid} was never committed")


def _check_commit(hub: HubObserved, regions: tuple[RegionObserved, ...], sid: SettlementId, opening: Opening) -> None:
    by_name = {region.books.region: region for region in regions}
    for name in opening.open.participants:
        in_time = any(
            (item.sid, item.region, item.verdict) == (sid, name, Verdict.YES)
            and item.height <= opening.open.deadline_height
            for item in hub.counted
        )
        _require("I3", in_time, f"{sid} was committed without a YES of {name} by the deadline")
        said = any(
            (entry.sid, entry.state, entry.open_digest) == (sid, RegionState.YES, opening.digest)
            for entry in by_name[name].entered
        )
        _require("I3", said, f"{sid} was committed and {name} never said YES to this OPEN")


def _check_conservation(observation: Observation) -> None:
    """I4: free + escrow + the hub's own accounts + what COMMITs have still to do is what genesis issued."""
    hub = observation.hubs[0]
    openings = dict(hub.opened)
    committed = [openings[item.sid].open for item in hub.decided if item.outcome is Outcome.COMMIT]
    sids = [item.sid for item in hub.decided if item.outcome is Outcome.COMMIT]
    for asset, issued in observation.supply.items():
        total = sum(amount for (_, of), amount in hub.books.accounts.items() if of == asset)
        for region in observation.regions:
            books = region.books
            total += sum(amount for (_, of), amount in books.balances.items() if of == asset)
            total += sum(amount for (_, _, of), amount in books.escrow.items() if of == asset)
            for sid, content in zip(sids, committed, strict=True):
                if RegionState.COMMITTED not in region.states(sid):
                    total += content.net(books.region, asset)
        _require("I4", total == issued, f"{total} {asset} exist of {issued} issued")


def _check_escrow(region: RegionObserved) -> None:
    """I5: nothing is negative, and exactly the debits of settlements in YES are in escrow."""
    books = region.books
    for (account, asset), amount in books.balances.items():
        enough = amount + books.credit_limit(account, asset) >= 0
        _require("I5", enough, f"{account!r} in {books.region} holds {amount} {asset}")
    expected = {
        (record.sid, leg.account, leg.asset): -leg.amount
        for record in books.records.values()
        if record.state is RegionState.YES
        for leg in record.legs
        if leg.amount < 0
    }
    _require("I5", dict(books.escrow) == expected, f"the escrow of {books.region} is not what its YES records lock")


def _check_order_of_states(region: RegionObserved) -> None:
    """I6: each settlement is applied at most once. I7: no YES after an ABORT or below the watermark."""
    applied: list[SettlementId] = []
    aborted: list[SettlementId] = []
    name = region.books.region
    for entry in region.entered:
        if entry.state in (RegionState.COMMITTED, RegionState.ABORTED):
            _require("I6", entry.sid not in applied, f"{entry.sid} is applied twice in {name}")
            applied.append(entry.sid)
        if entry.state is RegionState.ABORTED:
            aborted.append(entry.sid)
        if entry.state is RegionState.YES:
            _require("I7", entry.sid not in aborted, f"{name} said YES to {entry.sid} after its ABORT")
            closed = entry.watermark is not None and entry.sid <= entry.watermark
            _require("I7", not closed, f"{name} said YES to {entry.sid}, which the hub has closed")


def _check_positions(hub: HubObserved) -> None:
    """I9: positions sum to zero in each asset, and none is below what its collateral is good for."""
    books = hub.books
    for asset in sorted({asset for _, asset in books.positions}):
        total = sum(amount for (_, of), amount in books.positions.items() if of == asset)
        _require("I9", total == 0, f"net positions in {asset} sum to {total}")
    for (name, asset), amount in books.positions.items():
        within = name == HUB or amount >= -books.limit(name, asset)
        _require("I9", within, f"{name} owes {-amount} {asset} of at most {books.limit(name, asset)}")


def _check_decided_in_time(hub: HubObserved) -> None:
    """I10: after the block D + 1 nothing is undecided."""
    for record in hub.books.records.values():
        late = record.outcome is None and hub.height > record.deadline_height
        _require("I10", not late, f"{record.sid} is undecided after height {hub.height}")
