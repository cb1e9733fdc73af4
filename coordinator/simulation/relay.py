"""Between chains: mempools, and relays that carry proofs of final events and boundaries, badly until all is healed.

A relay knows what honest nodes of its source chain have delivered. It offers what the target has not taken in yet,
again and again: late, out of order, twice, to some nodes only, or not at all; after the healing to all and at once.
"""

from __future__ import annotations

from coordinator.consensus.certificate import Certificate
from coordinator.ledger.boundary import Boundary
from coordinator.ledger.history import MemoryNodes, prove_leaf
from coordinator.ledger.proofs import EventProof
from coordinator.settlement.escrow.encoding import decode_event
from coordinator.settlement.escrow.types import Closed, Decided, Opened
from coordinator.simulation.application import ChainState, Operations, decode_operations, receipts
from coordinator.simulation.chain import Chain
from coordinator.simulation.escrow_books import BOUNDARY, PROOF, Follower, HubLedger, RegionLedger, tried
from coordinator.simulation.node import Node
from coordinator.simulation.options import DELTA_NS
from coordinator.simulation.world import World

_IN_A_BLOCK = 8
_POOL = 64
_LOSS = 0.3
_LATEST_DELTAS = 15


class Mempools:
    """Operations that wait at the nodes of one chain."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._pools: list[dict[bytes, None]] = [{} for _ in chain.nodes]
        chain.operations = self.choose

    def submit(self, number: int, operation: bytes) -> None:
        """An operation reaches a node."""
        pool = self._pools[number]
        if not pool:
            self._chain.world.after(0, self._tell, number)
        pool[operation] = None
        if len(pool) > _POOL:
            del pool[next(iter(pool))]

    def _tell(self, number: int) -> None:
        self._chain.nodes[number].work(bool(self._pools[number]))

    def choose(self, node: Node, parent: ChainState) -> Operations:
        """What a leader puts into its block: what changes something, and now and then what does not."""
        ledger = parent.books
        assert isinstance(ledger, HubLedger | RegionLedger), "chains between which is relayed settle by escrow"
        chosen: list[bytes] = []
        height = parent.header.height + 1
        for operation in self._pools[node.number]:
            after = tried(ledger, operation, height)
            if after is ledger and self._chain.world.rng.random() > 0.05:
                continue
            ledger = after
            chosen.append(operation)
            if len(chosen) == _IN_A_BLOCK:
                break
        return tuple(chosen)

    def forget(self, node: Node, taken: Operations) -> None:
        """A node delivered a block with these."""
        pool = self._pools[node.number]
        if not pool:
            return
        for operation in taken:
            pool.pop(operation, None)
        if not pool:
            self._chain.world.after(0, self._tell, node.number)

    def drop_useless(self) -> None:
        """Forget what would change nothing now; relays offer again what still matters."""
        for node in self._chain.nodes:
            pool, ledger = self._pools[node.number], node.state.books
            assert isinstance(ledger, HubLedger | RegionLedger), "chains between which is relayed settle by escrow"
            for operation in list(pool):
                if tried(ledger, operation, node.height + 1) is ledger:
                    del pool[operation]


class Source:
    """The finalized history of a chain, and proofs from it."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self._history = MemoryNodes()
        self._history.append(chain.application.genesis.header.digest)

    def extended(self, state: ChainState) -> None:
        """One more final block."""
        self._history.append(state.header.digest)

    def proof(self, height: int, place: int, known_epoch: int, newest: bool) -> bytes | None:
        """The proof of an event under a certificate of an epoch that the target knows, if there is one yet."""
        oracle = self.chain.oracle
        usable: list[tuple[int, Certificate]] = []
        for certified_height in range(len(oracle.finalized) - 1, height - 1, -1):
            certificate = oracle.finalizations.get(certified_height)
            if certificate is not None and known_epoch - 1 <= certificate.epoch <= known_epoch:
                usable.append((certified_height, certificate))
                if newest or len(usable) == 4:
                    break
        if not usable:
            return None
        certified_height, certificate = usable[0] if newest else self.chain.world.rng.choice(usable)
        header, certified = oracle.finalized[height], oracle.finalized[certified_height]
        leaves = receipts(header.chain_id, height, oracle.states[height].events)
        history = self._history.tree.prove_inclusion(height, certified_height) if height < certified_height else ()
        inclusion = prove_leaf(leaves, place)
        return EventProof(certificate, certified, history, header, leaves[place], inclusion, len(leaves), 0).encode()

    def boundary(self, epoch: int) -> bytes | None:
        """What moves a light client out of an epoch, if that is over."""
        application, oracle = self.chain.application, self.chain.oracle
        height = (epoch + 1) * application.length
        certificate = oracle.finalizations.get(height)
        if height >= len(oracle.finalized) or certificate is None:
            return None
        keys = oracle.members(epoch + 1).keys
        return Boundary(oracle.finalized[height], certificate, keys).encode()


class Relay:
    """Carries what one chain finalized to another."""

    def __init__(self, world: World, source: Source, target: Chain, pools: Mempools, name: str) -> None:
        self._world = world
        self.source = source
        self.target = target
        self._pools = pools
        self._name = name
        """The region's name, as the hub knows it."""
        self._waiting: dict[tuple[int, int], None] = {}
        self._offered: dict[bytes, tuple[int, int]] = {}
        self.healed = False

    def start(self) -> None:
        """Begin, and go on for ever."""
        self._world.after(2 * DELTA_NS, self._round)

    def extended(self, state: ChainState) -> None:
        """The source finalized a block."""
        for place, event in enumerate(state.events):
            if self._concerns(event):
                self._waiting[state.header.height, place] = None

    def _concerns(self, event: bytes) -> bool:
        decoded = decode_event(event)
        if isinstance(decoded, Opened):
            return self._name in decoded.opening.open.participants
        if isinstance(decoded, Decided):
            return self._name in decoded.participants
        return isinstance(decoded, Closed) or self.target.name == "hub"

    def taken(self, payload: bytes) -> None:
        """The target finalized a block with this payload: what it took in need not be offered again."""
        for operation in decode_operations(payload):
            key = self._offered.get(operation)
            if key is not None:
                self._waiting.pop(key, None)

    def _round(self) -> None:
        follower = self._follower()
        boundary = self.source.boundary(follower.epoch)
        if boundary is not None:
            self._offer(BOUNDARY + boundary)
        rng = self._world.rng
        keys = list(self._waiting)
        rng.shuffle(keys)
        for key in keys[:16]:
            proof = self.source.proof(*key, follower.epoch, self.healed)
            if proof is not None:
                self._offered[PROOF + proof] = key
                self._offer(PROOF + proof)
        pause = 1.0 if self.healed else 1 + 6 * rng.random()
        self._world.after(int(pause * DELTA_NS), self._round)

    def _follower(self) -> Follower:
        books = self.target.oracle.states[-1].books
        if isinstance(books, HubLedger):
            return books.follower(self._name)
        assert isinstance(books, RegionLedger), "a chain is the hub or a region"
        return books.hub

    def _offer(self, operation: bytes) -> None:
        rng = self._world.rng
        for node in self.target.nodes:
            if self.healed:
                self._world.after(int(rng.random() * DELTA_NS), self._pools.submit, node.number, operation)
                continue
            while rng.random() > _LOSS:
                delay_ns = int(rng.random() * _LATEST_DELTAS * DELTA_NS)
                self._world.after(delay_ns, self._pools.submit, node.number, operation)
                if rng.random() < 0.7:
                    break
