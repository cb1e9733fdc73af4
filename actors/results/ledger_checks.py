"""Do the ledgers prove themselves, and do all organizations have the same ones?"""

from __future__ import annotations

from actors.results.audits import Audits
from actors.results.run_folder import ChainFile, RunFolder, chain_files, organizations
from actors.results.verdict import ChainProof, Check


class LedgerChecks:
    """The checks of one run; `run` goes through the chains of the home that was read, whose audits are under way."""

    def __init__(self, folder: RunFolder, audits: Audits) -> None:
        self._folder = folder
        self._audits = audits
        self.audits = Check("audits", 0.0, "")
        self.tips = Check("tips", 0.0, "")
        self.proofs: list[ChainProof] = []

    @property
    def checks(self) -> tuple[Check, ...]:
        """Both."""
        return self.audits, self.tips

    def run(self) -> None:
        """Audits from genesis, and comparison with the ledgers of the others. Raises RunError."""
        run = self._folder.path
        others = {name: chain_files(run, name) for name in organizations(run)}
        for chain in self._folder.chains:
            copies = {name: chains[chain.name] for name, chains in others.items() if chain.name in chains}
            self.proofs.append(self._chain(chain, copies))

    def _chain(self, chain: ChainFile, copies: dict[str, ChainFile]) -> ChainProof:
        report = self._audits[chain.name].result()
        finding = "" if report.finding is None else str(report.finding)
        self.audits.holds(report.valid, None, "", chain.name, finding)
        common = min(copy.height for copy in copies.values())
        own = digest_at(chain, common)
        agreeing = []
        for name, copy in copies.items():
            same = copy.genesis.chain_id == chain.genesis.chain_id and digest_at(copy, common) == own
            self.tips.holds(same, None, "", f"{chain.name} of {name}", f"another block at height {common}")
            agreeing += [name] if same else []
        return ChainProof(
            chain=chain.name,
            role="hub" if chain is self._folder.hub else "region",
            chain_id=report.chain_id,
            organization=self._folder.organization,
            height=chain.height,
            tip=digest_at(chain, chain.height),
            finding=finding,
            blocks=report.blocks,
            transactions=report.transactions,
            certificates=report.certificates,
            readings=report.readings,
            agreeing=tuple(agreeing),
            common_height=common,
        )


def digest_at(chain: ChainFile, height: int) -> str:
    """The digest of a block's header, hexadecimal; empty where the file does not have it."""
    with chain.reading() as connection:
        row = connection.execute("SELECT digest FROM blocks WHERE height = ?", (height,)).fetchone()
    return "" if row is None else bytes(row[0]).hex()
