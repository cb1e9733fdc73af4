"""The connection of this process to a Ray cluster, of its own on this machine or one that runs."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout

import ray

_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "RAY_DEDUP_LOGS": "0"}


def connect(address: str) -> None:
    """`local` starts a cluster that ends with `ray.shutdown`. Raises ConnectionError where there is none."""
    os.environ.update({name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()})
    ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)


def take_back_signals() -> None:
    """Ray puts handlers of its own below those of Python, which end the process with a trace of its stack."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.getsignal(number))


@contextmanager
def connected(address: str) -> Iterator[None]:
    """For as long as this lasts; a connection that this process has already is used, and stays."""
    if ray.is_initialized():
        yield
        return
    connect(address)
    take_back_signals()
    try:
        with what_ray_says_is_progress():
            yield
    finally:
        ray.shutdown()


def what_ray_says_is_progress() -> AbstractContextManager[object]:
    """Ray tells the driver on standard output what was killed; results stand there, and progress on standard error."""
    return redirect_stdout(sys.stderr)
