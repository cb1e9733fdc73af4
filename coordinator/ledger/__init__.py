"""The ledger: Merkle trees."""
