"""Escrow between chains: open, prepare, decide, apply. This docstring is the protocol's specification.

The hub chain is the only decider and the only clock: heights of the hub are the only time in any rule. A region
never leaves YES by itself. Every input is an event of a finalized chain (`proofs.ProvenEvent`), so anyone relays.

    sid          height and index of the OPEN on the hub: unique, ascending
    open_digest  SHA-256 of the exact bytes of the OPEN in the hub's block

    Hub record     NONE -> OPEN -> (COMMIT | ABORT) -> CLOSED
      H1 OPEN      participants active, not frozen; D within bounds; sum per asset 0; collateral suffices; seen once;
                   submitted by a name that each debited region has registered; places left for it and its signer
      H2 RECEIPT   the first verdict of a region counts; a second, different one freezes the region
      H3 COMMIT    exactly when every participant has YES included at a hub height <= D
      H4 ABORT     on a NO, on a frozen participant, or by the end-of-block rule of the first height > D
      H5 CLOSED    after D: an ABORT at once, a COMMIT when every participant's APPLIED is in, frozen ones aside, or
                   the longest window later; records below the watermark are pruned

    Region record  NONE -> YES -> (COMMITTED | ABORTED),  NONE -> NO -> ABORTED,  NONE -> ABORTED (tombstone)
      P1 PREPARE   at once: lock and say YES, or say NO and lock nothing; ignored below the watermark or once known
      P2 APPLY     COMMIT requires YES, else the region halts; ABORT refunds or leaves a tombstone; once
      P3           no timeout out of YES
      P4           the hub's light client is state of the region's own chain

All transition functions are pure: they read books through a port (`books.py`) and return what is to be written.

Deviations from the design, each because its letter leaves a hole:
  * H5 waits for D as well as for the APPLIED receipts. Until D has passed the same OPEN bytes would be valid once
    more under a new sid, and an owner's authorisation would pay twice. While the record stands, H1 finds it.
  * H5 does not wait for the dead: else one region stops pruning for all for ever. A decision can be proved when its
    record is gone, a region in YES keeps its own until it comes, and below the watermark nobody says YES any more.
  * The hub does not know owners' keys, so only names that a debited region has registered may submit its OPENs:
    collateral and places are not taken by what nobody signed. Every region still checks the signatures itself.
  * An authorisation signs the whole body of the OPEN (hub, nonce, kind, D, legs), not the nonce alone.
  * A DECISION names its participants. Otherwise anyone could relay the COMMIT of others' settlement to a region that
    knows nothing of it, which P2 answers by halting, and fill it with tombstones of others' aborts.
  * A NO before D excludes only who said it from the netting that follows. Regions that have not answered yet are
    not silent before D; otherwise the fastest NO would draw everybody else's debit from collateral.
  * A record that re-nets an aborted one names it (`replaces`): its OPEN proves the ABORT, so a region that sees
    it first releases the old escrow before it looks at its funds.
  * The hub keeps a verdict that comes after the decision. It decides nothing, but a conflict still freezes.
  * A region's own escrow never counts as spendable and its pending credits are kept free below int64: a COMMIT
    must not fail. Where the ledger cannot book a credit or refund all the same, it is kept in suspense for the owner.
"""
