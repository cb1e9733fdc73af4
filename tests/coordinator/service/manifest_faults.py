"""Makes one process of a consortium faulty for a while, and sound again."""

from __future__ import annotations

import asyncio
import signal

from coordinator.ledger.misconduct import offences
from tests.coordinator.service.consortium_harness import HUB, ORGANIZATIONS, REGIONS, Consortium
from tests.coordinator.service.gated_network import Gate, GatedNetwork
from tests.coordinator.service.manifest_plan import Fault, FaultKind
from tests.coordinator.service.recomputation import height_of

CHAINS = (HUB, *REGIONS)
PATIENCE_S = 240.0
"""For what takes seconds on a machine left alone; a peer that sent garbage is not let in again for up to a minute."""
_BLOCKS = 2
_BYZANTINE = ("-m", "tests.coordinator.service.byzantine")
_NEXT_VERSION = ("-m", "tests.coordinator.service.versioned")
_OTHER_PROGRAM = (FaultKind.BYZANTINE, FaultKind.OTHER_VERSION)


class Faults:
    """Of one consortium."""

    def __init__(self, consortium: Consortium, network: GatedNetwork) -> None:
        self._consortium = consortium
        self._network = network

    async def happen(self, fault: Fault) -> None:
        """From its begin to its end. While a quorum is left, it does not end before that has finalized."""
        consortium = self._consortium
        others = [name for name in ORGANIZATIONS if name not in fault.nodes]
        await asyncio.sleep(fault.at_ms / 1000)
        heights = {} if fault.stops_finality else {chain: self.height(others[0], chain) for chain in CHAINS}
        streams = self._streams(fault.nodes[0], others)
        self._begin(fault)
        if fault.kind in _OTHER_PROGRAM:
            await self._connected_again(fault.nodes[0], others, streams)
        await asyncio.sleep(fault.hold_ms / 1000)
        for chain, height in heights.items():
            for name in others:

                async def finalizes(name: str = name, chain: str = chain, height: int = height) -> bool:
                    return self.height(name, chain) >= height + _BLOCKS

                await consortium.until(f"{name} finalizes on {chain} during {fault}", finalizes, PATIENCE_S)
        if fault.mode == "equivocate":
            await self._convicted(fault.nodes[0], others)
        self._end(fault)

    def height(self, name: str, chain: str) -> int:
        """Of the last block that is final and durable on a node."""
        return height_of(self._consortium.ledger(name, chain))

    def _streams(self, name: str, others: list[str]) -> list[int]:
        """How many each of the others has had with a node."""
        line = '"event": "connected", "node": "{}", "peer": "{}"'
        return [self._consortium.log(other).count(line.format(other, name)) for other in others]

    async def _connected_again(self, name: str, others: list[str], before: list[int]) -> None:
        async def connected() -> bool:
            return all(now > then for now, then in zip(self._streams(name, others), before, strict=True))

        await self._consortium.until(f"{name} is connected as another program", connected, PATIENCE_S)

    async def _convicted(self, culprit: str, others: list[str]) -> None:
        for chain in CHAINS:

            async def evidence(chain: str = chain) -> bool:
                views = [self._consortium.state(name, chain).view for name in others]
                return all(offences(view, f"{culprit}-validator") for view in views)

            await self._consortium.until(f"evidence against {culprit} is on {chain}", evidence, PATIENCE_S)

    def _begin(self, fault: Fault) -> None:
        consortium, name = self._consortium, fault.nodes[0]
        match fault.kind:
            case FaultKind.KILL | FaultKind.LOSE_LEDGER | FaultKind.LOSE_DISK:
                consortium.kill(*fault.nodes)
            case FaultKind.RESTART:
                consortium.kill(name, number=signal.SIGTERM)
            case FaultKind.PAUSE:
                consortium.send(name, signal.SIGSTOP)
            case FaultKind.CUT:
                self._network.set(name, Gate.CLOSED)
            case FaultKind.SILENCE:
                self._network.set(name, Gate.SILENT)
            case FaultKind.OTHER_VERSION:
                consortium.kill(name, number=signal.SIGTERM)
                consortium.start(name, "1", "2", program=_NEXT_VERSION)
            case FaultKind.BYZANTINE:
                consortium.kill(name)
                consortium.start(name, fault.mode, program=_BYZANTINE)
        if fault.kind is FaultKind.LOSE_LEDGER:
            consortium.wipe(name, "sign.guard")
        elif fault.kind is FaultKind.LOSE_DISK:
            consortium.wipe(name)

    def _end(self, fault: Fault) -> None:
        """As `docs/operate.md` says for each failure."""
        consortium, name = self._consortium, fault.nodes[0]
        match fault.kind:
            case FaultKind.KILL | FaultKind.RESTART | FaultKind.LOSE_LEDGER:
                for killed in fault.nodes:
                    consortium.start(killed)
            case FaultKind.LOSE_DISK:
                consortium.start(name, "--rejoin")
            case FaultKind.PAUSE:
                consortium.send(name, signal.SIGCONT)
            case FaultKind.CUT | FaultKind.SILENCE:
                self._network.set(name, Gate.OPEN)
            case FaultKind.OTHER_VERSION | FaultKind.BYZANTINE:
                consortium.restart(name)
