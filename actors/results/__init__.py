"""From the ledgers of a run, finished or interrupted, to tables and to an independent verification of what it did."""
