"""What the parts of an interval cost alone, in one process: what the seconds of a run are compared with.

Times but for Ray's are CPU times of one thread, so that other work on the machine does not count.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import ray

from actors.cases import run_intervals
from actors.study import Settings, Study
from coordinator.consensus.signing import Ed25519Scheme, Ed25519Signer
from coordinator.ledger.readings import Column, MeterBatch, check_signature, decode_batch, sign_column
from topology.case_files import read_case

_COLUMNS = 2_000
_REPEATS = 3
_CALLS = 100
_TRANSFERS = 5
_CHAIN = bytes(32)
_START_S, _DURATION_S = 1_580_083_200, 3_600
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Parts:
    """CPU microseconds a column of one reading but where a name says otherwise.

    `verify_us` is the signature check of the ledger with what it takes to read the bytes that were signed, `raw_per_s`
    the verifications a second without any of it; `take_in_us` decodes a batch and derives its salted root, which a
    gateway and every validator do. `coupling_ms`: the median interval in memory, all regions one after the other.
    """

    raw_per_s: float
    sign_us: float
    verify_us: float
    take_in_us: float
    coupling_ms: float


@dataclass(frozen=True, slots=True)
class RayParts:
    """Wall times: an empty call of an actor, and a batch of so many bytes from an actor to whoever asks."""

    call_us: float
    batch_ms: float
    batch_bytes: int


def measure_parts(case: Path, regions: str, intervals: int) -> Parts:
    """The same intervals of the same case, without flexible loads. Raises what coupling raises."""
    signer = Ed25519Signer(hashlib.sha256(b"benchmark").digest())
    columns = [_column(number) for number in range(_COLUMNS)]
    signed, sign_s = _cpu(lambda: tuple(sign_column(signer, _CHAIN, column) for column in columns), _REPEATS)
    encoded = MeterBatch(bytes(16), signed).encode()
    batch, take_in_s = _cpu(lambda: _taken_in(encoded), _REPEATS)
    _, verify_s = _cpu(lambda: _checked(batch, signer.public_key), _REPEATS)
    each = 1e6 / _COLUMNS
    return Parts(
        raw_per_s=_raw_per_s(signer),
        sign_us=sign_s * each,
        verify_us=verify_s * each,
        take_in_us=take_in_s * each,
        coupling_ms=_coupling_s(case, regions, intervals) * 1e3,
    )


def measure_ray(actor: Any, batch_bytes: int) -> RayParts:
    """By an actor that is idle."""
    ray.get(actor.__ray_call__.remote(_nothing))
    call_s = _wall(lambda: ray.get(actor.__ray_call__.remote(_nothing)), _CALLS)
    batch_s = _wall(lambda: ray.get(actor.__ray_call__.remote(_some_bytes, batch_bytes)), _TRANSFERS)
    return RayParts(call_s * 1e6, batch_s * 1e3, batch_bytes)


def encoded_bytes(columns: int) -> int:
    """Length of a batch of so many columns of one reading."""
    signed = sign_column(Ed25519Signer(bytes(32)), _CHAIN, _column(0))
    return columns * len(MeterBatch(bytes(16), (signed,)).encode())


def _column(number: int) -> Column:
    clock_ms = (_START_S + _DURATION_S) * 1000
    return Column(f"load-101.withdrawn.{number:05}", _START_S, _DURATION_S, 0, (clock_ms,), (number,))


def _taken_in(encoded: bytes) -> MeterBatch:
    batch = decode_batch(encoded)
    assert batch.commitment.size == _COLUMNS
    return batch


def _checked(batch: MeterBatch, key: bytes) -> None:
    scheme = Ed25519Scheme()
    for one in batch.columns:
        check_signature(one, key, _CHAIN, scheme)


def _raw_per_s(signer: Ed25519Signer) -> float:
    message, scheme, key = bytes(200), Ed25519Scheme(), signer.public_key
    signature = signer.sign(message)
    valid, seconds = _cpu(lambda: sum(scheme.verify(key, message, signature) for _ in range(_COLUMNS)), _REPEATS)
    return valid / seconds


def _coupling_s(case: Path, regions: str, intervals: int) -> float:
    known = read_case(case)
    study = Study(known, Settings(regions=regions))
    markets = run_intervals(known, str(case), None)[:intervals]
    return statistics.median(_cpu(partial(study.couple, market))[1] for market in markets)


def _cpu(call: Callable[[], _T], repeats: int = 1) -> tuple[_T, float]:
    """The result, and the least CPU time that it took: what disturbs only adds."""
    seconds = []
    for _ in range(repeats):
        started = time.thread_time()
        result = call()
        seconds.append(time.thread_time() - started)
    return result, min(seconds)


def _wall(call: Callable[[], object], repeats: int) -> float:
    """The median."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _nothing(actor: object) -> None:
    """An empty call."""


def _some_bytes(actor: object, size: int) -> bytes:
    return bytes(size)
