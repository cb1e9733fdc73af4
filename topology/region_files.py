"""A cut on files: one public document of the interconnection, and one private document a region.

Each is one JSON object with its format and version, columns as arrays of whole numbers in the units that the keys
name. Reading is strict: unknown and repeated keys, missing ones, fractions, wrong lengths and values out of range are
refused, so that what is read is what was written, and organizations that compare the digest of the public document
have the same one. Angles, prices and offers are not in it, and no floating point number is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import numpy as np

from topology.arrays import IntArray
from topology.dc import SUSCEPTANCE_LIMIT_W_PER_RAD, UNLIMITED_W, DcNetwork
from topology.errors import GridError
from topology.regions import Interconnection, LinkEnd, RegionGrid

VERSION = 1
INTERCONNECTION_FORMAT = "gridaccord interconnection"
REGION_FORMAT = "gridaccord region grid"
MOST_ELEMENTS = 1 << 24
"""More of anything than any grid has; positions stay below it."""

_T = TypeVar("_T")


def public_document_digest(document: bytes) -> bytes:
    """SHA-256 of the exact bytes of a document: what organizations compare."""
    return hashlib.sha256(document).digest()


def write_interconnection(public: Interconnection, path: Path) -> bytes:
    """Write the public document and return its bytes."""
    document = encode_interconnection(public)
    decode_interconnection(document, str(path))
    path.write_bytes(document)
    return document


def read_interconnection(path: Path) -> Interconnection:
    """The interconnection in a public document. Raises GridError naming the file and the field."""
    return decode_interconnection(_bytes(path), str(path))


def write_region(region: RegionGrid, path: Path) -> None:
    """Write the private document of a region, for its owner's eyes only (mode 0600)."""
    document = encode_region(region)
    decode_region(document, str(path))
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_bytes(document)


def read_region(path: Path) -> RegionGrid:
    """The region in a private document. Raises GridError naming the file and the field."""
    return decode_region(_bytes(path), str(path))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise GridError(str(path), "", f"cannot be read ({error.strerror})", "give a readable file") from error


def encode_interconnection(public: Interconnection) -> bytes:
    """The public document; the same bytes for the same interconnection."""
    columns = {
        "regions": list(public.region_names),
        "boundary_buses": list(public.boundary_ids),
        "boundary_offsets": public.offsets.tolist(),
        "ties": list(public.tie_ids),
        "tie_labels": list(public.tie_labels),
        "tie_from_boundary": public.tie_from.tolist(),
        "tie_to_boundary": public.tie_to.tolist(),
        "tie_susceptance_w_per_rad": public.tie_susceptance_w_per_rad.tolist(),
        "tie_shift_flow_w": public.tie_shift_flow_w.tolist(),
        "tie_flow_min_w": public.tie_flow_min_w.tolist(),
        "tie_flow_max_w": public.tie_flow_max_w.tolist(),
        "links": list(public.link_ids),
        "link_owners": list(public.link_owners),
        "link_from_region": public.link_from_region.tolist(),
        "link_to_region": public.link_to_region.tolist(),
        "link_min_w": public.link_min_w.tolist(),
        "link_max_w": public.link_max_w.tolist(),
    }
    return _encoded(INTERCONNECTION_FORMAT, columns)


def decode_interconnection(document: bytes, source: str) -> Interconnection:
    """The interconnection in these bytes; `source` is what errors call them. Raises GridError."""
    fields = _Fields(document, source, INTERCONNECTION_FORMAT)
    names = fields.texts("regions", distinct=True)
    boundary = fields.texts("boundary_buses", distinct=True)
    offsets = fields.integers("boundary_offsets", len(names) + 1, 0, len(boundary))
    whole = offsets[0] == 0 and offsets[-1] == len(boundary) and bool((np.diff(offsets) > 0).all())
    fields.expect(whole, "boundary_offsets", "must ascend from 0 to the number of boundary buses")
    ties, links = fields.texts("ties", distinct=True), fields.texts("links", distinct=True)
    public = Interconnection(
        region_names=names,
        boundary_ids=boundary,
        offsets=offsets,
        tie_ids=ties,
        tie_labels=fields.texts("tie_labels", len(ties)),
        tie_from=fields.positions("tie_from_boundary", len(ties), len(boundary)),
        tie_to=fields.positions("tie_to_boundary", len(ties), len(boundary)),
        tie_susceptance_w_per_rad=fields.susceptances("tie_susceptance_w_per_rad", len(ties)),
        tie_shift_flow_w=fields.powers("tie_shift_flow_w", len(ties)),
        tie_flow_min_w=fields.powers("tie_flow_min_w", len(ties)),
        tie_flow_max_w=fields.powers("tie_flow_max_w", len(ties)),
        link_ids=links,
        link_owners=fields.texts("link_owners", len(links), empty=True),
        link_from_region=fields.positions("link_from_region", len(links), len(names)),
        link_to_region=fields.positions("link_to_region", len(links), len(names)),
        link_min_w=fields.powers("link_min_w", len(links)),
        link_max_w=fields.powers("link_max_w", len(links)),
    )
    fields.end()
    owner = public.boundary_region
    within = owner[public.tie_from] == owner[public.tie_to]
    fields.expect(not within.any(), "tie_to_boundary", "a tie-line must join two regions")
    fields.expect_range("tie_flow_max_w", public.tie_flow_min_w, public.tie_flow_max_w)
    fields.expect_range("link_max_w", public.link_min_w, public.link_max_w)
    return public


def encode_region(region: RegionGrid) -> bytes:
    """The private document of a region; the same bytes for the same region."""
    network = region.network
    columns = {
        "index": region.index,
        "name": region.name,
        "buses": list(network.bus_ids),
        "bus_positions": region.buses.tolist(),
        "boundary": region.boundary.tolist(),
        "branches": list(network.branch_ids),
        "branch_labels": list(network.branch_labels),
        "branch_positions": region.branches.tolist(),
        "from_bus": network.from_bus.tolist(),
        "to_bus": network.to_bus.tolist(),
        "susceptance_w_per_rad": network.susceptance_w_per_rad.tolist(),
        "shift_flow_w": network.shift_flow_w.tolist(),
        "flow_min_w": network.flow_min_w.tolist(),
        "flow_max_w": network.flow_max_w.tolist(),
        "end_link": [end.link for end in region.link_ends],
        "end_bus": [end.bus for end in region.link_ends],
        "end_sign": [end.sign for end in region.link_ends],
    }
    return _encoded(REGION_FORMAT, columns)


def decode_region(document: bytes, source: str) -> RegionGrid:
    """The region in these bytes; `source` is what errors call them. Raises GridError."""
    fields = _Fields(document, source, REGION_FORMAT)
    name, network = fields.text("name"), _network(fields)
    size, lines = network.bus_count, network.branch_count
    ends = fields.positions("end_link", None, MOST_ELEMENTS)
    end_bus = fields.positions("end_bus", len(ends), size)
    signs = fields.integers("end_sign", len(ends), -1, 1)
    fields.expect(bool((signs != 0).all()), "end_sign", "must be -1 or 1")
    region = RegionGrid(
        index=fields.integer("index", 0, MOST_ELEMENTS),
        name=name,
        network=network,
        boundary=fields.ascending("boundary", None, size),
        link_ends=tuple(
            LinkEnd(link, bus, sign)
            for link, bus, sign in zip(ends.tolist(), end_bus.tolist(), signs.tolist(), strict=True)
        ),
        buses=fields.ascending("bus_positions", size, MOST_ELEMENTS),
        branches=fields.ascending("branch_positions", lines, MOST_ELEMENTS),
    )
    fields.end()
    covered = set(network.components[region.boundary].tolist()) == set(network.components.tolist())
    fields.expect(covered, "boundary", "needs a bus in every part that the region falls into")
    return region


def _network(fields: _Fields) -> DcNetwork:
    """The region's own network; links are between regions and have their ends beside it."""
    buses, branches = fields.texts("buses", distinct=True), fields.texts("branches", distinct=True)
    fields.expect(bool(buses), "buses", "must name a bus")
    none, lines = np.zeros(0, dtype=np.int64), len(branches)
    network = DcNetwork(
        name=fields.text("name"),
        bus_ids=buses,
        branch_ids=branches,
        branch_labels=fields.texts("branch_labels", lines),
        from_bus=fields.positions("from_bus", lines, len(buses)),
        to_bus=fields.positions("to_bus", lines, len(buses)),
        susceptance_w_per_rad=fields.susceptances("susceptance_w_per_rad", lines),
        shift_flow_w=fields.powers("shift_flow_w", lines),
        flow_min_w=fields.powers("flow_min_w", lines),
        flow_max_w=fields.powers("flow_max_w", lines),
        link_ids=(),
        link_owners=(),
        link_from=none,
        link_to=none,
        link_min_w=none,
        link_max_w=none,
    )
    fields.expect_range("flow_max_w", network.flow_min_w, network.flow_max_w)
    return network


def check_fits(region: RegionGrid, public: Interconnection, source: str) -> None:
    """Raise GridError unless a region's document belongs to this interconnection."""
    remedy = "take both documents of one cut"
    if region.index >= public.region_count or public.region_names[region.index] != region.name:
        raise GridError(source, "index", f"region {region.index} of the interconnection is not {region.name}", remedy)
    boundary = tuple(region.network.bus_ids[bus] for bus in region.boundary)
    if boundary != public.boundary_ids[public.boundary_of(region.index)]:
        raise GridError(source, "boundary", "boundary buses differ from the interconnection's", remedy)
    sides = zip(public.link_from_region.tolist(), public.link_to_region.tolist(), strict=True)
    wanted = sorted((link, sign) for link, pair in enumerate(sides) for sign in _signs_at(pair, region.index))
    if sorted((end.link, end.sign) for end in region.link_ends) != wanted:
        raise GridError(source, "end_link", "link ends differ from the interconnection's", remedy)


def _signs_at(link: tuple[int, int], region: int) -> list[int]:
    return [sign for end, sign in zip(link, (-1, 1), strict=True) if end == region]


def _encoded(format_name: str, columns: dict[str, object]) -> bytes:
    document = {"format": format_name, "version": VERSION, **columns}
    return (json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


class _Fields:
    """The fields of a document, each taken once or more and checked; what nobody takes is refused at the end."""

    def __init__(self, document: bytes, source: str, format_name: str) -> None:
        self._source = source
        self._taken: set[str] = set()
        self._values = self._parsed(document)
        said = self._values.get("format")
        if said != format_name:
            self._refuse("format", f"is {said!r}"[:80], f"give a file of format {format_name!r}")
        if self.integer("version", 0, MOST_ELEMENTS) != VERSION:
            self._refuse("version", "is another version", f"write it again as version {VERSION}")
        self._taken.add("format")

    def _parsed(self, document: bytes) -> dict[str, object]:
        remedy = "write it again, or restore it from a copy"
        try:
            values = json.loads(
                document, object_pairs_hook=_once, parse_float=_no_fraction, parse_constant=_no_fraction
            )
        except (ValueError, RecursionError) as error:
            raise GridError(self._source, "", f"is no document ({error})", remedy) from error
        if not isinstance(values, dict):
            raise GridError(self._source, "", "is no JSON object", remedy)
        return values

    def _refuse(self, key: str, problem: str, remedy: str) -> NoReturn:
        raise GridError(self._source, key, problem, remedy)

    def expect(self, condition: bool, key: str, problem: str) -> None:
        """Raise GridError naming the field unless the condition holds."""
        if not condition:
            self._refuse(key, problem, "correct it, or cut the network again")

    def expect_range(self, key: str, low: IntArray, high: IntArray) -> None:
        """Raise GridError where a lower limit is above its upper one."""
        for place in np.flatnonzero(low > high)[:1]:
            self.expect(False, key, f"entry {place}: {high[place]} is below the lower limit {low[place]}")

    def end(self) -> None:
        """Raise GridError when the document says more than was taken."""
        for key in sorted(self._values.keys() - self._taken)[:1]:
            self._refuse(key[:80], "is an unknown field", "remove it")

    def _take(self, key: str) -> object:
        if key not in self._values:
            self._refuse(key, "is missing", "add it, or cut the network again")
        self._taken.add(key)
        return self._values[key]

    def integer(self, key: str, low: int, high: int) -> int:
        """A whole number."""
        return self._whole(key, self._take(key), low, high)

    def _whole(self, key: str, value: object, low: int, high: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            self._refuse(key, f"holds {str(value)[:40]!r}, not a whole number", "give whole numbers")
        if not low <= value <= high:
            self._refuse(key, f"holds {str(value)[:40]}, outside {low} to {high}", "correct it")
        return value

    def text(self, key: str) -> str:
        """A name."""
        return self._name(key, self._take(key), False)

    def _name(self, key: str, value: object, empty: bool) -> str:
        if not isinstance(value, str) or not (value or empty):
            self._refuse(key, f"holds {str(value)[:40]!r}, not a name", "give names")
        if any(0xD800 <= ord(character) < 0xE000 for character in value):
            self._refuse(key, "holds half a surrogate pair", "give names in Unicode")
        return value

    def _list(self, key: str, count: int | None, entry: Callable[[object], _T]) -> list[_T]:
        values = self._take(key)
        if not isinstance(values, list):
            self._refuse(key, "is not a list", "give a list")
        if count is not None and len(values) != count:
            self._refuse(key, f"has {len(values)} entries, {count} are needed", "give one entry an element")
        return [entry(value) for value in values]

    def texts(
        self, key: str, count: int | None = None, *, distinct: bool = False, empty: bool = False
    ) -> tuple[str, ...]:
        """A column of names."""
        names = tuple(self._list(key, count, lambda value: self._name(key, value, empty)))
        self.expect(not distinct or len(set(names)) == len(names), key, "names something twice")
        return names

    def integers(self, key: str, count: int | None, low: int, high: int) -> IntArray:
        """A column of whole numbers."""
        return np.array(self._list(key, count, lambda value: self._whole(key, value, low, high)), dtype=np.int64)

    def positions(self, key: str, count: int | None, size: int) -> IntArray:
        """A column of positions below `size`."""
        return self.integers(key, count, 0, size - 1)

    def ascending(self, key: str, count: int | None, size: int) -> IntArray:
        """A column of ascending positions."""
        values = self.positions(key, count, size)
        self.expect(bool((np.diff(values) > 0).all()), key, "must ascend")
        return values

    def powers(self, key: str, count: int) -> IntArray:
        """A column in W; the limit of the range stands for none."""
        return self.integers(key, count, -UNLIMITED_W, UNLIMITED_W)

    def susceptances(self, key: str, count: int) -> IntArray:
        """A column in W/rad, none of them zero."""
        most = SUSCEPTANCE_LIMIT_W_PER_RAD - 1
        values = self.integers(key, count, -most, most)
        self.expect(bool((values != 0).all()), key, "holds a zero")
        return values


def _once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key stands twice")
    return keys


def _no_fraction(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is not a whole number")
