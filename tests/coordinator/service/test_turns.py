"""Who submits what, and when."""

from __future__ import annotations

from coordinator.service.turns import Turns
from coordinator.settlement.escrow.missing import Item, Kind
from coordinator.settlement.escrow.types import SettlementId

RING = ("a", "b", "c", "d")
PATIENCE_S = 2.0


def opened(number: int) -> Item:
    return Item("north", False, Kind.OPENED, SettlementId(number, 0))


def turns_of(items: list[Item], now_s: float = 0.0) -> dict[str, Turns]:
    nodes = {name: Turns(name, PATIENCE_S) for name in (*RING, "other")}
    for turns in nodes.values():
        turns.update(items, RING, now_s)
    return nodes


def test_one_node_submits_first_and_each_other_one_patience_later() -> None:
    items = [opened(number) for number in range(200)]
    nodes = turns_of(items)
    for rank in range(len(RING)):
        due = [item for turns in nodes.values() for item in turns.due(rank * PATIENCE_S)]
        assert sorted(due, key=str) == sorted(items * (rank + 1), key=str)
    assert nodes["other"].due(len(RING) * PATIENCE_S) == items
    firsts = [len(nodes[name].due(0.0)) for name in RING]
    assert all(count > 20 for count in firsts), f"the first turns are not spread: {firsts}"


def test_what_was_submitted_comes_back_after_all_others_and_only_if_it_is_still_missing() -> None:
    item = opened(1)
    (first,) = [turns for turns in turns_of([item]).values() if turns.due(0.0)]
    first.submitted(item, 0.5)
    assert first.due(0.5 + 3.9 * PATIENCE_S) == []
    first.update([item], RING, 3.0)
    assert first.due(0.5 + 4 * PATIENCE_S) == [item]
    first.update([], RING, 3.0)
    first.submitted(item, 4.0)
    assert (first.due(100.0), first.next_s()) == ([], None)


def test_boundaries_of_a_chain_begin_with_one_node_in_order() -> None:
    items = [Item("north", True, Kind.BOUNDARY, epoch=epoch) for epoch in range(16)]
    assert [turns.due(0.0) for turns in turns_of(items).values() if turns.due(0.0)] == [items]
