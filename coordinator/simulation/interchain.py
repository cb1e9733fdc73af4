"""One seed of many chains: a hub, its regions, and the escrow protocol between them, each chain with its own faults.

The hub has a validator for each region, at least four. Owners pay each other across regions, nettings settle whole
intervals, some regions do not agree, money is spent before it is asked for. After every event that changes a book,
I1 to I9 and the in-time half of I10 are checked over the newest final states of all chains; after the healing
everything must come to rest within `settle_bound_ns`; at the end every chain is replayed from genesis (I11).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace

from coordinator.settlement.escrow.books import HubParameters, RegionEntry
from coordinator.settlement.escrow.encoding import authorisation_bytes, seal
from coordinator.settlement.escrow.errors import InvariantViolated
from coordinator.settlement.escrow.invariants import HubObserved, Observation, RegionObserved, check, check_settled
from coordinator.settlement.escrow.memory import HubMemory, RegionMemory
from coordinator.settlement.escrow.renetting import collateral_account
from coordinator.settlement.escrow.types import NEUTRAL, Authorisation, Kind, Leg, Open
from coordinator.simulation.application import ChainState, decode_operations
from coordinator.simulation.chain import Chain
from coordinator.simulation.errors import LivenessFailure
from coordinator.simulation.escrow_books import (
    ASSET,
    MANDATE,
    NETTING,
    OPEN,
    OWNER,
    SHOP,
    SPEND,
    Follower,
    HubLedger,
    RegionLedger,
    encode_legs,
    owner_signature,
    owner_signed,
)
from coordinator.simulation.node import Node
from coordinator.simulation.options import DELTA_NS, Fault, Options, draw
from coordinator.simulation.relay import Mempools, Relay, Source
from coordinator.simulation.simulation import HEIGHTS_AFTER, Outcome, bound_ns, failure_of, make_chain, replay, stuck
from coordinator.simulation.trace import Trace
from coordinator.simulation.world import World

SAFETY_DELTAS = 150
SAFETY_EVENTS_A_CHAIN = 4_000
WINDOW_MIN, WINDOW_MAX, NETTING_WINDOW = 2, 30, 8
_LIMIT = 80
_OWNED, _NEUTRAL = 100, 300
_HEARTBEAT_NS = 4 * DELTA_NS


def options_of(name: str, seed: int, faults: tuple[Fault, ...], validators: int) -> Options:
    """One chain's options. Idle chains wait for the heartbeat."""
    options = draw(random.Random(f"options {name} {seed}"), faults, validators)
    length = (10, 30, 1000)[options.epoch_length % 3]
    return replace(options, epoch_length=length, heartbeat_ns=_HEARTBEAT_NS, minimum_interval_ns=0, spares=0)


class Interchain:
    """A run of one seed."""

    def __init__(
        self,
        seed: int,
        regions: int,
        validators: int,
        faults: tuple[Fault, ...],
        sink: Callable[[str], None] | None = None,
    ) -> None:
        self.seed = seed
        self.world = World(random.Random(f"interchain {seed}"), Trace(sink))
        self.names = tuple(f"R{number:02d}" for number in range(1, regions + 1))
        sizes = {"hub": max(4, regions)} | dict.fromkeys(self.names, validators)
        options = {name: options_of(name, seed, faults, size) for name, size in sizes.items()}
        if sink is not None:
            for name, chosen in options.items():
                sink(f"# seed {seed} {name} {chosen.line()}")
        self.chains = {name: make_chain(self.world, name, options[name], seed) for name in sizes}
        self.hub = self.chains["hub"]
        self.regions = [self.chains[name] for name in self.names]
        self._give_books()
        self.supply = {ASSET: regions * (_LIMIT + _OWNED + _NEUTRAL)}
        self.pools = {name: Mempools(chain) for name, chain in self.chains.items()}
        self.sources = {name: Source(chain) for name, chain in self.chains.items()}
        self.relays = [
            Relay(self.world, self.sources[source], self.chains[target], self.pools[target], name)
            for name in self.names
            for source, target in (("hub", name), (name, "hub"))
        ]
        for chain in self.chains.values():
            chain.on_delivered = self._delivered
        self._heights = dict.fromkeys(self.chains, 0)
        self._healed_ns = 0
        self._done_ns = 0
        self._nonces = 0
        self.checks = 0

    def _give_books(self) -> None:
        """Genesis states: every chain knows the first validators of those that it listens to."""

        def follower(chain: Chain) -> Follower:
            first, second = chain.application.epochs_after(chain.application.genesis)
            assert first.epoch == 0, "light clients begin at genesis"
            assert second.epoch == 1, "and learn of the second epoch by its boundary"
            return Follower(chain.application.length, (first.validators,))

        hub_id = self.hub.application.chain_id
        followers = tuple((chain.name, follower(chain)) for chain in self.regions)
        for chain in self.regions:
            books = RegionMemory(
                chain.name, hub_id, {(OWNER, ASSET): _OWNED, (SHOP, ASSET): 0, (NEUTRAL, ASSET): _NEUTRAL}
            )
            books = replace(books, signed=owner_signed)
            chain.begin_with(RegionLedger(RegionObserved(books), follower(self.hub), chain.application.scheme))
        hub_books = HubMemory(
            hub_id,
            HubParameters(WINDOW_MIN, WINDOW_MAX, NETTING_WINDOW),
            {chain.name: RegionEntry(chain.name, chain.application.chain_id, 0) for chain in self.regions},
            limits={(name, ASSET): _LIMIT for name in self.names},
            accounts={(collateral_account(name).decode(), ASSET): _LIMIT for name in self.names},
        )
        self.hub.begin_with(HubLedger(HubObserved(hub_books, 0), followers, self.hub.application.scheme))

    # The run.

    def run(self) -> Outcome:
        """Both phases; failures are part of the outcome."""
        return self._outcome(*failure_of(self._phases))

    def _phases(self) -> None:
        for chain in self.chains.values():
            chain.start()
        for relay in self.relays:
            relay.start()
        self.world.after(3 * DELTA_NS, self._work)
        self._safety_phase()
        self._liveness_phase()
        for chain in self.chains.values():
            replay(chain)

    def _safety_phase(self) -> None:
        world, most = self.world, SAFETY_EVENTS_A_CHAIN * len(self.chains)
        world.run(SAFETY_DELTAS * DELTA_NS, lambda: world.events >= most)

    def _liveness_phase(self) -> None:
        self._healed_ns = self.world.now_ns
        awake = {name: chain.heal() for name, chain in self.chains.items()}
        targets = {name: len(chain.oracle.finalized) - 1 + HEIGHTS_AFTER for name, chain in self.chains.items()}
        for relay in self.relays:
            relay.healed = True
        deadline_ns = self.world.now_ns + self.settle_bound_ns()

        def behind() -> list[Node]:
            return [
                node
                for name, chain in self.chains.items()
                for node in chain.seated(awake[name])
                if node.height < targets[name]
            ]

        while self.world.now_ns < deadline_ns and (behind() or self._unsettled()):
            self.world.run(self.world.now_ns + 2 * DELTA_NS, lambda: False)
        left = behind()
        if left:
            raise LivenessFailure(f"{left[0].chain.name}: {stuck(left, targets[left[0].chain.name])}")
        unsettled = self._unsettled()
        if unsettled:
            raise LivenessFailure(unsettled)
        self._done_ns = self.world.now_ns

    def settle_bound_ns(self) -> int:
        """I10: every chain's own bound, then every OPEN decided by its deadline, renetted at most once a region, and
        applied; each hub block may take a view for each frozen leader and one more."""
        blocks = WINDOW_MAX + (len(self.regions) + 1) * NETTING_WINDOW + 20
        each_ns = (self.hub.options.max_faulty + 1) * (_HEARTBEAT_NS + 4 * DELTA_NS)
        return max(bound_ns(chain.options) for chain in self.chains.values()) + blocks * each_ns

    def _unsettled(self) -> str | None:
        """What I10 still misses."""
        for pools in self.pools.values():
            pools.drop_useless()
        try:
            check_settled(self.observation())
        except InvariantViolated as error:
            return str(error)
        return None

    def observation(self) -> Observation:
        """What all chains have finalized, and what each hub node has."""
        hubs = [self.hub.oracle.states[-1], *(node.state for node in self.hub.honest)]
        ledgers = [state.books for state in hubs]
        observed = tuple(ledger.observed for ledger in ledgers if isinstance(ledger, HubLedger))
        regions = [chain.oracle.states[-1].books for chain in self.regions]
        return Observation(
            observed, tuple(one.observed for one in regions if isinstance(one, RegionLedger)), self.supply
        )

    def _delivered(self, node: Node, state: ChainState) -> None:
        """A node of some chain delivered a block; the first to do so makes it final for relays and observers."""
        chain, height = node.chain, state.header.height
        payload = node.disk.payloads[state.header.payload_digest]
        self.pools[chain.name].forget(node, decode_operations(payload))
        if height <= self._heights[chain.name]:
            return
        self._heights[chain.name] = height
        source = self.sources[chain.name]
        source.extended(state)
        for relay in self.relays:
            if relay.source is source:
                relay.extended(state)
            if relay.target is chain:
                relay.taken(payload)
        before = chain.oracle.states[-2].books
        if before.root() != state.books.root() or chain is self.hub:
            self.checks += 1
            check(self.observation())

    # What owners and regions do.

    def _work(self) -> None:
        """Now and then a payment, a netting, or local spending; nothing once all is healed."""
        if self.hub.healed:
            return
        rng = self.world.rng
        choice = rng.random()
        if choice < 0.4:
            self._pay()
        elif choice < 0.6:
            self._net()
        else:
            chain = rng.choice(self.regions)
            self._submit(chain, SPEND + rng.randint(1, 60).to_bytes(2, "big") + self._nonce())
        self.world.after(int((1 + 8 * rng.random()) * DELTA_NS), self._work)

    def _nonce(self) -> bytes:
        self._nonces += 1
        return hashlib.sha256(f"{self.seed} {self._nonces}".encode()).digest()

    def _submit(self, chain: Chain, operation: bytes) -> None:
        for node in chain.nodes:
            if self.world.rng.random() < 0.7:
                self.pools[chain.name].submit(node.number, operation)

    def _legs(self, account: bytes, least: int) -> tuple[Leg, ...]:
        rng = self.world.rng
        names = sorted(rng.sample(self.names, rng.randint(min(least, len(self.names)), min(4, len(self.names)))))
        amounts = [rng.choice((-1, 1)) * rng.randint(1, 40) for _ in names[1:]]
        legs = [Leg(name, account, ASSET, amount) for name, amount in zip(names[1:], amounts, strict=True)]
        rest = -sum(amounts)
        return tuple(sorted([*legs, Leg(names[0], account, ASSET, rest)] if rest else legs))

    def _pay(self) -> None:
        """An OPEN that every payer has signed, or nearly."""
        rng = self.world.rng
        legs = self._legs(OWNER, 2)
        deadline = len(self.hub.oracle.finalized) + rng.randint(WINDOW_MIN, WINDOW_MAX + 2)
        content = Open(self.hub.application.chain_id, self._nonce(), Kind.PAYMENT, deadline, legs)
        message = authorisation_bytes(seal(content).body_digest)
        signatures = tuple(
            Authorisation(leg.region, OWNER, owner_signature(OWNER, message) if rng.random() < 0.95 else bytes(64))
            for leg in legs
            if leg.amount < 0
        )
        self._submit(self.hub, OPEN + seal(replace(content, authorisations=signatures)).encoded)

    def _net(self) -> None:
        """A netting that nearly every region has computed itself."""
        nonce, legs = self._nonce(), self._legs(NEUTRAL, 2)
        for leg in legs:
            if self.world.rng.random() < 0.85:
                self._submit(self.chains[leg.region], MANDATE + encode_legs(nonce, (leg,)))
        self._submit(self.hub, NETTING + encode_legs(nonce, legs))

    def _outcome(self, kind: str | None, failure: str | None) -> Outcome:
        world, chains = self.world, list(self.chains.values())
        where = f"seed {self.seed}, t={world.now_ns / DELTA_NS:.1f} deltas, {world.trace.last}: {failure}"
        books = self.hub.oracle.states[-1].books
        return Outcome(
            self.seed,
            world.events,
            sum(len(chain.oracle.finalized) - 1 for chain in chains),
            sum(node.restarts for chain in chains for node in chain.nodes),
            sum(chain.oracle.finalized[-1].epoch + 1 for chain in chains),
            max(0, self._done_ns - self._healed_ns) / DELTA_NS,
            world.trace.digest,
            " | ".join(f"{name} {chain.options.line()}" for name, chain in self.chains.items()),
            kind,
            None if failure is None else where,
            len(books.observed.decided) if isinstance(books, HubLedger) else 0,
        )


def run_interchain_seed(
    seed: int,
    regions: int,
    validators: int,
    faults: tuple[Fault, ...],
    sink: Callable[[str], None] | None = None,
) -> Outcome:
    """One seed of a hub and its regions."""
    return Interchain(seed, regions, validators, faults, sink).run()
