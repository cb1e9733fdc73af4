"""Seeded simulation of the product's consensus core and escrow protocol in virtual time, under faults.

    options        what a seed turns on (swarm testing): sizes, timeouts, fault rates, styles of the adversaries
    world          the clock, the event queue, the one source of randomness
    network        delay, loss, duplication, reordering, partitions in one or both directions, clogged links
    disk           journal, payloads, sign guard; torn tail, lost sync, bit flip, full disk, lost disk
    node           the real core, driven through its effects; crashes between any two of them
    byzantine      adversaries: the core with its messages twisted, at most f nodes a chain
    application    state machine of a chain: registry of validators, epochs, and its business
    chain          all of that for one chain, and the faults that its environment suffers
    oracle         what must hold after every event, stated without the product's arithmetic
    simulation     one seed of one chain: safety phase, healing, liveness phase, replay from genesis
    escrow_books, relay, interchain
                   one seed of a hub and its regions: escrow between chains on proofs of final blocks, I1 to I11
    twins          small scope: Twins scenarios, and a crash at every boundary between two effects
    trace          one line an event, and a hash by which two runs are compared

A seed is a run: nothing depends on the machine, on real time or on PYTHONHASHSEED. No set is ever iterated.
"""
