"""Simplex consensus, as a pure state machine that every host drives: `core.Core.step(now_ns, input) -> effects`.

Nothing here reads a clock, a socket, a disk or a random number, so the same core runs under the simulator, inside a
region and between regions. This text is the protocol's specification; each rule is a function that carries its id.

Identity
    A round is (chain_id, epoch, view); views count from 1 in each epoch, view 0 is the block that the epoch begins on.
    n validators, f = (n - 1) // 3 may be faulty, q = n - f is a quorum; leader(view) = validators[(view + epoch) % n].
    A block is its header; it holds no view. Votes sign (kind, chain_id, epoch, view, parent_view, digest); the kind is
    in the signed domain. A notarization, nullification or finalization is a certificate of q matching votes.

Rules (N, Z, F: notarize, nullify, finalize)
    R1  view_entry.enter            Only upwards. Leader timeout t_l = pause + 2 Delta, view timeout t_a = t_l + Delta.
                                    A leader that was silent while a quorum was not is skipped: Z at once.
    R2  propose.try_propose         The leader builds on the highest view that is final, or notarized and certified, if
                                    every view in between is nullified. It asks for what it misses. Unable to build: Z.
    R3  notarize.try_notarize       N for the leader's first proposal of the current view, once a view and never after
                                    Z, if its parent's view holds its parent, every view in between is nullified, and
                                    its block is certified. Wrong for ever: Z at once. Evidence missing: ask, wait.
    R4  certify.advance_notarized   A notarization overrides the proposal. Certified: F unless Z was voted, next view.
                                    Invalid: Z, and nothing is built on it. Certification goes on after Z and after the
                                    view is left; only a finalization at or above the view ends it.
    R5  finalize.apply_certificate  A nullification opens the next view and cancels nothing else.
    R6  finalize.finalize           A finalization settles its view and all below; its ancestors are delivered in order.
    R7  nullify.nullify             Z on timeout, on an invalid block, or after the leader's own Z, unless F was voted.
    R8  nullify.on_retry            Still there after Z: Z again, with the certificate that let this node enter.
    R9  repair.help_forward,        A vote for a view long cleared is answered with the best certificate clearing it. A
        repair.nudge_leader         leader that has not proposed a delay after a node entered is sent what let it enter.
    R10 standstill                  No finality for long: highest finalization, newest certificates, own votes again.
    R11 State.delta_ns              Delta grows with each view since the last finality; only finality resets it.
    R12 propose.propose_again,      The last block of an epoch is proposed again until a view that carries it is final;
        boundary.try_begin_epoch    nothing is built on it; then the next epoch begins on it.
    R13 propose.is_time_to_build    Blocks keep a minimum interval; an idle leader waits for the heartbeat.

Safety, with at most f faulty validators
    1. No view is both finalized and nullified: the two quorums share an honest validator, and R4 and R7 let it vote
       only one of F and Z, across restarts too, because a vote is durable before it is sent.
    2. A view has at most one notarized value: an honest validator votes N once a view (R3).
    3. A finalized block is notarized in its view: honest F follows a notarization (R4), and by 2 it is the only one.
    4. If a block is notarized in view v with parent view p, then its parent is final or notarized in p, and every view
       strictly between is nullified, for an honest validator of its quorum checked both (R3).
    5. If view v is finalized with block b, every block notarized in a later view descends from b, or is b: by
       induction on 4, its parent view cannot jump over v (v is not nullified, by 1) and in v only b is notarized (2).
       Two finalized blocks are therefore on one chain, which is agreement. (R12: in a later view b itself counts as its
       own descendant; it is delivered once.)
    An epoch ends with one block by the same argument, and each epoch begins on it.

Liveness, once messages arrive within Delta: Delta has grown far enough (R11), lost votes are sent again (R8, R10), who
lags is helped forward (R9), missing ancestry is fetched from the proposer and then from anybody (R3, P3); an honest
leader's view is then notarized in 2 and finalized in 3 delays.

What must be durable before what is sent: `effects`, checked by `host.DurabilityCheck`. After lost records: `rejoin`.

Deviations from the paper (Chan, Pass: Simplex Consensus, 2023)
    - Chains of views with views between them skipped need certificates only where an honest proposer skips; the
      dummy block of the paper is the nullification. Leaders rotate by number, not at random.
    - Certificates are not broadcast by everybody: votes go to all, certificates on retry, to those who lag, on request,
      to a leader that has not proposed yet, and with a proposal. Liveness rests on R8 to R10 where the paper's rests
      on relaying.
    - Votes are multi-signatures by index; a certificate is transferable and not unique.
    - Notarize and finalize wait for the application's verdict, one deterministic answer a block for both.
    - A view times out in two steps (no proposal; no certified notarization), timeouts grow, silent leaders are skipped,
      a leader may give its own view up (so a notarization promises nothing to the outside).
    - N then Z in one view is legal; the paper's players stop at the first.
    - Blocks, payloads, epochs, pacing, journal, rejoining after lost records and repair are not in the paper.
"""
