"""What people are shown of settlements: on the hub one by one, on each chain how many and what is in doubt."""

from __future__ import annotations

from collections import Counter

from coordinator.ledger.state import LedgerState
from coordinator.ledger.store import Store
from coordinator.settlement.escrow.finalized import hub_books, region_books, registered
from coordinator.settlement.escrow.records import HubRecord
from coordinator.settlement.escrow.region_record import in_doubt
from coordinator.settlement.escrow.registration import is_hub, region_section
from coordinator.settlement.escrow.types import Outcome
from protos.gridaccord.v1 import service_pb2 as pb

HUB_STATES = ("open", "commit", "abort")
REGION_STATES = ("yes", "no", "committed", "aborted")
_SHOWN = 20


def add_settlements(status: pb.ChainStatus, store: Store) -> None:
    """Fill in the settlements of a chain as it is in a store; nothing for a chain without."""
    if is_hub(store.genesis):
        _add_counts(status, HUB_STATES, _of_hub(store.state))
        entries = registered(hub_books(store.state))
        status.regions.extend(entry.name for entry in entries if entry.active and not entry.frozen)
    elif region_section(store.genesis) is not None:
        _add_counts(status, REGION_STATES, _of_region(store.state))
        waiting = in_doubt(region_books(store.state))
        status.in_doubt_total = len(waiting)
        for item in waiting[:_SHOWN]:
            (header,) = store.headers(item.since_height, 1)
            status.in_doubt.add(sid=str(item.sid), since_height=item.since_height, since_ms=header.time_ms)


def settlement_reply(record: HubRecord) -> pb.SettlementReply:
    """Of one that is not closed."""
    reply = pb.SettlementReply(
        state=_hub_state(record),
        reason="" if record.reason is None else record.reason.name.lower(),
        deadline_height=record.deadline_height,
        decided_height=record.decided_height or 0,
    )
    for region, vote, applied in zip(record.participants, record.votes, record.applied, strict=True):
        verdict = "" if vote is None else vote.verdict.name.lower()
        reply.participants.add(region=region, verdict=verdict, applied=applied)
    return reply


def closed_reply(outcome: Outcome) -> pb.SettlementReply:
    """Of one that is closed."""
    return pb.SettlementReply(state=outcome.name.lower(), closed=True)


def _add_counts(status: pb.ChainStatus, states: tuple[str, ...], found: Counter[str]) -> None:
    for state in states:
        status.settlements.add(state=state, count=found[state])


def _hub_state(record: HubRecord) -> str:
    return "open" if record.outcome is None else record.outcome.name.lower()


def _of_hub(state: LedgerState) -> Counter[str]:
    books = hub_books(state)
    records = [books.record(sid) for sid in books.unclosed()]
    return Counter(_hub_state(record) for record in records if record is not None)


def _of_region(state: LedgerState) -> Counter[str]:
    books = region_books(state)
    records = [books.record(sid) for sid in books.sids()]
    return Counter(record.state.name.lower() for record in records if record is not None)
