"""Waiting for the first of several events, and the first error of several tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence


async def first_of(events: Sequence[asyncio.Event], timeout_s: float | None) -> None:
    """Until one of the events is set, or so long has passed."""
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def first_error(error: BaseException) -> BaseException:
    """What is inside of groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
