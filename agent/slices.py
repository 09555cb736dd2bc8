"""Work that takes long, on the loop, without keeping it from others."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from time import perf_counter
from typing import TypeVar

Result = TypeVar("Result")

SLICE = 0.003  # seconds that the loop is held at once
_REST = 0.001  # seconds that others have it then


async def run(steps: Generator[None, None, Result]) -> Result:
    """All steps of a generator, some at a time; gives what it returns."""
    while True:
        until = perf_counter() + SLICE
        try:
            while perf_counter() < until:
                next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
        await asyncio.sleep(_REST)


async def drop(steps: Iterator[None]) -> None:
    """All steps of an iterator, for what they do."""
    until = perf_counter() + SLICE
    for _ in steps:
        if perf_counter() > until:
            await asyncio.sleep(_REST)
            until = perf_counter() + SLICE
