"""Which files make a case, and how a grid is cut into regions by what a user names."""

from __future__ import annotations

from pathlib import Path

from topology.csv_folder import read_csv_folder
from topology.dc import DcNetwork
from topology.errors import GridError
from topology.grid import Case, Grid
from topology.matpower import read_matpower
from topology.regions import regions_automatic, regions_by_area, regions_from_file

BY_AREA = "area"


def read_case(path: Path) -> Case:
    """The case in a MATPOWER `.m` file or in a folder of CSV files. Raises GridError naming the file."""
    if path.suffix == ".m":
        return read_matpower(path)
    if not path.is_dir():
        problem = "is neither a .m file nor a folder" if path.exists() else "does not exist"
        raise GridError(str(path), "", problem, "give a MATPOWER .m file or a folder of CSV files")
    folders = scenario_folders(path)
    if folders != (path,):
        names = ", ".join(str(folder) for folder in folders)
        raise GridError(str(path), "", f"holds {len(folders)} cases", f"give one of {names}")
    return read_csv_folder(path)


def scenario_folders(path: Path) -> tuple[Path, ...]:
    """The case folders in a folder, by name, or the folder itself if it is a case or holds none."""
    if not path.is_dir():
        raise GridError(str(path), "", "is not a folder", "give a folder of CSV files; 'clear' takes a .m file")
    inside = tuple(sorted(child for child in path.iterdir() if (child / "system.csv").is_file()))
    return (path,) if (path / "system.csv").is_file() or not inside else inside


def regions_file(choice: str) -> Path | None:
    """The file that a choice of regions names, None for 'area' and for a number."""
    return None if choice == BY_AREA or choice.isdecimal() else Path(choice)


def choose_regions(grid: Grid, network: DcNetwork, choice: str) -> tuple[str, ...]:
    """The region of each bus: `choice` is a number of automatic regions, 'area', or a CSV file with bus,region."""
    file = regions_file(choice)
    if file is None:
        return regions_by_area(grid) if choice == BY_AREA else regions_automatic(network, int(choice))
    if not file.exists():
        remedy = f"give a number of regions, '{BY_AREA}', or a CSV file with columns bus,region"
        raise GridError(choice, "", "there is no such file of regions", remedy)
    return regions_from_file(grid, file)
