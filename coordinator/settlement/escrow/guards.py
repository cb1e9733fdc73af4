"""The guards of the protocol, one a function, so that each can be tested by taking it away."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.settlement.escrow.records import HubRecord, RegionRecord, RegionState
from coordinator.settlement.escrow.types import HEIGHT_MAX, Outcome, SettlementId, Verdict


def deadline_in_bounds(height: int, deadline_height: int, shortest: int, longest: int) -> bool:
    """H1: D within [h + D_min, h + D_max]."""
    return height + shortest <= deadline_height <= height + longest


def balanced(amounts: Sequence[int]) -> bool:
    """H1: the legs of an asset sum to zero."""
    return sum(amounts) == 0


def covered(exposure: int, limit: int) -> bool:
    """H1: net position, open debits and coupling exposure stay within the collateral."""
    return exposure <= limit


def is_new(known_bodies: Sequence[bytes], body_digest: bytes) -> bool:
    """H1: an OPEN counts once, whatever signatures it carries."""
    return body_digest not in known_bodies


def comes_from(chain_id: bytes, expected: bytes) -> bool:
    """H2, P1, P2: the event was finalized by the chain that may say so."""
    return chain_id == expected


def same_opening(open_digest: bytes, expected: bytes) -> bool:
    """H2, P2: the event is about these exact bytes, not about another fork's settlement of the same id."""
    return open_digest == expected


def epoch_provable(certificate_epoch: int, known_epoch: int) -> bool:
    """H2: certificates of the region's current or previous epoch, as known to the hub."""
    return known_epoch - 1 <= certificate_epoch <= known_epoch


def in_time(height: int, deadline_height: int) -> bool:
    """H3: a YES counts up to and with D."""
    return height <= deadline_height


def expired(height: int, deadline_height: int) -> bool:
    """H4: the deadline ends settlements in the first block above D."""
    return height > deadline_height


def unanimous(record: HubRecord) -> bool:
    """H3: every participant has a YES that counts."""
    return all(
        vote is not None and vote.verdict is Verdict.YES and in_time(vote.height, record.deadline_height)
        for vote in record.votes
    )


def contradicts(earlier: Verdict, later: Verdict) -> bool:
    """H2: two verdicts that no honest region gives both."""
    return earlier is not later


def closable(record: HubRecord, height: int, frozen: Sequence[str] = (), grace_blocks: int = HEIGHT_MAX) -> bool:
    """H5: decided, and its OPEN can no longer be opened again. A COMMIT waits for who still counts, for so long."""
    if record.outcome is None or not expired(height, record.deadline_height):
        return False
    pairs = zip(record.participants, record.applied, strict=True)
    applied = all(done or name in frozen for name, done in pairs)
    return applied or record.outcome is Outcome.ABORT or expired(height, record.deadline_height + grace_blocks)


def may_open(signer: str, openers: Sequence[str]) -> bool:
    """H1: a region that is debited trusts who submits the OPEN to have checked its owners' signatures."""
    return signer in openers


def below(sid: SettlementId, watermark: SettlementId | None) -> bool:
    """P1: the hub has closed this settlement."""
    return watermark is not None and sid <= watermark


def is_known(record: RegionRecord | None) -> bool:
    """P1: this region voted on the settlement, or holds its tombstone."""
    return record is not None


def takes_part(region: str, participants: Sequence[str]) -> bool:
    """P1, P2: the settlement has a leg here. A decision of others' must neither halt the region nor fill its state."""
    return region in participants


def affordable(free: int, credit_limit: int, debit: int) -> bool:
    """P1: the debit leaves the account above its credit limit."""
    return free + credit_limit >= debit


def is_applied(record: RegionRecord | None) -> bool:
    """P2: the decision was applied before."""
    return record is not None and record.state in (RegionState.COMMITTED, RegionState.ABORTED)


def may_commit(record: RegionRecord | None) -> bool:
    """P2: only what is in escrow can be committed."""
    return record is not None and record.state is RegionState.YES


def prunable(record: RegionRecord, watermark: SettlementId) -> bool:
    """Applied and closed. A YES is never pruned: only a decision ends it."""
    return record.sid <= watermark and record.state is not RegionState.YES
