"""The ledger: what consensus has agreed on, carried out, kept and provable.

From the bottom up: `merkle`, `history`, `state_tree` (hashes and proofs); `codec`, `messages`, `envelope`,
`transaction`, `receipt`, `block`, `records` (bytes); `view`, `accounts`, `registry`, `invariants`, `state`,
`handlers`, `genesis` (the state machine, pure); `readings` (meters, beside the chain); `database`, `store`,
`reading_store`, `snapshot`, `files`, `keys`, `journal_file`, `sign_guard` (the disk); `boundary`, `proofs`,
`checkpoint`, `audit` (for others to check). See docs/ledger.md.
"""
