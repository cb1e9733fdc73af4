"""docs/scenario.md has every key of a scenario with its default, and every fault, and no others."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from actors.scenario import Fault, FaultKind, Scenario

DOCS = Path(__file__).parents[2] / "docs" / "scenario.md"
_SAID_OTHERWISE = {
    "intervals": "all",
    "interval_s": "their length",
    "organizations": "`alpha`, `bravo`, `charlie`, `delta`",
    "cluster.port": "free ones",
}
"""Defaults for which there are better words, or which are lists."""


def model_keys(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys with defaults as the document has them."""
    for name, field in model.model_fields.items():
        key, inner, is_list = before + name, *_model_in(field.annotation)
        if inner is None or is_list:
            yield key, _SAID_OTHERWISE.get(key, _default(field))
        if inner is not None:
            default = None if is_list else field.get_default()
            nested = dict(model_keys(inner, f"{key}[]." if is_list else f"{key}."))
            for nested_key, text in nested.items():
                leaf = nested_key.removeprefix(f"{key}.")
                yield nested_key, text if default is None or "." in leaf else _said(nested_key, getattr(default, leaf))


def _model_in(annotation: object) -> tuple[type[BaseModel] | None, bool]:
    """The model that a field holds, and whether it holds several."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for part in typing.get_args(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part, typing.get_origin(annotation) is tuple
    return None, False


def _default(field: FieldInfo) -> str:
    return "required" if field.is_required() else _shown(field.get_default(call_default_factory=True))


def _said(key: str, value: object) -> str:
    return _SAID_OTHERWISE.get(key, _shown(value))


def _shown(value: object) -> str:
    if value is None or value in ((), {}):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def documented() -> dict[str, str]:
    """Keys and defaults in the tables; a row may have several of both."""
    found: dict[str, str] = {}
    for row in _rows("key"):
        keys = re.findall(r"`([^`]+)`", row[0])
        defaults = row[1].split(", ") if len(keys) > 1 else [row[1]]
        assert not set(keys) & set(found), f"{row[0]} stands there twice"
        found |= dict(zip(keys, defaults, strict=True))
    return found


def _rows(heading: str) -> Iterator[list[str]]:
    inside = False
    for line in DOCS.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("|"):
            inside = False
        elif cells[0].strip("| ") == heading:
            inside = True
        elif inside and not line.startswith("|---"):
            yield cells


def test_every_key_has_its_default() -> None:
    assert documented() == dict(model_keys(Scenario))


def test_every_fault_names_what_it_is_about() -> None:
    said = {row[0].strip("`"): [name.strip(" `") for name in row[1].split(",")] for row in _rows("kind")}
    assert list(said) == [kind.value for kind in FaultKind]
    values: dict[str, object] = {"validators": "alpha", "region": "1", "line": "24", "share": 0.1}
    for kind, targets in said.items():
        Fault.model_validate({"kind": kind, "interval": 1, **{target: values[target] for target in targets}})
