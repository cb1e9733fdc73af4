"""Money after the clearing: who owes what, to the micro-unit."""
