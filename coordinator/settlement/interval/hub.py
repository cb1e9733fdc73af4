"""The hub's part of an interval: whose messages count, in which order, until when, and what follows from an agreement.

Transactions                              Events
interval_message   proof of a region's    interval       a statement of the hub: topic and digest
                   statement, and the     interval_end   the interval, and whether it was coupled
                   message itself         tie_outage     a region's number, and what counts of its breaker
confirm_hub        a hub validator's word

The hub keeps what `hub_books`, `hub_exchange`, `hub_claims` and `hub_outages` list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from coordinator.ledger.codec import Reader, Writer
from coordinator.ledger.errors import Rejected
from coordinator.ledger.state import Module
from coordinator.ledger.view import Context
from coordinator.settlement.escrow.admission import reserve
from coordinator.settlement.escrow.chains import Chains
from coordinator.settlement.escrow.encoding import seal
from coordinator.settlement.escrow.errors import EscrowRefused
from coordinator.settlement.escrow.hub_record import open_netting
from coordinator.settlement.escrow.records import HubTransition
from coordinator.settlement.escrow.renetting import without
from coordinator.settlement.escrow.types import AMOUNT_MAX, HUB, NEUTRAL, ROUNDING, Kind, Leg, Open
from coordinator.settlement.interval import confirmations, hub_claims, hub_exchange
from coordinator.settlement.interval.confirmations import CONFIRM_HUB, decode_confirmation, digest_of
from coordinator.settlement.interval.decisions import (
    Agreed,
    Blamed,
    HubMessage,
    Opened,
    Said,
    decode_commitment,
    decode_hub_message,
)
from coordinator.settlement.interval.exchange import most_due
from coordinator.settlement.interval.hub_books import NAME, HubIntervals, Ready, numbers_of
from coordinator.settlement.interval.hub_exchange import Exchanges
from coordinator.settlement.interval.hub_genesis import found
from coordinator.settlement.interval.hub_state import FOLLOWING, Running, Session
from coordinator.settlement.interval.outages import decode_outage
from coordinator.settlement.interval.topics import HUB_STEPS, LATER_STEPS, Interval, Step, Topic

MESSAGE = "interval_message"
INTERVAL_EVENT, END_EVENT, OUTAGE_EVENT = "interval", "interval_end", "tie_outage"
_REGIONS_TO_BEGIN = 2
_SPARE_ATTEMPTS = 3
_ROUNDING_MAX = 64
"""Micro-units that rounding may leave for each region or owner in an agreement."""

# What a region says.


def encode_message(proof: bytes, message: bytes) -> bytes:
    """The content of `interval_message`: an event proof of a region's statement, and the message."""
    return Writer().uint32(len(proof)).raw(proof).raw(message).encoded


def _on_message(context: Context, content: bytes) -> None:
    reader = Reader(content)
    proof = reader.raw(reader.uint32())
    message, books = reader.rest(), HubIntervals(context)
    chains: Chains = books.escrow.chains
    proven = chains.event(proof, INTERVAL_EVENT)
    topic, digest = confirmations.decode_event(proven.event)
    number = _number_of(books, proven.chain_id)
    is_stated = not message if topic.step is Step.SCHEDULE else digest_of(message) == digest
    if not is_stated:
        raise Rejected("other_message", f"the message on {topic} is not the one that the region stated")
    if topic.step is Step.OUTAGE:
        _hear_outage(books, topic, number, message)
        return
    if topic.step in LATER_STEPS:
        hear = hub_claims.hear if topic.step is Step.REPAY else hub_exchange.hear
        hear(books, topic, number, message, context.block.height)
        return
    running = books.running
    if running is None:
        _would_begin(books, topic, number, message, context.block.height)
        return
    _check_expected(books, running, topic, number)
    if topic.step is Step.COMMIT:
        committed = decode_commitment(message)
        if committed.topology != books.topology(running.interval):
            _begin_anew(books, running, number, context.block.height)
            return
        _set_aside(books, running.interval, number)
        if not committed.remembers:
            books.put_forgetful()
    if topic.step is Step.INJECT and books.parameters.holds:
        books.put_injected(number, message)
    books.put_slot(number, digest)
    _go_on(books, running, context.block.height)


def _hear_outage(books: HubIntervals, topic: Topic, number: int, message: bytes) -> None:
    """It counts from the first interval that is not under way, if not from a later one."""
    said = decode_outage(message)
    if topic != said.topic(books.parameters.duration_s, topic.round):
        raise Rejected("malformed", f"{topic}: not the topic of what is said about {said.tie[:60]!r}")
    counts = replace(said, from_s=max(said.from_s, books.first_open_s))
    books.outages.hear(number, topic.round, counts, 0 if books.last is None else books.last.start_s)
    books.context.emit(OUTAGE_EVENT, Writer().uint32(number).raw(counts.encode()).encoded)


def _begin_anew(books: HubIntervals, running: Running, number: int, height: int) -> None:
    """A region committed before it knew of an outage: once an interval, all commit anew."""
    if running.attempt:
        name, start_s = books.parameters.regions[number], running.interval.start_s
        raise Rejected("other_topology", f"{name} commits under another topology than that of {start_s} s")
    _try_without(books, running, (), height)


def _number_of(books: HubIntervals, chain_id: bytes) -> int:
    for number, name in enumerate(books.parameters.regions):
        entry = books.escrow.region(name)
        if entry is not None and entry.chain_id == chain_id:
            if entry.frozen or not entry.active:
                raise Rejected("frozen_region", f"{name} is frozen; it is not coupled")
            return number
    raise Rejected("unknown_region", f"chain {chain_id.hex()[:16]} is of no region that is coupled here")


def _would_begin(books: HubIntervals, topic: Topic, number: int, message: bytes, height: int) -> None:
    """The next interval begins when two regions have committed to the same one: one decides nothing for others."""
    parameters, earliest_s = books.parameters, books.first_open_s
    on_grid = (topic.interval.start_s - parameters.opens_s) % parameters.duration_s == 0
    if topic.interval.duration_s != parameters.duration_s or not on_grid:
        raise Rejected("no_such_interval", f"intervals have {parameters.duration_s} s, from {parameters.opens_s} s on")
    if topic.step is not Step.COMMIT or topic.attempt or topic.interval.start_s < earliest_s:
        raise Rejected("unexpected", f"{topic}: the next interval starts at {earliest_s} s, with commitments")
    committed = decode_commitment(message)
    ready = Ready(topic.interval, digest_of(message), not committed.remembers, committed.topology)
    if books.ready().get(number) == ready:
        raise Rejected("again", f"{parameters.regions[number]} has spoken on {topic}")
    books.put_ready(number, ready)
    agreeing = {k: other for k, other in books.ready().items() if other.interval == topic.interval}
    if len(agreeing) >= min(_REGIONS_TO_BEGIN, len(parameters.regions)):
        _begin(books, topic.interval, agreeing, height)


def _begin(books: HubIntervals, interval: Interval, agreeing: Mapping[int, Ready], height: int) -> None:
    running = Running(interval, 0, 0, Step.COMMIT, height, 0, ())
    for number in books.ready():
        books.put_ready(number, None)
    if any(ready.topology != books.topology(interval) for ready in agreeing.values()):
        books.put_running(running.next_attempt((), height))
        return
    books.put_running(running)
    for number, ready in agreeing.items():
        try:
            _set_aside(books, interval, number)
        except Rejected:
            continue
        books.put_slot(number, ready.digest)
        if ready.forgetful:
            books.put_forgetful()
    _go_on(books, running, height)


def _check_expected(books: HubIntervals, running: Running, topic: Topic, number: int) -> None:
    if topic != running.topic or not running.waits_for_regions:
        raise Rejected("unexpected", f"{topic}: the hub waits for {running.topic}")
    if number in running.excluded:
        raise Rejected("excluded", f"this interval goes on without {books.parameters.regions[number]}")
    if number in books.slots():
        raise Rejected("again", f"{books.parameters.regions[number]} has spoken on {topic}")


def _set_aside(books: HubIntervals, interval: Interval, number: int) -> None:
    """Collateral, before a region is coupled; once an interval. Both parts of it or neither."""
    escrow, parameters, nonce = books.escrow, books.parameters, books.nonce(interval)
    name = parameters.regions[number]
    if escrow.reserved(nonce, name, parameters.asset):
        return
    try:
        reserve(escrow, nonce, name, parameters.asset, parameters.collateral + hub_exchange.collateral(books))
        escrow.apply(reserve(escrow, nonce, name, parameters.asset, parameters.collateral))
        hub_exchange.set_aside(books, interval, name)
    except EscrowRefused as error:
        raise Rejected("no_collateral", str(error)) from None


# What follows.


def _go_on(books: HubIntervals, running: Running, height: int) -> None:
    """To the next step once every region has spoken, or is overdue and gone on without."""
    slots = books.slots()
    missing = [number for number in books.taking_part(running) if number not in slots]
    overdue = tuple(number for number in missing if height - running.since_height >= _patience(books, running, number))
    if len(overdue) < len(missing) or not (slots or overdue):
        return
    if running.waiting_for is Step.COMMIT:
        _close_gate(books, running, overdue, height)
    elif running.waiting_for is Step.SCHEDULE:
        _settle(books, running, height)
    elif overdue:
        # In a warm attempt silence may mean that validators have lost the session, one after another.
        _try_without(books, running, overdue if books.is_cold(running) else (), height)
    else:
        books.put_running(running.next(FOLLOWING[running.waiting_for], height))


def _patience(books: HubIntervals, running: Running, number: int) -> int:
    was_absent = running.attempt == 0 and running.waiting_for is Step.COMMIT and number in books.absent
    parameters = books.parameters
    return parameters.absent_blocks if was_absent else parameters.step_blocks


def _close_gate(books: HubIntervals, running: Running, overdue: tuple[int, ...], height: int) -> None:
    excluded = tuple(sorted({*running.excluded, *overdue}))
    gate_height = running.gate_height or height
    session, cold = books.session, books.is_cold(running)
    if not cold and session is not None and (session.excluded != excluded or books.is_forgetful):
        _try_without(books, replace(running, gate_height=gate_height), overdue, height)
        return
    running = replace(running, excluded=excluded, gate_height=gate_height, round=1)
    if _let_go_uncovered(books, running) and not cold:
        _try_without(books, running, (), height)
        return
    if not books.taking_part(running):
        _end(books, running, coupled=False)
        return
    if cold:
        books.put_session(Session(running.interval, 0, excluded, books.topology(running.interval)))
    books.put_running(running.next(Step.SUBMIT, height))


def _let_go_uncovered(books: HubIntervals, running: Running) -> bool:
    """Whom no free collateral covers is not held at an exchange that it might owe for; whether there was any."""
    uncovered = []
    for number in sorted(books.held().keys() & set(running.excluded)):
        try:
            _set_aside(books, running.interval, number)
        except Rejected:
            uncovered.append(number)
    books.let_go(uncovered)
    return bool(uncovered)


def _try_without(books: HubIntervals, running: Running, numbers: tuple[int, ...], height: int) -> None:
    following = running.next_attempt(numbers, height)
    if books.taking_part(following) and following.attempt < _attempts_max(books):
        books.put_running(following)
    else:
        _end(books, following, coupled=False)


def _attempts_max(books: HubIntervals) -> int:
    """Each region may be the cause of one, and so may be hub validators who have lost the session."""
    return len(books.parameters.regions) + _SPARE_ATTEMPTS


def _on_confirm(context: Context, content: bytes) -> None:
    books, given = HubIntervals(context), decode_confirmation(content)
    running = books.running
    if running is None or given.topic != running.topic or given.topic.step not in HUB_STEPS:
        expected = "no interval is under way" if running is None else f"the hub waits for {running.topic}"
        raise Rejected("unexpected", f"{given.topic}: {expected}")
    if given.message is not None:
        confirmations.check_first_proposal(context.records, given, context.signer)
        _check(books, running, decode_hub_message(given.message))
    message = confirmations.confirm(context, given)
    if message is None:
        return
    context.emit(INTERVAL_EVENT, confirmations.event_payload(given.topic, given.digest))
    _said(books, running, decode_hub_message(message), context.block.height)


def _check(books: HubIntervals, running: Running, said: HubMessage) -> None:
    """What the state machine can judge of a hub message: integers, names and numbers."""
    fits = isinstance(said, Agreed | Opened) == (running.waiting_for is Step.DECISION) or isinstance(said, Blamed)
    if not fits:
        raise Rejected("malformed", f"{type(said).__name__} is not what {running.topic} ends with")
    parameters = books.parameters
    named = said.regions if isinstance(said, Blamed) else said.objecting if isinstance(said, Opened) else ()
    held = books.held().keys() & set(running.excluded)
    known = {*books.taking_part(running), *(held if isinstance(said, Blamed) else ())}
    strangers = [number for number in named if number not in known]
    if strangers or (isinstance(said, Blamed) and not named):
        raise Rejected("malformed", f"{running.topic}: names regions {strangers or 'none'} that do not take part")
    if not isinstance(said, Agreed):
        return
    if tuple(item.name for item in said.regions) != parameters.regions:
        raise Rejected("malformed", "an agreement has one transfer for each region, in their order")
    items = (*said.regions, *said.owners)
    if abs(sum(item.amount for item in items)) > _ROUNDING_MAX * len(items):
        raise Rejected("unbalanced", "the transfers of an agreement sum to more than rounding leaves")
    for number, item in enumerate(said.regions):
        if (number not in running.excluded or number in held) and -item.amount > parameters.collateral:
            owed = f"{item.name} would owe {-item.amount}"
            raise Rejected("no_collateral", f"{owed}, {parameters.collateral} is set aside; go on without it")
    rules = Exchanges(books).rules
    if len(said.ties) != (0 if rules is None else len(rules.lines)):
        raise Rejected("malformed", "an agreement has one schedule for each tie-line of genesis, in their order")
    if rules is not None and most_due(rules, said.ties, parameters.duration_s) > AMOUNT_MAX:
        raise Rejected("malformed", "tie-lines carry so much, or are worth so much, that metered exchange leaves int64")
    _check_writable(books, running, said)


def _check_writable(books: HubIntervals, running: Running, agreed: Agreed) -> None:
    """Raise DecodeError for legs that no OPEN can hold: it is opened at the end of a block, which must not fail."""
    legs, nonce = _legs(books.parameters.asset, agreed), books.nonce(running.interval)
    seal(Open(books.escrow.chain_id, nonce, Kind.NETTING, running.since_height, legs))


def _said(books: HubIntervals, running: Running, said: HubMessage, height: int) -> None:
    if isinstance(said, Blamed):
        books.let_go(set(said.regions) & set(running.excluded))
        _try_without(books, running, said.regions, height)
    elif isinstance(said, Said):
        books.put_running(running.next(FOLLOWING[running.waiting_for], height))
    elif isinstance(said, Agreed):
        books.put_agreement(said)
        books.hold(books.taking_part(running))
        books.put_running(running.next(Step.SCHEDULE, height))
    elif running.round < books.parameters.round_limit:
        books.put_running(running.next_round(height))
    elif said.objecting:
        _try_without(books, running, said.objecting, height)
    else:
        _end(books, running, coupled=False)


def _settle(books: HubIntervals, running: Running, height: int) -> None:
    """All legs of the interval as one settlement; what regions without a schedule would pay is on their collateral.

    Where it cannot be opened now (too many are unclosed) the end of a later block tries again.
    """
    agreed, parameters = books.agreement, books.parameters
    assert agreed is not None, "schedules follow an agreement"
    silent = [parameters.regions[k] for k in range(len(parameters.regions)) if k not in books.slots()]
    legs = without(_legs(parameters.asset, agreed), silent)
    escrow = books.escrow
    if legs:
        try:
            escrow.apply(open_netting(escrow, books.nonce(running.interval), legs, height))
        except EscrowRefused:
            return
    hub_exchange.begin(books, running.interval, agreed.ties)
    _end(books, running, coupled=True, release=not legs)


def _legs(asset: str, agreed: Agreed) -> tuple[Leg, ...]:
    """One a region, one a link owner's account on the hub, and the remainder on its rounding account."""
    legs = [Leg(item.name, NEUTRAL, asset, item.amount) for item in agreed.regions if item.amount]
    legs += [Leg(HUB, b"owner/" + item.name.encode(), asset, item.amount) for item in agreed.owners if item.amount]
    remainder = -sum(leg.amount for leg in legs)
    if remainder:
        legs.append(Leg(HUB, ROUNDING, asset, remainder))
    return tuple(sorted(legs))


def _end(books: HubIntervals, running: Running, *, coupled: bool, release: bool = True) -> None:
    if release:
        books.escrow.apply(HubTransition(released=(books.nonce(running.interval),)))
    books.put_end(running)
    if not coupled:
        hub_exchange.release(books, running.interval)
        books.let_go(books.held())
    _age_session(books, coupled)
    payload = Writer().raw(running.interval.encode()).flag(coupled).raw(numbers_of(running.excluded)).encoded
    books.context.emit(END_EVENT, payload)


def _age_session(books: HubIntervals, coupled: bool) -> None:
    session = books.session
    goes_on = session is not None and coupled and session.age + 1 < books.parameters.session_intervals
    books.put_session(replace(session, age=session.age + 1) if session is not None and goes_on else None)


def _end_of_block(context: Context) -> None:
    books = HubIntervals(context)
    running, height = books.running, context.block.height
    hub_exchange.end_of_block(books, height)
    if running is None:
        return
    if running.waits_for_regions:
        _go_on(books, running, height)
    elif height - running.since_height >= books.parameters.step_blocks:
        books.let_go(running.excluded)
        _try_without(books, running, (), height)


INTERVAL_HUB = Module(
    name=NAME,
    handlers={MESSAGE: _on_message, CONFIRM_HUB: _on_confirm},
    end_of_block=_end_of_block,
    genesis=found,
)
"""The hub's part of an interval. Needs the escrow module of the hub."""
