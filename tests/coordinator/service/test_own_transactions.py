"""Transactions that a node signs itself: all are carried out, once and in order, whatever gets between."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from coordinator.ledger.errors import TransactionRefused
from coordinator.ledger.records import Account
from coordinator.ledger.registry import participant_of
from coordinator.ledger.transaction import Transaction, decode_transaction, sign_transaction
from coordinator.service.host import ChainHost
from coordinator.service.own_transactions import OwnTransactions
from protos.gridaccord.v1 import ledger_pb2 as pb
from tests.coordinator.service.lone_chain import PARTICIPANT, PARTICIPANT_SIGNER, SIGNER, VALIDATOR, running


def transfer(amount: int) -> bytes:
    return pb.Transfer(to=PARTICIPANT, asset="EUR", amount=amount).SerializeToString()


def received(host: ChainHost) -> int:
    data = host.told.tree.get(Account.key(PARTICIPANT, "EUR"))
    return 0 if data is None else Account.decode(data).balance


def used(host: ChainHost) -> int:
    participant = participant_of(host.told.view, VALIDATOR)
    assert participant is not None
    return participant.next_sequence


def test_many_at_once_are_final_in_order(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as host:
            own = OwnTransactions(host, SIGNER, VALIDATOR)
            outcomes = await asyncio.gather(*(own.submit("transfer", transfer(2**n)) for n in range(20)))
            places = [(outcome.height, outcome.receipt.place) for outcome in outcomes]
            assert places == sorted(places)
            assert {outcome.receipt.code for outcome in outcomes} == {""}
            assert received(host) == 2**20 - 1
            assert used(host) == 20

    asyncio.run(scenario())


def test_one_that_cannot_be_carried_out_is_told_and_not_tried_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as host:
            outcome = await OwnTransactions(host, SIGNER, VALIDATOR).submit("transfer", transfer(10**12))
            assert outcome.receipt.code
            assert used(host) == 1

    asyncio.run(scenario())


class Overtaken(ChainHost):
    """Another transaction of the same signer takes the first sequence number, as one in a peer's queue can."""

    overtaken = False

    def submit(self, encoded: bytes) -> bytes:
        signed = decode_transaction(encoded)
        if self.overtaken:
            return super().submit(encoded)
        self.overtaken = True
        other = Transaction(VALIDATOR, signed.transaction.sequence, 10**6, "transfer", transfer(500))
        super().submit(sign_transaction(SIGNER, self.genesis.chain_id, other).encoded)
        return signed.digest(self.genesis.chain_id)


def test_one_whose_sequence_number_is_used_by_another_is_signed_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, Overtaken) as host:
            outcome = await OwnTransactions(host, SIGNER, VALIDATOR).submit("transfer", transfer(7))
            assert outcome.receipt.code == ""
            assert received(host) == 507
            assert used(host) == 2

    asyncio.run(scenario())


class Forgetful(ChainHost):
    """Loses the first transaction."""

    lost = False

    def submit(self, encoded: bytes) -> bytes:
        if self.lost:
            return super().submit(encoded)
        self.lost = True
        return decode_transaction(encoded).digest(self.genesis.chain_id)


def test_one_that_no_block_carried_while_it_was_valid_is_signed_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, Forgetful) as host:
            outcome = await OwnTransactions(host, SIGNER, VALIDATOR).submit("transfer", transfer(7))
            assert outcome.height > 256
            assert received(host) == 7

    asyncio.run(scenario())


def test_a_key_that_is_not_the_participants_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as host:
            with pytest.raises(TransactionRefused, match="signature"):
                await OwnTransactions(host, PARTICIPANT_SIGNER, VALIDATOR).submit("transfer", transfer(1))
            with pytest.raises(TransactionRefused, match="not registered"):
                await OwnTransactions(host, SIGNER, "nobody").submit("transfer", transfer(1))

    asyncio.run(scenario())
