"""A sweep: a scenario, lists of values by dotted key, and the combinations of all of them.

name: storage and ties
scenario: ../rts_gmlc/storage.yaml    # relative to this file
parameters:
  batteries.hill.energy_mwh: [200, 400]
  study.tie_line_scale: [0.4, 1.0]
seeds: [1, 2, 3]
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated

from pydantic import Field, JsonValue, ValidationError

from actors.scenario import Scenario, read_scenario, resolved_paths
from actors.sweep.exchange import ExchangeKind
from coordinator.service.errors import ConfigurationError
from coordinator.service.home import Strict, read_settings

COMBINATIONS_MAX = 100_000
_STUDY = "study"
_MARKET = ("case", "regions", "intervals", "batteries", "devices.flexible_share", "market.round_limit")
"""Keys of a scenario on which its market depends, beside the seed; others would make the same rows."""
Values = Annotated[tuple[JsonValue, ...], Field(min_length=1)]


class Study(Strict):
    """What a sweep can vary beside a scenario's keys; `study.` stands before them."""

    tie_line_scale: Annotated[float, Field(ge=0)] = 1.0
    """Ratings of the branches between regions are multiplied by it."""
    exchange: ExchangeKind = ExchangeKind.COUPLED
    """coupled: by the protocol; none: each region clears by itself."""
    window_per_mwh: Annotated[float, Field(ge=0, le=1e6)] = 3.0
    """Offers this near the last price are published before anybody asks, in money per MWh."""


class SweepFile(Strict):
    """The YAML file of a sweep. Paths are relative to it."""

    name: str
    scenario: Path
    """The one that every combination begins from."""
    parameters: dict[str, Values] = Field(default_factory=dict)
    """Values by dotted key; every combination of them is run."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None
    """Each combination is run with each; the scenario's own where it is left out."""


@dataclass(frozen=True, slots=True)
class Combination:
    """One point of the grid, and the scenario that follows from it."""

    parameters: Mapping[str, JsonValue]
    scenario: Scenario
    study: Study

    @property
    def digest(self) -> str:
        """SHA-256 of all that it says, with every default written out."""
        content = [self.scenario.model_dump(mode="json"), self.study.model_dump(mode="json")]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Sweep:
    """Combinations in the order of the file: the last parameter varies fastest, but for the seed."""

    name: str
    keys: tuple[str, ...]
    combinations: tuple[Combination, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of what is to be run."""
        return hashlib.sha256("".join(one.digest for one in self.combinations).encode()).hexdigest()


def read_sweep(path: Path) -> Sweep:
    """Raises ConfigurationError, which names the key."""
    given = read_settings(path, SweepFile)
    scenario = read_scenario(path.parent / given.scenario)
    return make_sweep(given.name, scenario, given.parameters, given.seeds, base=path.parent)


def make_sweep(
    name: str,
    scenario: Scenario,
    parameters: Mapping[str, tuple[JsonValue, ...] | list[JsonValue]],
    seeds: tuple[int, ...] | list[int] | None = None,
    *,
    base: Path = Path(),
) -> Sweep:
    """Every combination of values, with each seed. Paths among values are relative to `base`.

    Raises ConfigurationError, which names the key.
    """
    for key in parameters:
        _check_key(key)
    points = list(product(*parameters.values(), seeds if seeds is not None else (scenario.seed,)))
    if len(points) > COMBINATIONS_MAX:
        raise ConfigurationError(f"sweep {name}: {len(points)} combinations; at most {COMBINATIONS_MAX}")
    made = []
    for *values, seed in points:
        given = dict(zip(parameters, values, strict=True))
        made.append(_combination(scenario, {**given, "seed": seed}, base))
    if len({one.digest for one in made}) != len(made):
        raise ConfigurationError(f"sweep {name}: a combination stands there twice; give each value once")
    return Sweep(name, tuple(parameters), tuple(made))


def _check_key(key: str) -> None:
    if key == "seed":
        raise ConfigurationError("sweep: seed: give seeds beside parameters")
    if key.startswith(f"{_STUDY}."):
        return
    if not any(key == known or key.startswith(f"{known}.") for known in _MARKET):
        known = ", ".join((*_MARKET, *(f"{_STUDY}.{name}" for name in Study.model_fields)))
        raise ConfigurationError(f"sweep: {key}: no key that a market depends on; these are: {known}")


def _combination(scenario: Scenario, point: Mapping[str, JsonValue], base: Path) -> Combination:
    document = scenario.model_dump(mode="json") | {_STUDY: Study().model_dump(mode="json")}
    for key, value in point.items():
        _put(document, key, value)
    study = document.pop(_STUDY)
    try:
        made = Combination(point, Scenario.model_validate(document), Study.model_validate(study))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"sweep: {where}: {first['msg']} (with {_shown(point)})") from None
    varied = {"case", "regions"} & set(point)
    return Combination(point, resolved_paths(made.scenario, base, varied), made.study)


def _put(document: JsonValue, key: str, value: JsonValue) -> None:
    """Set a value in nested mappings; an entry of a list is named by its `name`. Raises ConfigurationError."""
    *way, last = key.split(".")
    for part in way:
        document = _inside(document, part, key)
    if not isinstance(document, dict) or last not in document:
        raise ConfigurationError(f"sweep: {key}: there is no {last}")
    document[last] = value


def _inside(document: JsonValue, part: str, key: str) -> JsonValue:
    if isinstance(document, dict) and part in document:
        return document[part]
    if isinstance(document, list):
        for entry in document:
            if isinstance(entry, dict) and entry.get("name") == part:
                return entry
    raise ConfigurationError(f"sweep: {key}: there is no {part}")


def _shown(point: Mapping[str, JsonValue]) -> str:
    return ", ".join(f"{key}={value}" for key, value in point.items())
