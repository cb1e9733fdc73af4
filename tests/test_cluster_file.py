"""cluster.yaml is what Ray's cluster launcher takes, as it stands and with its commented variant for a cloud."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

CLUSTER = Path(__file__).parents[1] / "cluster.yaml"


def launched(config: dict[str, Any]) -> dict[str, Any]:
    """As the launcher prepares and checks it. Raises what it raises."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared: dict[str, Any] = prepare_config(config)
    validate_config(prepared)
    return prepared


def test_the_launcher_takes_it_for_machines_that_are_there() -> None:
    given = yaml.safe_load(CLUSTER.read_text(encoding="utf-8"))
    prepared = launched(given)
    assert prepared["provider"]["type"] == "local"
    (kind,) = prepared["available_node_types"].values()
    assert kind["min_workers"] == len(given["provider"]["worker_ips"])


def test_the_launcher_takes_the_commented_variant_for_a_cloud() -> None:
    text = CLUSTER.read_text(encoding="utf-8")
    _, _, comment = text.partition("# In a cloud")
    lines = [line.removeprefix("#").removeprefix(" ") for line in comment.splitlines()]
    start = next(place for place, line in enumerate(lines) if line.startswith("provider:"))
    cloud = yaml.safe_load("\n".join(lines[start:]))
    given = {key: value for key, value in yaml.safe_load(text).items() if key != "min_workers"}
    prepared = launched({**given, **cloud})
    assert prepared["head_node_type"] == "head"
    assert prepared["available_node_types"]["worker"]["min_workers"] == 3


def test_what_the_launcher_does_not_know_would_be_refused() -> None:
    given = yaml.safe_load(CLUSTER.read_text(encoding="utf-8"))
    with pytest.raises(Exception, match="workers_least"):
        launched({**given, "workers_least": 3})


def test_nothing_but_documentation_addresses_stands_in_it() -> None:
    assert set(re.findall(r"\d+\.\d+\.\d+\.(?=\d)", CLUSTER.read_text(encoding="utf-8"))) == {"192.0.2.", "127.0.0."}
