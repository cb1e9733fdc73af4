"""Random interleavings of several settlements that share accounts: the invariants hold after every step."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coordinator.settlement.escrow.admission import reserve
from coordinator.settlement.escrow.errors import EscrowRefused, InvariantViolated
from coordinator.settlement.escrow.hub_record import open_netting, open_payment
from coordinator.settlement.escrow.invariants import Counted, Decision, Entered, check, check_settled
from coordinator.settlement.escrow.records import RegionState
from coordinator.settlement.escrow.types import (
    AMOUNT_MAX,
    NEUTRAL,
    Leg,
    Outcome,
    Reason,
    SettlementId,
    Verdict,
)
from tests.coordinator.settlement.escrow_support import EUR, FIRST, Chains, hub_books, payment

REGIONS = "ABC"
ACCOUNTS = (b"anna", b"bert")
FUNDS = 15
PLACES = st.integers(0, len(REGIONS) - 1)
SMALL = st.integers(1, 12)
AMOUNTS = SMALL | SMALL | SMALL | SMALL | st.sampled_from([AMOUNT_MAX, AMOUNT_MAX - 1])


class Interleavings(RuleBasedStateMachine):
    """Payments and nettings among three regions with two accounts each; proofs arrive in any order, or again."""

    @initialize(limit=st.sampled_from([10, 40, AMOUNT_MAX]))
    def begin(self, limit: int) -> None:
        self.chains = Chains(REGIONS, hub_books(REGIONS, limit=min(limit, 10**6)))
        self.nonce = 0
        for name in REGIONS:
            region = self.chains.region(name)
            balances = {(account, EUR): FUNDS for account in (*ACCOUNTS, NEUTRAL)}
            self.chains.world = self.chains.world.with_region(
                REGIONS.index(name), region.wrote(lambda books, balances=balances: replace(books, balances=balances))
            )
        self.chains.supply = self.chains.world.supply()

    @rule(payer=PLACES, payee=PLACES, second=st.none() | PLACES, amount=AMOUNTS, account=st.sampled_from(ACCOUNTS))
    def pay(self, payer: int, payee: int, second: int | None, amount: int, account: bytes) -> None:
        """A payment of one payer to one or two payees; what is not admissible is refused."""
        self.nonce += 1
        change = {(REGIONS[payer], account): -amount}
        shares = [(payee, amount)] if second is None else [(payee, amount // 2), (second, amount - amount // 2)]
        for place, share in shares:
            key = (REGIONS[place], ACCOUNTS[place % 2])
            change[key] = change.get(key, 0) + share
        legs = tuple(Leg(region, owner, EUR, value) for (region, owner), value in change.items())
        hub = self.chains.hub
        opening = payment(legs, deadline=hub.height + 2, nonce=self.nonce)
        try:
            self.chains.put(self.chains.world.with_hub(hub.after(open_payment(hub.books, opening.encoded, hub.height))))
        except EscrowRefused:
            return

    @rule(nets=st.tuples(st.integers(-6, 6), st.integers(-6, 6)))
    def settle_interval(self, nets: tuple[int, int]) -> None:
        """A netting, reserved, mandated in every region, and opened."""
        self.nonce += 1
        nonce = self.nonce.to_bytes(32, "big")
        amounts = (*nets, -sum(nets))
        legs = tuple(Leg(name, NEUTRAL, EUR, net) for name, net in zip(REGIONS, amounts, strict=True) if net)
        hub = self.chains.hub
        try:
            for leg in legs:
                if leg.amount < 0:
                    hub = hub.after(reserve(hub.books, nonce, leg.region, EUR, -leg.amount))
            hub = hub.after(open_netting(hub.books, nonce, legs, hub.height))
        except EscrowRefused:
            return
        self.chains.put(self.chains.world.with_hub(hub))
        for leg in legs:
            region = self.chains.region(leg.region)
            mandates = {**region.books.mandates, (nonce, NEUTRAL, EUR): leg.amount}
            self.chains.set_region(
                leg.region, region.wrote(lambda books, mandates=mandates: replace(books, mandates=mandates))
            )

    @precondition(lambda self: self.chains.hub.published)
    @rule(place=PLACES, choice=st.integers(0, 10**6))
    def relay_to_region(self, place: int, choice: int) -> None:
        """Any hub event, old or new, to any region."""
        proofs = tuple(self.chains.hub.proofs())
        self.chains.put(self.chains.world.to_region(place, proofs[-1 - choice % len(proofs)]))

    @rule(place=PLACES, choice=st.integers(0, 10**6))
    def relay_to_hub(self, place: int, choice: int) -> None:
        """Any receipt, old or new, to the hub."""
        proofs = tuple(self.chains.world.regions[place].proofs())
        if proofs:
            self.chains.put(self.chains.world.to_hub(proofs[-1 - choice % len(proofs)]))

    @rule(place=PLACES, amount=st.integers(1, 9))
    def transfer_locally(self, place: int, amount: int) -> None:
        """A region's own business with the same accounts."""
        region = self.chains.world.regions[place]
        if region.books.free(ACCOUNTS[0], EUR) >= amount:
            self.chains.set_region(
                REGIONS[place], region.wrote(lambda books: books.transferred(*ACCOUNTS, EUR, amount))
            )

    @rule()
    def finish_block(self) -> None:
        """The hub's block becomes final."""
        self.chains.tick()

    @rule()
    def everybody_relays(self) -> None:
        """All that is final reaches everybody."""
        self.chains.everybody()

    @invariant()
    def nothing_is_negative(self) -> None:
        """I5 once more, in plain words."""
        for region in self.chains.world.regions:
            assert min(region.books.balances.values(), default=0) >= 0
            assert min(region.books.escrow.values(), default=0) >= 0

    def teardown(self) -> None:
        """Where everything heals all is settled and forgotten (I10)."""
        if not hasattr(self, "chains"):
            return
        for _ in range(14):
            self.chains.everybody()
        check_settled(self.chains.world.observation(self.chains.supply))
        assert not self.chains.hub.books.records
        for name in REGIONS:
            self.chains.relay_to(name)
            assert not self.chains.region(name).books.records
            assert not self.chains.region(name).books.escrow


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=60, stateful_step_count=40)


def committed() -> Chains:
    chains = Chains()
    chains.open()
    chains.everybody()
    chains.everybody()
    return chains


def _violate(chains: Chains, name: str, **hub_change: object) -> None:
    observation = chains.world.observation(chains.supply)
    hub = replace(observation.hubs[0], **hub_change)  # type: ignore[arg-type]
    with pytest.raises(InvariantViolated, match=f"^{name}:"):
        check(replace(observation, hubs=(hub,)))


def test_each_invariant_has_its_own_error() -> None:
    chains = committed()
    hub = chains.hub.observed
    decision = hub.decided[0]
    _violate(chains, "I2", decided=(decision, replace(decision)))
    _violate(chains, "I3", decided=())
    _violate(chains, "I3", counted=hub.counted[1:])
    late = tuple(replace(item, height=9) for item in hub.counted)
    _violate(chains, "I3", counted=late)
    early = Decision(FIRST, decision.open_digest, Outcome.COMMIT, Reason.DEADLINE, 2)
    _violate(chains, "I8", decided=(early,))
    _violate(chains, "I9", books=replace(hub.books, positions={("A", EUR): -10}))
    _violate(chains, "I9", books=replace(hub.books, positions={("A", EUR): -101, ("B", EUR): 101}))
    opened = Chains()
    opened.open()
    _violate(opened, "I10", height=5)


def test_each_invariant_of_a_region_has_its_own_error() -> None:
    chains = committed()
    observation = chains.world.observation(chains.supply)
    region = observation.regions[0]
    digest = observation.hubs[0].decided[0].open_digest
    other_sid = SettlementId(7, 0)
    books = region.books
    cases = {
        "I1": replace(region, entered=(*region.entered, Entered(FIRST, RegionState.ABORTED, digest, None))),
        "I4": replace(region, books=replace(books, balances={(b"owner", EUR): 9})),
        "I5": replace(region, books=replace(books, balances={(b"owner", EUR): -1, (b"x", EUR): 11})),
        "I6": replace(region, entered=(*region.entered, region.entered[-1])),
        "I7": replace(region, entered=(*region.entered, Entered(other_sid, RegionState.YES, digest, other_sid))),
    }
    for name, wrong in cases.items():
        with pytest.raises(InvariantViolated, match=f"^{name}:"):
            check(replace(observation, regions=(wrong, *observation.regions[1:])))
    with pytest.raises(InvariantViolated, match="I5:"):
        escrow = {(other_sid, b"owner", EUR): 10}
        held = replace(region, books=replace(books, balances={(b"owner", EUR): 0}, escrow=escrow))
        check(replace(observation, regions=(held, *observation.regions[1:])))


def test_two_hub_nodes_that_differ_are_seen() -> None:
    chains = committed()
    observation = chains.world.observation(chains.supply)
    hub = observation.hubs[0]
    behind = replace(hub, decided=(), counted=())
    check(replace(observation, hubs=(hub, behind)))
    forked = replace(hub, decided=(replace(hub.decided[0], outcome=Outcome.ABORT),))
    with pytest.raises(InvariantViolated, match="I2:"):
        check(replace(observation, hubs=(hub, forked)))


def test_an_unsettled_end_is_seen() -> None:
    chains = Chains()
    chains.open()
    with pytest.raises(InvariantViolated, match="I10:"):
        check_settled(chains.world.observation(chains.supply))
    assert Counted(FIRST, "A", Verdict.YES, 2) not in chains.hub.observed.counted


def test_replaying_the_same_inputs_gives_the_same_books() -> None:
    """I11 as far as the core is concerned: no hidden state."""
    first, second = committed(), committed()
    assert first.hub.snapshot() == second.hub.snapshot()
    assert [region.snapshot() for region in first.world.regions] == [
        region.snapshot() for region in second.world.regions
    ]
