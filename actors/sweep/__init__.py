"""Sweeps: the market of a scenario, many times, over a grid of parameters.

combinations  the file of a sweep, and the combinations of parameters that it names
exchange      one interval of all regions: coupled, or each by itself
market_day    one combination: its day, the fleets' offers, cleared and obeyed, against the central optimum
columns       what the table of results has in a row
sweep_folder  what stands in a sweep's folder, and is not run again
sweeping      the combinations as Ray tasks

A run of a sweep has no chains, keys, meters or money: `gridaccord run` has. From Python: `actors.sweep.sweeping.sweep`.
"""
