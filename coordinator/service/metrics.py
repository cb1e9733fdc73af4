"""Metrics for Prometheus, and the percentiles that `status` shows."""

from __future__ import annotations

from collections import deque

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from protos.gridaccord.v1 import service_pb2 as pb

_SAMPLES = 4096
_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class NodeMetrics:
    """One registry a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        chain, peer = ["chain"], ["peer"]
        self.height = Gauge("gridaccord_height", "Last final block", chain, registry=self.registry)
        self.view = Gauge("gridaccord_view", "View of consensus", chain, registry=self.registry)
        self.epoch = Gauge("gridaccord_epoch", "Epoch of consensus", chain, registry=self.registry)
        self.healthy = Gauge("gridaccord_healthy", "1 while the chain finalizes", chain, registry=self.registry)
        self.transactions = Counter("gridaccord_transactions", "Final", chain, registry=self.registry)
        self.refused = Counter("gridaccord_transactions_refused", "Not admitted", chain, registry=self.registry)
        self.faults = Counter("gridaccord_peer_faults", "Faults of validators", chain, registry=self.registry)
        self.sources = Gauge(
            "gridaccord_sources", "Nodes that a followed chain is read from", chain, registry=self.registry
        )
        self.waiting = Gauge("gridaccord_transactions_waiting", "In the queue", chain, registry=self.registry)
        self.finality = Histogram(
            "gridaccord_finality_seconds",
            "Own blocks, from building to final",
            chain,
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.sync = Histogram(
            "gridaccord_sync_seconds", "Durable writes", chain, buckets=_BUCKETS, registry=self.registry
        )
        self.connected = Gauge("gridaccord_peer_connected", "1 while connected", peer, registry=self.registry)
        self.queued = Gauge("gridaccord_peer_queued", "Messages that wait to be sent", peer, registry=self.registry)
        self.dropped = Gauge("gridaccord_peer_dropped", "Messages given up", peer, registry=self.registry)
        self.refusals = Counter("gridaccord_refusals", "Calls and peers refused", ["why"], registry=self.registry)
        self.settlements = Gauge(
            "gridaccord_settlements", "By state, until they are closed", ["chain", "state"], registry=self.registry
        )
        self.attempt = Gauge(
            "gridaccord_interval_attempt", "Of the coupling under way, from 1; 0 between", chain, registry=self.registry
        )
        self.round = Gauge("gridaccord_interval_round", "Of the coupling under way", chain, registry=self.registry)
        self.absent = Gauge("gridaccord_regions_absent", "Gone on without", chain, registry=self.registry)
        self.in_doubt = Gauge("gridaccord_escrows_in_doubt", "Wait for the hub", chain, registry=self.registry)

    def settled(self, chain: str, status: pb.ChainStatus) -> None:
        """The settlements of a chain as they are now."""
        for item in status.settlements:
            self.settlements.labels(chain, item.state).set(item.count)
        self.in_doubt.labels(chain).set(status.in_doubt_total)

    def coupling(self, chain: str, attempt: int, number: int, absent: int) -> None:
        """Where the hub stands with the interval under way."""
        self.attempt.labels(chain).set(attempt)
        self.round.labels(chain).set(number)
        self.absent.labels(chain).set(absent)


class ChainMetrics:
    """Those of one chain."""

    def __init__(self, node: NodeMetrics, chain: str) -> None:
        self.node = node
        self.refused_transactions = node.refused.labels(chain)
        self.peer_faults = node.faults.labels(chain)
        self.transactions = 0
        self._transactions = node.transactions.labels(chain)
        self._height = node.height.labels(chain)
        self._finality = node.finality.labels(chain)
        self._sync = node.sync.labels(chain)
        self.finality_samples: deque[float] = deque(maxlen=_SAMPLES)
        self.sync_samples: deque[float] = deque(maxlen=_SAMPLES)

    def synced(self, seconds: float) -> None:
        """A batch became durable."""
        self._sync.observe(seconds)
        self.sync_samples.append(seconds)

    def finalized_own(self, seconds: float) -> None:
        """A block of this node became final so long after it began to build it."""
        self._finality.observe(seconds)
        self.finality_samples.append(seconds)

    def finalized(self, height: int, transactions: int) -> None:
        """A block is final and durable."""
        self._height.set(height)
        self._transactions.inc(transactions)
        self.transactions += transactions


def percentile(samples: deque[float], share: float) -> float:
    """Of what has been sampled, 0 if nothing has."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
