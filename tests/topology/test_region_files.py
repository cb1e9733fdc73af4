"""Cuts on files: what is written is what is read, to the bit, and damaged documents are refused by name."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.random_grids import Recipe, cook, recipes
from topology.dc import UNLIMITED_W, DcNetwork
from topology.errors import GridError
from topology.region_files import (
    check_fits,
    decode_interconnection,
    decode_region,
    encode_interconnection,
    encode_region,
    public_document_digest,
    read_interconnection,
    read_region,
    write_interconnection,
    write_region,
)
from topology.regions import Interconnection, RegionCut, RegionGrid


def same(left: Any, right: Any) -> bool:
    """Equal in every field, arrays by value and type."""
    for field in fields(left):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if isinstance(a, DcNetwork):
            equal = same(a, b)
        elif isinstance(a, np.ndarray):
            equal = a.dtype == b.dtype and np.array_equal(a, b)
        else:
            equal = a == b and type(a) is type(b)
        if not equal:
            return False
    return True


def cut() -> RegionCut:
    return cook(Recipe(seed=8, buses=14, extra_lines=8, links=2, shifters=1, regions=3)).cut()


@given(recipes())
@settings(max_examples=60)
def test_any_cut_is_read_as_it_was_written(recipe: Recipe) -> None:
    whole = cook(recipe).cut()
    public = encode_interconnection(whole.interconnection)
    read = decode_interconnection(public, "public")
    assert same(read, whole.interconnection)
    assert encode_interconnection(read) == public
    for region in whole.regions:
        private = encode_region(region)
        again = decode_region(private, region.name)
        assert same(again, region)
        assert encode_region(again) == private
        check_fits(again, read, region.name)


def test_files_of_a_cut(tmp_path: Path) -> None:
    whole = cut()
    document = write_interconnection(whole.interconnection, tmp_path / "public.json")
    assert (tmp_path / "public.json").read_bytes() == document
    assert same(read_interconnection(tmp_path / "public.json"), whole.interconnection)
    write_region(whole.regions[1], tmp_path / "region.json")
    assert (tmp_path / "region.json").stat().st_mode & 0o777 == 0o600
    assert same(read_region(tmp_path / "region.json"), whole.regions[1])
    with pytest.raises(GridError, match=r"absent\.json: cannot be read"):
        read_region(tmp_path / "absent.json")


def test_a_private_file_that_others_could_read_is_closed_before_it_is_filled(tmp_path: Path) -> None:
    path = tmp_path / "region.json"
    path.write_text("before")
    path.chmod(0o644)
    write_region(cut().regions[0], path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_public_document_holds_nothing_of_the_inside_of_regions() -> None:
    whole = cut()
    public = encode_interconnection(whole.interconnection).decode()
    inside = {bus for region in whole.regions for bus in region.network.bus_ids} - set(
        whole.interconnection.boundary_ids
    )
    assert inside
    assert not any(f'"{bus}"' in public for bus in inside)


def test_the_digest_is_of_the_exact_bytes() -> None:
    document = encode_interconnection(cut().interconnection)
    assert public_document_digest(document) == public_document_digest(bytes(document))
    assert public_document_digest(document + b" ") != public_document_digest(document)


def put(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda document: document.__setitem__(key, value)


def entry(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda document: document[key].__setitem__(0, value)


BOTH = {
    "another format": ("format", put("format", "something else")),
    "another version": ("version", put("version", 2)),
    "a version that is true": ("version", put("version", True)),
    "an unknown field": ("colour", put("colour", "red")),
}
PUBLIC = BOTH | {
    "a region twice": ("regions", lambda d: put("regions", [d["regions"][0]] * len(d["regions"]))(d)),
    "a tie inside a region": ("tie_to_boundary", lambda d: entry("tie_to_boundary", d["tie_from_boundary"][0])(d)),
    "a tie to nowhere": ("tie_from_boundary", entry("tie_from_boundary", 10**6)),
    "a tie without susceptance": ("tie_susceptance_w_per_rad", entry("tie_susceptance_w_per_rad", 0)),
    "a limit beyond no limit": ("tie_flow_max_w", entry("tie_flow_max_w", UNLIMITED_W + 1)),
    "limits that exclude each other": (
        "tie_flow_max_w",
        lambda d: (entry("tie_flow_min_w", 5)(d), entry("tie_flow_max_w", 4)(d)),
    ),
    "a limit as text": ("tie_flow_min_w", entry("tie_flow_min_w", "5")),
    "a limit that is true": ("tie_flow_min_w", entry("tie_flow_min_w", True)),
    "offsets that do not end": ("boundary_offsets", lambda d: d["boundary_offsets"].__setitem__(-1, 1)),
    "a link of an unknown region": ("link_to_region", entry("link_to_region", 99)),
    "a column that is no list": ("ties", put("ties", 3)),
    "a name that is a number": ("ties", entry("ties", 3)),
    "an empty name": ("boundary_buses", entry("boundary_buses", "")),
    "half a surrogate pair": ("boundary_buses", entry("boundary_buses", "\ud800")),
}
PRIVATE = BOTH | {
    "a negative index": ("index", put("index", -1)),
    "a branch to nowhere": ("to_bus", entry("to_bus", 10**6)),
    "a boundary bus that is none": ("boundary", entry("boundary", 10**6)),
    "no boundary bus": ("boundary", put("boundary", [])),
    "a sign of zero": ("end_sign", entry("end_sign", 0)),
    "a bus twice": ("buses", lambda d: entry("buses", d["buses"][1])(d)),
    "positions that do not ascend": ("bus_positions", lambda d: d["bus_positions"].reverse()),
    "a huge susceptance": ("susceptance_w_per_rad", entry("susceptance_w_per_rad", 1 << 46)),
}


def refused(document: bytes, decode: Callable[[bytes, str], object]) -> GridError:
    with pytest.raises(GridError) as caught:
        decode(document, "the file")
    assert str(caught.value).startswith("the file")
    assert caught.value.remedy
    return caught.value


def damaged(document: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    values = json.loads(document)
    change(values)
    return json.dumps(values).encode()


@pytest.mark.parametrize("name", PUBLIC)
def test_damaged_public_documents(name: str) -> None:
    key, change = PUBLIC[name]
    document = encode_interconnection(cut().interconnection)
    assert refused(damaged(document, change), decode_interconnection).where == key


@pytest.mark.parametrize("name", PRIVATE)
def test_damaged_private_documents(name: str) -> None:
    key, change = PRIVATE[name]
    region = next(region for region in cut().regions if region.link_ends and len(region.buses) > 2)
    assert refused(damaged(encode_region(region), change), decode_region).where == key


def test_every_field_is_needed_and_every_column_has_its_length() -> None:
    whole = cut()
    region = next(region for region in whole.regions if region.link_ends)
    for document, decode in (
        (encode_interconnection(whole.interconnection), decode_interconnection),
        (encode_region(region), decode_region),
    ):
        for key, value in json.loads(document).items():
            refused(damaged(document, lambda values, k=key: values.pop(k)), decode)
            if isinstance(value, list):
                refused(damaged(document, lambda values, k=key: values[k].append(values[k][-1])), decode)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"a":1,"a":1}',
        b'{"version":1.0}',
        b'{"version":NaN}',
        b"[" * 100_000,
        b"1" * 5000,
    ],
    ids=["empty", "list", "null", "binary", "twice", "fraction", "nan", "deep", "long"],
)
def test_bytes_that_are_no_document(data: bytes) -> None:
    refused(data, decode_interconnection)
    refused(data, decode_region)


@given(st.integers(0, 2**32), st.booleans())
@settings(max_examples=200)
def test_random_damage_is_a_grid_error_or_harmless(seed: int, public: bool) -> None:
    chance, whole = random.Random(seed), cut()
    document = bytearray(encode_interconnection(whole.interconnection) if public else encode_region(whole.regions[0]))
    for _ in range(chance.randint(1, 4)):
        document[chance.randrange(len(document))] = (
            chance.choice(b'0123456789-"[]{},.:eE\x00\xc3 ') if seed % 2 else chance.randrange(256)
        )
    decode: Callable[[bytes, str], Interconnection | RegionGrid] = decode_interconnection if public else decode_region
    try:
        decode(bytes(document), "the file")
    except GridError as error:
        assert str(error).startswith("the file")


def test_a_region_of_another_cut_does_not_fit() -> None:
    whole, other = cut(), cook(Recipe(seed=9, buses=14, extra_lines=8, links=2, regions=3)).cut()
    with pytest.raises(GridError, match="take both documents of one cut"):
        check_fits(other.regions[1], whole.interconnection, "the file")
