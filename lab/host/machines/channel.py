"""The host's end of the agent's channel. The guest is untrusted: bounded in size, parsed strictly, matched by id."""

from __future__ import annotations

import asyncio
import json
import math
import secrets
from collections.abc import Mapping
from typing import Any

from lab.core.errors import GuestLost
from lab.host.machines.machine import AgentError, OnEvent

MAX_LINE_BYTES = 8 * 1024 * 1024
MAX_REPLY_BYTES = 128 * 1024 * 1024
MAX_DEPTH = 16  # a load's result has 7


class AgentChannel:
    """Requests out, events and one answer back, as JSON lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """`reader` must have been made with the limit MAX_LINE_BYTES."""
        self._reader = reader
        self._writer = writer

    async def call(
        self, operation: str, *, deadline_seconds: float, on_event: OnEvent | None = None, **arguments: Any
    ) -> Mapping[str, Any]:
        """The result of one operation; raises GuestLost for silence or garbage, AgentError for a failed operation."""
        request_id = secrets.token_hex(8)
        request = {"id": request_id, "op": operation, **arguments}
        try:
            async with asyncio.timeout(deadline_seconds):
                self._writer.write(json.dumps(request).encode("ascii") + b"\n")
                await self._writer.drain()
                return await self._answer(operation, request_id, on_event)
        except TimeoutError:
            raise GuestLost(f"no end of `{operation}` within {deadline_seconds:g} s") from None
        except (ConnectionError, BrokenPipeError) as error:
            raise GuestLost(f"the channel broke during `{operation}`: {error}") from None

    def close(self) -> None:
        """Close the host's end."""
        self._writer.close()

    async def _answer(self, operation: str, request_id: str, on_event: OnEvent | None) -> Mapping[str, Any]:
        received = 0
        while True:
            line = await self._line(operation)
            received += len(line)
            if received > MAX_REPLY_BYTES:
                raise GuestLost(f"`{operation}` sent more than {MAX_REPLY_BYTES} bytes")
            message = parse_message(line, request_id)
            if "event" in message:
                if on_event is not None:
                    on_event(message)
            elif message.get("ok") is True and isinstance(message.get("result"), dict):
                return message["result"]  # type: ignore[no-any-return]
            else:
                raise AgentError(f"`{operation}` failed in the guest: {str(message.get('error'))[:500]}")

    async def _line(self, operation: str) -> bytes:
        try:
            line = await self._reader.readline()
        except ValueError:
            raise GuestLost(f"`{operation}` sent a line of more than {MAX_LINE_BYTES} bytes") from None
        if not line.endswith(b"\n"):
            raise GuestLost(f"the machine went away during `{operation}`")
        return line


def parse_message(line: bytes, request_id: str) -> dict[str, Any]:
    """One message of the agent, for the request `request_id`; raises GuestLost for anything else."""
    try:
        message = json.loads(line.decode("ascii"))
        _check_storable(message)
    except (ValueError, RecursionError):
        raise GuestLost(f"garbage on the channel: {line[:80]!r}") from None
    if not isinstance(message, dict):
        raise GuestLost(f"garbage on the channel: {line[:80]!r}")
    if message.get("id") != request_id:
        raise GuestLost(f"a message on the channel belongs to no request of this cell: id {message.get('id')!r:.80}")
    return message


def _check_storable(value: object, depth: int = 0) -> None:
    """Raise ValueError for what the result's files cannot hold: endless nesting, half a character, NaN, infinity."""
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        value.encode("utf-8")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no JSON")
    elif isinstance(value, dict):
        for name, item in value.items():
            _check_storable(name, depth)
            _check_storable(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_storable(item, depth + 1)
