"""Calls of actors that may be killed: Ray starts them again empty, and whoever calls tells them what they are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ray.exceptions import RayActorError, RayTaskError

_PAUSE_S = 0.5
_T = TypeVar("_T")


class Forgot(RuntimeError):
    """The process of an actor was started again: it does not know what it is."""


async def persistently(call: Callable[[], Awaitable[_T]], begin: Callable[[], Awaitable[None]]) -> _T:
    """What an actor answers or raises, however often it is killed meanwhile. `begin` tells it what it is."""
    while True:
        try:
            try:
                return await call()
            except Forgot:
                await begin()
        except RayActorError:
            await asyncio.sleep(_PAUSE_S)
        except RayTaskError as error:
            raise error.cause from None
