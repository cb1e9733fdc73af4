"""The blocks of a ledger file one after another, as they stand there or carried out again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from sqlite3 import Connection

from actors.results.run_folder import ChainFile
from coordinator.consensus.certificate import Certificate, decode_certificate
from coordinator.consensus.header import Header, decode_header
from coordinator.consensus.signing import Ed25519Scheme
from coordinator.ledger.block import Block, decode_payload
from coordinator.ledger.boundary import decode_boundary
from coordinator.ledger.genesis import machine_of, start
from coordinator.ledger.receipt import DONE, Receipt, decode_receipt
from coordinator.ledger.registry import CURRENT, NEXT, committee
from coordinator.ledger.state import Applied
from coordinator.ledger.transaction import Transaction
from coordinator.service.modules import MODULES

_BLOCKS = (
    "SELECT blocks.header, blocks.payload, certificates.certificate FROM blocks"
    " LEFT JOIN certificates USING (height) WHERE height > 0 ORDER BY height"
)
_RECEIPTS = "SELECT receipt FROM receipts WHERE height = ? ORDER BY place"


@dataclass(frozen=True, slots=True)
class LedgerBlock:
    """A final block. `certificate` is None where a later block's finalizes it; the last receipt is of the block."""

    block: Block
    receipts: tuple[Receipt, ...]
    certificate: Certificate | None

    @property
    def header(self) -> Header:
        """Its header."""
        return self.block.header

    def done(self) -> Iterator[tuple[Transaction, Receipt]]:
        """Transactions that were carried out."""
        for signed, receipt in zip(decode_payload(self.block.payload), self.receipts, strict=False):
            if receipt.code == DONE:
                yield signed.transaction, receipt


def read_blocks(chain: ChainFile) -> Iterator[LedgerBlock]:
    """From block 1 on. Nothing is verified: that is what `coordinator.ledger.audit` does."""
    with chain.reading() as connection:
        yield from blocks_of(connection)


def blocks_of(connection: Connection) -> Iterator[LedgerBlock]:
    """The same, of the transaction that is open."""
    for encoded, payload, certificate in connection.execute(_BLOCKS):
        header = decode_header(encoded)
        rows = connection.execute(_RECEIPTS, (header.height,))
        receipts = tuple(decode_receipt(row) for (row,) in rows)
        known = None if certificate is None else decode_certificate(certificate)
        yield LedgerBlock(Block(header, payload), receipts, known)


def validator_names(chain: ChainFile) -> dict[int, tuple[str, ...]]:
    """By epoch, the validators in the order of their index; by key, hexadecimal, who is no participant any more."""
    with chain.reading() as connection:
        rows = connection.execute("SELECT boundary FROM boundaries ORDER BY epoch").fetchall()
    view = chain.view()
    keys = [chain.genesis.validators.public_keys, *(decode_boundary(row).next_validators for (row,) in rows)]
    known = {entry["public_key"]: entry["name"] for entry in _validators(chain)}
    for slot in (CURRENT, NEXT):
        known |= {key.hex(): name for name, key in committee(view, slot).members}
    return {epoch: tuple(known.get(key.hex(), key.hex()) for key in members) for epoch, members in enumerate(keys)}


def _validators(chain: ChainFile) -> list[dict[str, str]]:
    entries = chain.genesis.content["validators"]
    assert isinstance(entries, list), "genesis has been decoded"
    return entries


def replay(chain: ChainFile) -> Iterator[tuple[LedgerBlock, Applied]]:
    """Each block with what it does when it is carried out again from genesis. Raises BlockRefused."""
    machine = machine_of(chain.genesis, MODULES, Ed25519Scheme())
    state = start(chain.genesis, machine)
    for found in read_blocks(chain):
        applied = machine.apply(state, found.block)
        state = applied.state
        yield found, applied
