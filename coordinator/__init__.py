"""What regions agree: market, settlement and the ledger."""
