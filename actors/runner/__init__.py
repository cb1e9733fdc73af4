"""Goes through a scenario's intervals on whatever hosts its parts, and keeps what is needed to go on later.

run_folder   what stands in the folder of a run        events   what happens, one JSON object a line
driver       interval after interval, with faults      summary  what a run has come to, in a few lines
"""
