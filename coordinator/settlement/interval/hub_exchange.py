"""The hub's part in the settlement of metered exchange over tie-lines, interval by interval, beside the one under way.

    TIES     a region's proven statement of its meters, once the interval is over
    amounts  by the rules of genesis, when all have stated or `blocks` after the first; collateral is set aside for
             exactly that, in place of what was before the coupling
    ACCEPT   a region's proven statement that it agrees to its amount
    netting  one settlement with a leg a region, by the escrow protocol; on its collateral where it has not accepted

Of a region whose debit no free collateral covers the tie-lines count as scheduled: nobody is paid what nothing covers.
An interval whose meters nobody states moves nothing. What comes after the amounts are known is too late.

Key                       entry
tie_rules                 TieRules; absent where metered exchange is not settled
exchange/<interval>       Exchange, until its netting is opened
tied/<interval><number>   what a region stated of its meters
clock/<interval>          there once a region has stated something
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice

from coordinator.ledger.codec import Reader, Writer
from coordinator.ledger.errors import Rejected
from coordinator.ledger.view import Records, View
from coordinator.settlement.escrow.admission import exposure, reserve
from coordinator.settlement.escrow.errors import EscrowRefused
from coordinator.settlement.escrow.hub_record import open_netting
from coordinator.settlement.escrow.records import HubTransition
from coordinator.settlement.escrow.renetting import without
from coordinator.settlement.escrow.types import NEUTRAL, Leg
from coordinator.settlement.interval.decisions import TieSchedule
from coordinator.settlement.interval.exchange import (
    Exchange,
    TieRules,
    amounts_due,
    decode_exchange,
    decode_tie_rules,
)
from coordinator.settlement.interval.hub_books import HubIntervals, numbers_of
from coordinator.settlement.interval.schedules import Metered, decode_metered
from coordinator.settlement.interval.topics import Interval, Step, Topic, encode_amount, exchange_nonce, read_interval

EXCHANGE_EVENT = "exchange"
_KEPT = 256
"""Intervals that nobody has stated meters of yet; older ones are given up."""
_RULES, _EXCHANGE, _TIED, _CLOCK = b"tie_rules", b"exchange/", b"tied/", b"clock/"


@dataclass(frozen=True, slots=True)
class Exchanges:
    """The hub's entries about metered exchange; to read by anyone, to write by the functions below."""

    books: HubIntervals

    @staticmethod
    def of(view: View) -> Exchanges:
        """To read a state."""
        return Exchanges(HubIntervals.of(view))

    @property
    def records(self) -> Records:
        """Among those of the module."""
        return self.books.records

    @property
    def rules(self) -> TieRules | None:
        """From genesis; None where metered exchange is not settled."""
        data = self.records.get(_RULES)
        return None if data is None else decode_tie_rules(data)

    def find(self, interval: Interval) -> Exchange | None:
        """Of an interval that is coupled and not settled."""
        data = self.records.get(_EXCHANGE + interval.encode())
        return None if data is None else decode_exchange(data)

    def all(self) -> list[Exchange]:
        """In the order of time."""
        return [decode_exchange(value) for _, value in self.records.items(_EXCHANGE)]

    def begun(self) -> list[Exchange]:
        """Those of which a region has stated something."""
        keys = (key[len(_CLOCK) :] for key, _ in self.records.items(_CLOCK))
        found = (self.find(read_interval(Reader(key))) for key in keys)
        return [exchange for exchange in found if exchange is not None]

    def stated(self, interval: Interval) -> dict[int, tuple[Metered, ...]]:
        """What regions said that their meters show."""
        prefix = _TIED + interval.encode()
        found = self.records.items(prefix)
        return {int.from_bytes(key[len(prefix) :], "big"): decode_metered(value) for key, value in found}

    def nonce(self, interval: Interval) -> bytes:
        """Of its netting."""
        parameters = self.books.parameters
        return exchange_nonce(interval, parameters.topology, parameters.asset)

    # Writing.

    def put_rules(self, rules: TieRules) -> None:
        """At genesis."""
        self.records.put(_RULES, rules.encode())

    def put(self, exchange: Exchange) -> None:
        """What stands now."""
        key = exchange.interval.encode()
        self.records.put(_EXCHANGE + key, exchange.encode())
        if exchange.since_height:
            self.records.put(_CLOCK + key, b"\x01")

    def put_stated(self, interval: Interval, number: int, message: bytes) -> None:
        """Of a region's meters."""
        self.records.put(_TIED + interval.encode() + number.to_bytes(4, "big"), message)

    def forget(self, interval: Interval) -> None:
        """It is settled, or given up."""
        key = interval.encode()
        for stated, _ in tuple(self.records.items(_TIED + key)):
            self.records.delete(stated)
        for kind in (_EXCHANGE, _CLOCK):
            self.records.delete(kind + key)


def begin(books: HubIntervals, interval: Interval, ties: tuple[TieSchedule, ...]) -> None:
    """The interval is coupled."""
    exchanges = Exchanges(books)
    if not ties:
        return
    exchanges.put(Exchange(interval, ties))
    waiting = [exchange.interval for exchange in exchanges.all() if not exchange.since_height]
    for old in islice(waiting, max(0, len(waiting) - _KEPT)):
        release(books, old)
        exchanges.forget(old)


def collateral(books: HubIntervals) -> int:
    """What is set aside for a region's exchange, in micro-units."""
    rules = Exchanges(books).rules
    return 0 if rules is None else rules.collateral


def set_aside(books: HubIntervals, interval: Interval, name: str) -> None:
    """Collateral for what a region may come to owe, before it is coupled. Raises EscrowRefused."""
    nonce, asset, amount = Exchanges(books).nonce(interval), books.parameters.asset, collateral(books)
    if amount and not books.escrow.reserved(nonce, name, asset):
        books.escrow.apply(reserve(books.escrow, nonce, name, asset, amount))


def release(books: HubIntervals, interval: Interval) -> None:
    """Nobody will owe anything."""
    books.escrow.apply(HubTransition(released=(Exchanges(books).nonce(interval),)))


def hear(books: HubIntervals, topic: Topic, number: int, message: bytes, height: int) -> None:
    """A region's statement about an interval's exchange. Raises Rejected."""
    exchanges = Exchanges(books)
    exchange = exchanges.find(topic.interval)
    if exchange is None or topic != Topic(topic.interval, Step.ACCEPT if exchange.amounts else Step.TIES):
        raise Rejected("unexpected", f"{topic}: nothing of this is waited for, or no longer")
    if topic.step is Step.TIES:
        _hear_meters(exchanges, exchange, number, message, height)
    else:
        _hear_acceptance(exchanges, exchange, number, message, height)


def _hear_meters(exchanges: Exchanges, exchange: Exchange, number: int, message: bytes, height: int) -> None:
    books, rules, interval = exchanges.books, exchanges.rules, exchange.interval
    assert rules is not None, "an exchange follows rules"
    name = books.parameters.regions[number]
    if books.context.block.time_ms < interval.end_s * 1000:
        raise Rejected("too_early", f"the interval ends at {interval.end_s} s; nobody's meters show it yet")
    stated = exchanges.stated(interval)
    if number in stated:
        raise Rejected("again", f"{name} has stated its meters of the interval at {interval.start_s} s")
    strange = [row.resource for row in decode_metered(message) if row.substituted or row.resource not in rules.of(name)]
    if strange:
        raise Rejected("malformed", f"{name} has no meter at {strange[0][:60]!r}; silent ones are left out")
    exchanges.put_stated(interval, number, message)
    exchange = replace(exchange, since_height=exchange.since_height or height)
    exchanges.put(exchange)
    if all(k == number or k in stated or not rules.of(region) for k, region in enumerate(books.parameters.regions)):
        _compute(exchanges, exchange, height)


def _compute(exchanges: Exchanges, exchange: Exchange, height: int) -> None:
    """The amounts, which are final; then regions are to accept them."""
    rules, regions = exchanges.rules, exchanges.books.parameters.regions
    assert rules is not None, "an exchange follows rules"
    stated = {regions[number]: rows for number, rows in exchanges.stated(exchange.interval).items()}
    uncovered: set[str] = set()
    amounts = amounts_due(rules, exchange, stated, regions)
    while poor := _set_aside(exchanges, exchange.interval, amounts):
        uncovered |= poor
        amounts = amounts_due(rules, exchange, stated, regions, uncovered)
    writer = Writer().raw(exchange.interval.encode()).uint32(len(amounts))
    for amount in amounts:
        writer.int64(amount)
    left_out = tuple(number for number, name in enumerate(regions) if name in uncovered)
    exchanges.books.context.emit(EXCHANGE_EVENT, writer.raw(numbers_of(left_out)).encoded)
    if any(amounts):
        exchanges.put(replace(exchange, amounts=amounts, since_height=height))
    else:
        exchanges.forget(exchange.interval)


def _set_aside(exchanges: Exchanges, interval: Interval, amounts: tuple[int, ...]) -> set[str]:
    """Collateral for exactly what regions owe; whose does not suffice."""
    books, nonce, poor = exchanges.books, exchanges.nonce(interval), set()
    release(books, interval)
    for name, amount in zip(books.parameters.regions, amounts, strict=True):
        if amount < 0:
            try:
                books.escrow.apply(reserve(books.escrow, nonce, name, books.parameters.asset, -amount))
            except EscrowRefused:
                poor.add(name)
    return poor


def _hear_acceptance(exchanges: Exchanges, exchange: Exchange, number: int, message: bytes, height: int) -> None:
    name = exchanges.books.parameters.regions[number]
    if number not in exchange.owing:
        raise Rejected("again", f"{name} has accepted, or has nothing to accept")
    if message != encode_amount(exchange.amounts[number]):
        raise Rejected("other_message", f"{name} is to accept {exchange.amounts[number]} micro-units, no other amount")
    exchange = replace(exchange, accepted=tuple(sorted((*exchange.accepted, number))))
    exchanges.put(exchange)
    if not exchange.owing:
        _settle(exchanges, exchange, height)


def _settle(exchanges: Exchanges, exchange: Exchange, height: int) -> None:
    """Where it cannot be opened now (too many are unclosed) the end of a later block tries again."""
    books, parameters = exchanges.books, exchanges.books.parameters
    escrow, asset, due = books.escrow, parameters.asset, zip(parameters.regions, exchange.amounts, strict=True)
    legs = tuple(sorted(Leg(name, NEUTRAL, asset, amount) for name, amount in due if amount))
    silent = [parameters.regions[number] for number in exchange.owing]
    silent += [leg.region for leg in legs if leg.amount < 0 and _is_overdrawn(books, leg.region)]
    try:
        escrow.apply(open_netting(escrow, exchanges.nonce(exchange.interval), without(legs, silent), height))
    except EscrowRefused:
        return
    exchanges.forget(exchange.interval)


def _is_overdrawn(books: HubIntervals, region: str) -> bool:
    """Whether what was drawn from its collateral meanwhile leaves too little: no reason to keep the others waiting."""
    asset = books.parameters.asset
    return exposure(books.escrow, region, asset) > books.escrow.limit(region, asset)


def end_of_block(books: HubIntervals, height: int) -> None:
    """Go on without those who let others wait."""
    exchanges = Exchanges(books)
    for exchange in exchanges.begun():
        rules = exchanges.rules
        assert rules is not None, "an exchange follows rules"
        waited = height - exchange.since_height
        if not exchange.amounts and waited >= rules.blocks:
            _compute(exchanges, exchange, height)
        elif exchange.amounts and (not exchange.owing or waited >= books.parameters.step_blocks):
            _settle(exchanges, exchange, height)
