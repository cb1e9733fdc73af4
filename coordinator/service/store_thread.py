"""A chain's durable ledger to read from, in a thread of its own, with an index in a file beside it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from coordinator.ledger.database import open_database
from coordinator.ledger.store import Store
from coordinator.service.final_chain import Ledger


class Index(Protocol):
    """What is kept beside the ledger."""

    def close(self) -> None:
        """Release the file."""


_T = TypeVar("_T")
_Index = TypeVar("_Index", bound=Index)


class StoreThread(Generic[_Index]):
    """Everything but `submit` and `close` runs in the thread."""

    _store: Store
    _index: _Index

    def __init__(self, ledger: Ledger, name: str, make_index: Callable[[Store], _Index]) -> None:
        self._ledger = ledger
        self._make_index = make_index
        self._thread = ThreadPoolExecutor(1, name)

    def submit(self, call: Callable[..., _T], *arguments: object) -> Future[_T]:
        """Run a method in the thread."""
        return self._thread.submit(call, *arguments)

    def open(self) -> None:
        """Raises StoreError."""
        kept = self._ledger.store
        self._store = Store(kept.path, open_database(kept.path, read_only=True), kept.genesis, kept.state)
        self._index = self._make_index(self._store)

    def close(self) -> None:
        """Release the files."""
        self._thread.submit(self._close).result()
        self._thread.shutdown()

    def _close(self) -> None:
        for part in ("_store", "_index"):
            if hasattr(self, part):
                getattr(self, part).close()

    def _now(self) -> Store:
        """The ledger as it is durable now."""
        self._store.state = self._ledger.store.state
        return self._store
