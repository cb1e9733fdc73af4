"""The readings that a block commits to, and the duty of every validator: no vote for a block without them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from coordinator.consensus.signing import Scheme
from coordinator.ledger.block import Block, decode_payload
from coordinator.ledger.errors import ReadingsRefused
from coordinator.ledger.handlers import READINGS
from coordinator.ledger.messages import parse
from coordinator.ledger.readings import MeterBatch, PendingReadings, check_batch, reading_rules
from coordinator.ledger.receipt import DONE
from coordinator.ledger.registry import device_of
from coordinator.ledger.state import Applied, LedgerState
from protos.gridaccord.v1 import ledger_pb2 as pb

_COMMITMENT_MAX = 2**20


def committed_batches(block: Block, applied: Applied) -> list[tuple[int, pb.ReadingsCommitment]]:
    """Places of transactions that commit to readings and were carried out, and what they commit to."""
    found = []
    for place, signed in enumerate(decode_payload(block.payload)):
        if signed.transaction.kind == READINGS and applied.receipts[place].code == DONE:
            found.append((place, parse(pb.ReadingsCommitment, signed.transaction.content, _COMMITMENT_MAX)))
    return found


def device_keys(state: LedgerState) -> Callable[[str], bytes | None]:
    """The key of a device by its name, None for one that is not registered."""
    view = state.view

    def key(name: str) -> bytes | None:
        device = device_of(view, name)
        return None if device is None else device.public_key

    return key


def check_block_readings(
    before: LedgerState,
    block: Block,
    applied: Applied,
    batches: Mapping[int, MeterBatch],
    pending: PendingReadings,
    scheme: Scheme,
) -> None:
    """Raise ReadingsRefused unless every batch that the block commits to is at hand and holds.

    `pending` knows the readings of all ancestors; after this those of the block too, after a refusal throw it away.
    """
    commitments = committed_batches(block, applied)
    if sorted(batches) != [place for place, _ in commitments]:
        raise ReadingsRefused("a batch is missing, or one is given that the block does not commit to")
    for place, commitment in commitments:
        check_batch(
            batches[place],
            commitment,
            pending,
            device_keys(before),
            rules=reading_rules(before.view),
            now_s=block.header.time_ms // 1000,
            chain_id=block.header.chain_id,
            scheme=scheme,
        )
