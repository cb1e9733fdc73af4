"""What clients may read of a chain: from connections of its own, so that nobody's questions hold consensus back."""

from __future__ import annotations

from typing import TypeVar

from coordinator.consensus.header import Header
from coordinator.consensus.signing import Signer
from coordinator.ledger.checkpoint import checkpoint_of, sign_note
from coordinator.ledger.history import prove_leaf
from coordinator.ledger.records import Account
from coordinator.ledger.registry import participant_of
from coordinator.ledger.store import Store
from coordinator.service.store_thread import StoreThread
from coordinator.service.transaction_index import TransactionIndex
from coordinator.service.writer import Writer
from protos.gridaccord.v1 import service_pb2 as pb

_T = TypeVar("_T")


class NotThere(LookupError):
    """What was asked for does not exist, or not yet."""


class Reader(StoreThread[TransactionIndex]):
    """Answers questions about what is durable here. Everything but `submit` and `close` runs in its thread."""

    def __init__(self, writer: Writer, name: str, signer: Signer) -> None:
        super().__init__(writer, "read", lambda store: TransactionIndex(store.path.with_name("index.sqlite")))
        self._name = name
        self._signer = signer

    def block(self, height: int, digest: bytes) -> pb.BlockReply:
        """A final block by height, or by digest. Raises NotThere."""
        store = self._now()
        if digest:
            header = store.header_of(digest)
            if header is None:
                raise NotThere(f"no final block {digest.hex()}")
            height = header.height
        block = store.block(height) if height <= store.state.header.height else None
        if block is None:
            raise NotThere(f"no final block of height {height}; the last is {store.state.header.height}")
        certificate = store.certificate(height)
        return pb.BlockReply(block=block.encode(), certificate=b"" if certificate is None else certificate.encode())

    def transaction(self, digest: bytes) -> pb.ReceiptProof:
        """What became of a transaction, with its proof. Raises NotThere."""
        store, found = self._now(), self._index.find(digest)
        if found is None or found[0] > store.state.header.height:
            raise NotThere(f"transaction {digest.hex()} is not final")
        height, place = found
        receipts = [receipt.encode() for receipt in store.receipts(height)]
        block = store.block(height)
        assert block is not None, "an indexed block is stored"
        return pb.ReceiptProof(
            finality=self._finality(store, block.header),
            receipt=receipts[place],
            inclusion=prove_leaf(receipts, place),
            receipts=len(receipts),
        )

    def participant(self, name: str) -> pb.ParticipantReply:
        """A participant's key and next sequence number. Raises NotThere."""
        state = self._now().state
        found = participant_of(state.view, name)
        if found is None:
            raise NotThere(f"{name!r} is not registered")
        return pb.ParticipantReply(
            public_key=found.public_key, next_sequence=found.next_sequence, height=state.header.height
        )

    def account(self, owner: str, asset: str) -> pb.StateEntryProof:
        """An account at the tip, or that there is none, with its proof."""
        store = self._now()
        state, key = store.state, Account.key(owner, asset)
        value = state.tree.get(key)
        return pb.StateEntryProof(
            finality=self._finality(store, state.header),
            key=key,
            value=value or b"",
            present=value is not None,
            proof=state.tree.prove(key).encode(),
        )

    def history(self, size: int, height: int, inclusion: bool) -> pb.HistoryReply:
        """That a history is a prefix of this one, or that a block stands in it. Raises NotThere."""
        tree = self._now().history
        if inclusion and height < tree.size:
            proof = tree.prove_inclusion(height, tree.size)
        elif not inclusion and 0 < size <= tree.size:
            proof = tree.prove_consistency(size, tree.size)
        else:
            raise NotThere(f"the history has {tree.size} headers, genesis among them")
        return pb.HistoryReply(size=tree.size, root=tree.root, proof=proof)

    def checkpoint(self) -> pb.CheckpointReply:
        """The history's head, signed by this validator."""
        return pb.CheckpointReply(note=sign_note(checkpoint_of(self._now()).text, self._name, self._signer))

    def _finality(self, store: Store, header: Header) -> pb.FinalityProof:
        height = store.certified_from(header.height)
        if height is None or header.height == 0:
            raise NotThere("nothing is final yet; genesis needs no proof")
        certified, certificate = store.block(height), store.certificate(height)
        assert certified is not None
        assert certificate is not None
        direct = height == header.height
        return pb.FinalityProof(
            boundaries=[one.encode() for one in store.boundaries() if one.header.epoch < certified.header.epoch],
            certificate=certificate.encode(),
            certified=certified.header.encode(),
            history=() if direct else store.history.prove_inclusion(header.height, height),
            header=header.encode(),
        )
