"""What of a queue is work: transactions that the next block could carry."""

from __future__ import annotations

from coordinator.service.mempool import Mempool
from tests.coordinator.ledger.support import Chain


def test_what_stands_behind_a_gap_is_no_work_until_the_gap_is_filled() -> None:
    chain = Chain()
    queue = Mempool(chain.chain_id, chain.scheme)
    first, second, third = (chain.pay("alice", "bob", 1, ahead=place) for place in range(3))
    queue.add(chain.state, third)
    assert not queue.is_waiting(chain.state)
    queue.add(chain.state, first)
    assert queue.is_waiting(chain.state)
    queue.in_block([first.digest(chain.chain_id)], 1)
    assert not queue.is_waiting(chain.state)
    queue.add(chain.state, second)
    assert queue.is_waiting(chain.state)
    queue.in_block([second.digest(chain.chain_id)], 2)
    assert queue.is_waiting(chain.state), "the third follows the second"


def test_what_is_held_holds_up_what_follows_it() -> None:
    chain = Chain()
    queue = Mempool(chain.chain_id, chain.scheme)
    first, second = (chain.pay("alice", "bob", 1, ahead=place) for place in range(2))
    for signed in (first, second):
        queue.add(chain.state, signed)
    queue.hold(first.digest(chain.chain_id))
    assert not queue.is_waiting(chain.state)
    queue.release([first.digest(chain.chain_id)])
    assert queue.is_waiting(chain.state)
