"""Proofs for other chains and answers about settlements, from a chain's durable ledger, in a thread of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from coordinator.consensus.epochs import boundary_height
from coordinator.ledger.proofs import prove_event
from coordinator.ledger.store import Store
from coordinator.service.escrow_index import EscrowIndex
from coordinator.service.final_chain import Ledger
from coordinator.service.settlements import add_settlements, closed_reply, settlement_reply
from coordinator.service.store_thread import StoreThread
from coordinator.settlement.escrow.encoding import decode_event
from coordinator.settlement.escrow.finalized import hub_books
from coordinator.settlement.escrow.missing import Kind
from coordinator.settlement.escrow.types import Decided, SettlementId
from coordinator.settlement.interval.hub import INTERVAL_EVENT
from protos.gridaccord.v1 import service_pb2 as pb

_T = TypeVar("_T")
_STATEMENTS_BACK, _STATEMENTS_KEPT = 2_000, 1_024


class Evidence(StoreThread[EscrowIndex]):
    """Of one chain. Everything but `submit` and `close` runs in its thread."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger, "prove", lambda store: EscrowIndex(store.path.with_name("escrow.sqlite")))
        self._statements: dict[bytes, tuple[int, int, int]] = {}
        self._scanned = -1
        self._shown: tuple[bytes, pb.ChainStatus] | None = None

    def _now(self) -> Store:
        store = super()._now()
        self._index.catch_up(store)
        return store

    def boundary(self, epoch: int) -> bytes | None:
        """What moves a light client out of an epoch, once that is over."""
        found = self._now().boundary(epoch)
        return None if found is None else found.encode()

    def event(self, kind: Kind, sid: SettlementId, known_epoch: int) -> bytes | None:
        """The proof of an event for a light client in this epoch, which keeps the one before as well.

        None where there is no certificate of these epochs yet, or the event is not here.
        """
        store, found = self._now(), self._index.find(kind, sid)
        if found is None or found.height > store.state.header.height:
            return None
        return self._proof(store, found.height, found.place, found.number, known_epoch)

    def statement(self, payload: bytes, known_epoch: int) -> bytes | None:
        """The proof of what this region's validators stated, as `event` gives it. It was stated lately."""
        store = self._now()
        tip = store.state.header.height
        for height in range(max(self._scanned + 1, tip - _STATEMENTS_BACK), tip + 1):
            for place, receipt in enumerate(store.receipts(height)):
                for number, event in enumerate(receipt.events):
                    if event.kind == INTERVAL_EVENT:
                        self._statements[event.payload] = (height, place, number)
        self._scanned = tip
        while len(self._statements) > _STATEMENTS_KEPT:
            del self._statements[next(iter(self._statements))]
        found = self._statements.get(payload)
        return None if found is None else self._proof(store, *found, known_epoch)

    def _proof(self, store: Store, height: int, place: int, number: int, known_epoch: int) -> bytes | None:
        length = store.genesis.epoch_length
        first = boundary_height(known_epoch - 2, length) + 1 if known_epoch > 1 else 0
        certified = store.certified_from(max(height, first))
        if certified is None or certified > boundary_height(known_epoch, length):
            return None
        return prove_event(store, height, place, number, first).encode()

    def registers_wh(self, devices: Sequence[str], at_s: int) -> Mapping[str, int]:
        """What the registers of these devices show at a time, of those that have a reading which ends then."""
        return self._now().readings.registers_wh(devices, at_s)

    def settlement(self, height: int, index: int) -> pb.SettlementReply | None:
        """What the hub says of a settlement, also where it is closed; None where there is none."""
        store, sid = self._now(), SettlementId(height, index)
        record = hub_books(store.state).record(sid)
        if record is not None:
            return settlement_reply(record)
        found = self._index.find(Kind.DECIDED, sid)
        if found is None or found.height > store.state.header.height:
            return None
        decided = decode_event(store.receipts(found.height)[found.place].events[found.number].payload)
        assert isinstance(decided, Decided), "the index says so"
        return closed_reply(decided.outcome)

    def add_settlements(self, status: pb.ChainStatus) -> None:
        """Fill in what `status` shows of settlements: found once a block, however often it is asked for."""
        store = self._now()
        if self._shown is None or self._shown[0] != store.state.header.digest:
            found = pb.ChainStatus()
            add_settlements(found, store)
            self._shown = (store.state.header.digest, found)
        status.MergeFrom(self._shown[1])
