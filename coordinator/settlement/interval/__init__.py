"""One interval across regions: gate closure, submission, coupling in rounds, schedule, settlement. The specification.

The hub chain orders what regions say and what the hub's validators say; nothing else decides. Every message of the
coupling (`protos/gridaccord/v1/coupling.proto`) is a *statement*: a quorum of the validators of the chain it comes
from stands behind it. The hub takes a region's statement by a proof from that region's chain, so that no coordinator
can falsify or hold back what its region says: anyone relays.

    region   GATE     offers stand
    region   COMMIT   attested: the root over its offers                      all, or those in time: the gate is closed
    round:
      region SUBMIT   attested: sums, steps near the margin, factors
      hub    RESULT   prices and acceptances, proposed by one and verified by the others
      region INJECT   attested: its boundary injection
      hub    STATE    angles and prices at boundary buses
      region VOTE     attested: accepts, or objects with flowgates or offers
      hub    DECISION agreed: the transfers of all regions; or the flowgates of the next round
    region   SCHEDULE attested (the digest alone): its schedule is set, and it agrees to its transfer
    hub      netting  one settlement with a leg a region, by the escrow protocol
    region   METERED  metered energy; bills, in versions
    region   TIES     attested: what its meters show at its ends of tie-lines
    region   ACCEPT   attested: it agrees to its part of the netting of metered exchange
    region   REPAY    attested: it pays or takes what nettings without it left on its collateral account
    region   OUTAGE   attested: an end of a tie-line is open, or closed again, from an interval on (`outages.py`)

It begins when two regions have committed to the same interval on the consortium's grid of time: one alone, whatever
its validators state, decides nothing for the others.

It ends. A round adds a flowgate or an offer, and there is a round limit. A region that has not spoken `step_blocks`
hub blocks after a step began is gone on without: the interval begins anew without it, so there are at most as many
attempts as regions, and one more: where a session goes on, the first silence makes all begin anew with nothing
remembered, because validators that were started one after another have lost the session and would speak. So does one
whose message cannot be used (the hub's validators name it) and one that still objects at the round limit. Whom an
interval goes on without, clears by itself (`fallback.py`); in the next one it is waited for more briefly until it is
back. Nobody's money waits: who sets no schedule has its leg on its collateral.

What a hub validator confirms it has verified itself, by the integer certificate where there is one. Two proposals can
be right at the same time; the one that a quorum confirms counts. Heights of the hub are the only clock.
"""
