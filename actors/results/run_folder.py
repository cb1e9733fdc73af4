"""A run's folder: whose ledgers are read, and what the grid files beside them say.

Everything is read from one organization's home, which must hold the hub's chain and every region's from genesis on;
of several such homes the one whose ledgers go furthest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection

from coordinator.consensus.errors import DecodeError
from coordinator.ledger.database import open_database, snapshot, translated
from coordinator.ledger.errors import StoreError
from coordinator.ledger.genesis import Genesis
from coordinator.ledger.state_tree import tree_of
from coordinator.ledger.store import read_genesis
from coordinator.ledger.view import View
from coordinator.market.coupling.public import PublicNetwork
from coordinator.service.interval_files import GRID, read_public
from coordinator.settlement.interval import hub_books, region
from coordinator.settlement.interval.hub_books import HubIntervals
from topology.region_files import check_fits, read_region
from topology.regions import RegionGrid

CONSORTIUM, LEDGER = "consortium", "ledger.sqlite"


class RunError(ValueError):
    """A folder that is no run, or a run that lacks what is needed: names it and the remedy, in one line."""


@dataclass(frozen=True, slots=True)
class ChainFile:
    """A chain's ledger file. `height` is its last block's, `base_height` that of the block it begins with."""

    name: str
    path: Path
    genesis: Genesis
    base_height: int
    height: int

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """The file as it is now, whatever a node writes meanwhile."""
        connection = open_database(self.path, read_only=True)
        try:
            with translated(self.path), snapshot(connection):
                yield connection
        finally:
            connection.close()

    def view(self) -> View:
        """The state at the last block, as the file says."""
        with self.reading() as connection:
            return read_view(connection)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One organization's home in a run: its chains, and the grid. `regions` are in the order of the interconnection."""

    path: Path
    organization: str
    hub: ChainFile
    regions: tuple[ChainFile, ...]
    public: PublicNetwork
    grids: tuple[RegionGrid, ...]

    @property
    def chains(self) -> tuple[ChainFile, ...]:
        """The hub's, then the regions'."""
        return self.hub, *self.regions


def read_view(connection: Connection) -> View:
    """The state at the last block of the transaction that is open."""
    return View(tree_of(connection.execute("SELECT key, value FROM state")))


def organizations(run: Path) -> tuple[str, ...]:
    """Organizations that have ledgers in a run, by name. Raises RunError where there are none."""
    found = {home.parents[2].name for home in (run / CONSORTIUM).glob(f"*/chains/*/{LEDGER}")}
    if not found:
        raise RunError(f"{run}: no {CONSORTIUM}/<organization>/chains/<chain>/{LEDGER}; give the folder of a run")
    return tuple(sorted(found))


def chain_files(run: Path, organization: str) -> dict[str, ChainFile]:
    """An organization's chains by name. Raises RunError."""
    paths = sorted((run / CONSORTIUM / organization / "chains").glob(f"*/{LEDGER}"))
    return {chain.name: chain for chain in map(_chain_file, paths)}


def _chain_file(path: Path) -> ChainFile:
    try:
        connection = open_database(path, read_only=True)
        try:
            genesis = read_genesis(connection)
            base, height = connection.execute("SELECT min(height), max(height) FROM blocks").fetchone()
        finally:
            connection.close()
    except (StoreError, DecodeError) as error:
        raise RunError(f"{path}: {error}") from None
    return ChainFile(path.parent.name, path, genesis, base, height)


def open_run(run: Path) -> RunFolder:
    """The home to read a run from. Raises RunError where no organization has every chain from genesis on."""
    reasons = []
    candidates = []
    for organization in organizations(run):
        try:
            chains = chain_files(run, organization)
            candidates.append((sum(chain.height for chain in chains.values()), _home(run, organization, chains)))
        except RunError as error:
            reasons.append(f"{organization}: {error}")
    if not candidates:
        raise RunError(f"{run}: no organization holds every chain from genesis on; {'; '.join(reasons)}")
    return max(candidates, key=lambda candidate: candidate[0])[1]


def _home(run: Path, organization: str, chains: dict[str, ChainFile]) -> RunFolder:
    hub = next((chain for chain in chains.values() if _has(chain, hub_books.NAME)), None)
    if hub is None:
        raise RunError("it has no ledger of the hub")
    late = [chain.name for chain in chains.values() if chain.base_height]
    if late:
        raise RunError(f"its ledger of {late[0]} begins with a snapshot")
    folder = run / CONSORTIUM / organization / "chains"
    public = read_public(folder / hub.name, HubIntervals.of(hub.view()).parameters.topology)
    names = public.interconnection.region_names
    missing = [name for name in names if name not in chains or not _has(chains[name], region.NAME)]
    if missing:
        raise RunError(f"it has no ledger of region {missing[0]}")
    grids = tuple(read_region(folder / name / GRID) for name in names)
    for grid in grids:
        check_fits(grid, public.interconnection, str(folder / grid.name / GRID))
    return RunFolder(run, organization, hub, tuple(chains[name] for name in names), public, grids)


def _has(chain: ChainFile, module: str) -> bool:
    modules = chain.genesis.content.get("modules")
    return isinstance(modules, dict) and module in modules
