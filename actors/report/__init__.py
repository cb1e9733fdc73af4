"""A run as one HTML page that needs nothing else: figures from the run's tables, drawn in the browser."""
