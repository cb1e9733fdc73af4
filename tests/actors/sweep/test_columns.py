"""The table of a sweep: columns as docs/cluster.md has them, types that follow from values, nulls for the unknown."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa

from actors.sweep.columns import COMBINATION, ERROR, FIGURES, LMP, SEED, table_of
from actors.sweep.combinations import Study

DOCS = Path(__file__).parents[3] / "docs" / "cluster.md"


def documented(columns: int) -> list[tuple[str, ...]]:
    """Rows of tables whose first cell is a name in backticks."""
    rows = re.findall(r"^\| `[^|]*\|.*\|$", DOCS.read_text(encoding="utf-8"), re.M)
    cells = [tuple(cell.strip().strip("`") for cell in row.strip("|").split("|")) for row in rows]
    return [row for row in cells if len(row) == columns]


def test_the_document_has_every_column_with_its_unit_and_meaning() -> None:
    columns = (COMBINATION, SEED, *FIGURES, LMP, ERROR)
    assert [row for row in documented(3) if not row[0].startswith("study.")] == [
        (column.name, column.unit, column.meaning) for column in columns
    ]


def test_the_document_has_every_key_of_a_study_with_its_default() -> None:
    study = [row[:2] for row in documented(3) if row[0].startswith("study.")]
    assert study == [(f"study.{name}", str(value)) for name, value in Study().model_dump(mode="json").items()]


def test_types_follow_from_values_and_what_is_not_known_is_null() -> None:
    rows = [
        {"combination": 0, "a": 1, "b": True, "c": 1, "d": "x", "e": [1, 2], "seed": 1, "lmp_mean_N": 2.0},
        {"combination": 1, "a": 2, "b": False, "c": 0.5, "d": "y", "e": "z", "seed": 1, "error": "no agreement"},
    ]
    table = table_of("mixed", ["a", "b", "c", "d", "e"], rows)
    types = [table.schema.field(name).type for name in "abcde"]
    assert types == [pa.int64(), pa.bool_(), pa.float64(), pa.string(), pa.string()]
    first, second = table.to_pylist()
    assert (first["e"], first["lmp_mean_N"], first["error"]) == ("[1, 2]", 2.0, None)
    assert (second["e"], second["lmp_mean_N"], second["objective"]) == ("z", None, None)
    assert second["error"] == "no agreement"
    assert table.schema.field("worst_gap").metadata[b"description"].startswith(b"largest distance")
