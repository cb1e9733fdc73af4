"""Who submits what, and when."""

from __future__ import annotations

from coordinator.service.turns import PATIENCE_BLOCKS, Moment, Turns
from coordinator.settlement.escrow.missing import Item, Kind
from coordinator.settlement.escrow.types import SettlementId

RING = ("a", "b", "c", "d")
PATIENCE_S = 2.0
START = Moment(0.0, hub_height=500, region_height=10)


def opened(number: int) -> Item:
    return Item("north", False, Kind.OPENED, SettlementId(number, 0))


def moment(at_s: float, blocks: int) -> Moment:
    return Moment(at_s, START.hub_height, START.region_height + blocks)


def after(turns: float, start: Moment = START) -> Moment:
    """So many turns after another moment, both in time and in blocks of the region."""
    blocks = int(turns * PATIENCE_BLOCKS)
    return Moment(start.at_s + turns * PATIENCE_S, start.hub_height, start.region_height + blocks)


def turns_of(items: list[Item]) -> dict[str, Turns]:
    nodes = {name: Turns(name, PATIENCE_S) for name in (*RING, "other")}
    for turns in nodes.values():
        turns.update(items, RING, after(0))
    return nodes


def test_one_node_submits_first_and_each_other_one_patience_later() -> None:
    items = [opened(number) for number in range(200)]
    nodes = turns_of(items)
    for rank in range(len(RING)):
        due = [item for turns in nodes.values() for item in turns.due(after(rank))]
        assert sorted(due, key=str) == sorted(items * (rank + 1), key=str)
    assert nodes["other"].due(after(len(RING))) == items
    firsts = [len(nodes[name].due(after(0))) for name in RING]
    assert all(count > 20 for count in firsts), f"the first turns are not spread: {firsts}"


def test_looking_again_does_not_make_anybody_wait_longer() -> None:
    nodes = turns_of([opened(1)])
    for turns in nodes.values():
        turns.update([opened(1)], RING, after(0.75))
    assert sum(bool(turns.due(after(1))) for turns in nodes.values()) == 2


def test_nobody_takes_over_before_the_target_has_made_blocks_or_before_the_time() -> None:
    nodes = turns_of([opened(1)])
    assert sum(bool(turns.due(moment(1000.0, PATIENCE_BLOCKS - 1))) for turns in nodes.values()) == 1
    assert sum(bool(turns.due(moment(PATIENCE_S - 0.1, 1000))) for turns in nodes.values()) == 1
    assert sum(bool(turns.due(moment(PATIENCE_S, PATIENCE_BLOCKS))) for turns in nodes.values()) == 2
    waits = [turns.next_s(after(0)) for turns in nodes.values()]
    assert sorted(waits, key=str) == [0.0, None, None, None, None]


def test_what_was_submitted_comes_back_after_all_others_and_only_if_it_is_still_missing() -> None:
    item = opened(1)
    (first,) = [turns for turns in turns_of([item]).values() if turns.due(after(0))]
    start = after(0.25)
    first.submitted(item, start)
    assert first.due(after(3.9, start)) == []
    first.update([item], RING, after(2, start))
    assert first.due(after(3, start)) == [], "that it is still missing is no reason to begin anew"
    assert first.due(after(4, start)) == [item]
    first.update([], RING, after(4, start))
    first.submitted(item, after(4, start))
    assert (first.due(after(100)), first.next_s(after(100))) == ([], None)


def test_who_has_no_seat_on_the_hub_takes_turns_towards_the_region_and_comes_last_towards_the_hub() -> None:
    seated, others = RING[:1], RING[1:]
    up = [Item("north", True, Kind.APPLIED, SettlementId(number, 0)) for number in range(100)]
    down = [opened(number) for number in range(100)]
    nodes = {name: Turns(name, PATIENCE_S) for name in RING}
    for turns in nodes.values():
        turns.update([*up, *down], seated, after(0), others)

    def due(name: str, rank: int) -> list[Item]:
        blocks = rank * PATIENCE_BLOCKS
        return nodes[name].due(Moment(rank * PATIENCE_S, START.hub_height + blocks, START.region_height + blocks))

    assert [item for item in due("a", 0) if item.to_hub] == up
    assert not [item for name in others for item in due(name, 0) if item.to_hub]
    for rank in range(1, len(RING)):
        found = [item for name in others for item in due(name, rank) if item.to_hub]
        assert sorted(found, key=str) == sorted(up * rank, key=str)
    for rank in range(len(RING)):
        found = [item for name in RING for item in due(name, rank) if not item.to_hub]
        assert sorted(found, key=str) == sorted(down * (rank + 1), key=str)


def test_boundaries_of_a_chain_begin_with_one_node_in_order() -> None:
    items = [Item("north", True, Kind.BOUNDARY, epoch=epoch) for epoch in range(16)]
    assert [turns.due(after(0)) for turns in turns_of(items).values() if turns.due(after(0))] == [items]
