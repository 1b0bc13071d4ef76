"""Writes all that is kept of a person into a file."""

import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

from headrace.engine.model import Doc
from headrace.engine.store.encoding import encode_doc

EVERY = 500
"""After so many documents it is said how far it is."""


async def write_export(
    docs: AsyncIterator[Doc], output: Path | None, tell: Callable[[Counter[str]], None]
) -> Counter[str]:
    """Write documents as lines of JSON, to standard output without a file; returns how many there were of each kind.

    Nothing is made when there are none. A file that is there is replaced, and only its owner may read it. Raises
    OSError.
    """
    counts: Counter[str] = Counter()
    first = await anext(docs, None)
    if first is None:
        return counts
    with _opened(output) as file:
        file.write(encode_doc(first) + b"\n")
        counts[first["kind"]] += 1
        async for doc in docs:
            file.write(encode_doc(doc) + b"\n")
            counts[doc["kind"]] += 1
            if counts.total() % EVERY == 0:
                tell(counts)
    return counts


def _opened(output: Path | None) -> AbstractContextManager[BinaryIO]:
    if output is None:
        return nullcontext(sys.stdout.buffer)
    output.unlink(missing_ok=True)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return os.fdopen(descriptor, "wb")


def counted(counts: Counter[str] | dict[str, int]) -> str:
    """Return how many there are of each kind, in words."""
    return ", ".join(f"{number:,} {kind}" for kind, number in counts.items() if number) or "nothing"
