"""Blocking work off the loop, and cleaning up that an interrupt does not stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[threading.Event], T]) -> T:
    """What blocking work gives that watches an event, set when this is cancelled; waits for its end in either case."""
    cancelled = threading.Event()
    task = asyncio.ensure_future(asyncio.to_thread(work, cancelled))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # that it was interrupted is no news
        raise


async def uncancelled(work: Coroutine[Any, Any, T]) -> T:
    """What cleaning up gives, finished also while the lab is being interrupted; CancelledError comes afterwards."""
    task = asyncio.ensure_future(work)
    interrupted = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
            interrupted = True
        except Exception:  # raised below, from the task
            break
    result = task.result()
    if interrupted:
        raise asyncio.CancelledError
    return result
