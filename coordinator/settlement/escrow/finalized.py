"""The books of the protocol in a finalized state of a ledger: to be read, by relays, servers and observers."""

from __future__ import annotations

from coordinator.consensus.signing import Ed25519Scheme, Scheme
from coordinator.ledger.state import LedgerState, Module
from coordinator.ledger.view import BlockContext, Context, Records
from coordinator.settlement.escrow.books import RegionEntry
from coordinator.settlement.escrow.handlers import ESCROW_HUB, ESCROW_REGION
from coordinator.settlement.escrow.ledger_books import REGION, HubLedger, RegionLedger

_SCHEME = Ed25519Scheme()


def hub_books(state: LedgerState, scheme: Scheme = _SCHEME) -> HubLedger:
    """Of the hub; writes to them change nothing."""
    return HubLedger(_context(state, ESCROW_HUB, scheme))


def region_books(state: LedgerState, scheme: Scheme = _SCHEME) -> RegionLedger:
    """Of a region; writes to them change nothing."""
    return RegionLedger(_context(state, ESCROW_REGION, scheme))


def registered(books: HubLedger) -> tuple[RegionEntry, ...]:
    """The regions that a hub knows, by name."""
    found = [books.region(key.removeprefix(REGION).decode()) for key, _ in books.records.items(REGION)]
    return tuple(entry for entry in found if entry is not None)


def _context(state: LedgerState, module: Module, scheme: Scheme) -> Context:
    header, view = state.header, state.view
    block = BlockContext(header.chain_id, header.height, header.epoch, header.time_ms, header.version, scheme)
    return Context(view, block, Records(view, module.prefix))
