"""Solves the hours that `benchmarks.run` wrote, with PyPSA and HiGHS; runs in an environment with PyPSA only.

    PYTHON benchmarks/pypsa/solve.py HOURS.npz

All hours are snapshots of one network and one program, as a user of PyPSA would have them; nothing joins hours. A line
has the series reactance per unit on a base of 1 MVA that makes its susceptance the one given. One JSON object
comes out: the objective of each hour per hour, and seconds for making the network and for `optimize`.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version

import numpy as np
import pandas as pd
import pypsa


def network_of(given: dict[str, np.ndarray]) -> pypsa.Network:
    """Power in MW; a generator is a step of offers at a bus, with the width and the price that it has in each hour."""
    hours, steps = given["width_mw"].shape
    network = pypsa.Network()
    network.set_snapshots(range(hours))
    buses = [f"bus-{number}" for number in range(given["withdrawal_mw"].shape[1])]
    network.add("Bus", buses, v_nom=1.0)
    lines = [f"line-{number}" for number in range(len(given["from_bus"]))]
    ends = {"bus0": named(buses, given["from_bus"]), "bus1": named(buses, given["to_bus"])}
    network.add("Line", lines, **ends, x=1.0 / given["susceptance_mw"], r=0.0, s_nom=given["limit_mw"])
    links = [f"link-{number}" for number in range(len(given["link_from"]))]
    if links:
        low, high = given["link_min_mw"], given["link_max_mw"]
        ends = {"bus0": named(buses, given["link_from"]), "bus1": named(buses, given["link_to"])}
        network.add("Link", links, **ends, p_nom=high, p_min_pu=low / high, p_max_pu=1.0)
    loads = pd.DataFrame(given["withdrawal_mw"], columns=[f"load-{bus}" for bus in buses])
    network.add("Load", loads.columns, bus=buses, p_set=loads)
    names = [f"step-{number}" for number in range(steps)]
    widths = pd.DataFrame(given["width_mw"], columns=names)
    prices = pd.DataFrame(given["price_per_mwh"], columns=names)
    where = named(buses, given["step_bus"])
    network.add("Generator", names, bus=where, p_nom=1.0, p_max_pu=widths, marginal_cost=prices)
    return network


def named(names: list[str], places: np.ndarray) -> list[str]:
    """The names at places."""
    return [names[place] for place in places]


def main(path: str) -> None:
    """Solve, and print."""
    given = dict(np.load(path))
    started = time.perf_counter()
    network = network_of(given)
    made = time.perf_counter()
    status = network.optimize(
        solver_name="highs", solver_options={"threads": 1, "output_flag": False}, assign_all_duals=True
    )
    solved = time.perf_counter()
    if status[0] != "ok":
        sys.exit(f"PyPSA ended with {status}")
    power = network.generators_t.p.to_numpy()
    objective = (power * given["price_per_mwh"]).sum(axis=1)
    found = {"objective_per_h": objective.tolist(), "make_s": made - started, "optimize_s": solved - made}
    print(json.dumps({**found, "versions": {name: version(name) for name in ("pypsa", "linopy", "highspy")}}))


if __name__ == "__main__":
    main(sys.argv[1])
