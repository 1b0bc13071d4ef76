"""Bodies of answers, unpacked within bounds."""

import zlib
from collections.abc import AsyncIterable

from headrace.engine.errors import CallError

PACKED = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""The encodings that are asked for, and what zlib calls them."""


async def read_bounded(chunks: AsyncIterable[bytes], encoding: str, limit: int) -> bytes:
    """Return a body as it was before it was packed. Raises CallError when it is too large, or not what it says.

    No more than `limit` bytes and a chunk are ever held, whatever a small answer unpacks to.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return await _read(chunks, limit)
    if encoding not in PACKED:
        raise CallError(f"the answer is encoded as {encoding[:40]!r}, which was not asked for")
    inflate = _Inflate(encoding, limit)
    async for chunk in chunks:
        inflate.feed(chunk)
    return inflate.end()


async def _read(chunks: AsyncIterable[bytes], limit: int) -> bytes:
    found = bytearray()
    async for chunk in chunks:
        if len(found) + len(chunk) > limit:
            raise _too_large(limit)
        found += chunk
    return bytes(found)


class _Inflate:
    """Unpacks a stream, at most `limit` bytes of it."""

    def __init__(self, encoding: str, limit: int) -> None:
        self._limit = limit
        self._encoding = encoding
        self._stream = zlib.decompressobj(PACKED[encoding])
        self._found = bytearray()
        self._taken = 0

    def feed(self, chunk: bytes) -> None:
        if not self._taken and self._encoding == "deflate" and chunk and not _has_zlib_header(chunk):
            # Some say deflate and mean it: without the header that the standard wants.
            self._stream = zlib.decompressobj(-15)
        self._taken += len(chunk)
        if self._taken > self._limit:
            raise _too_large(self._limit)
        try:
            self._found += self._stream.decompress(chunk, self._limit - len(self._found) + 1)
        except zlib.error:
            raise CallError("the answer is broken: it cannot be unpacked") from None
        if len(self._found) > self._limit:
            raise _too_large(self._limit)
        if self._stream.unused_data:
            raise CallError("the answer is broken: something follows its end")

    def end(self) -> bytes:
        if self._taken and not self._stream.eof:
            raise CallError("the answer is broken: its end is missing")
        return bytes(self._found)


def _has_zlib_header(chunk: bytes) -> bool:
    return chunk[0] & 0x0F == 8 and (len(chunk) < 2 or (chunk[0] << 8 | chunk[1]) % 31 == 0)


def _too_large(limit: int) -> CallError:
    return CallError(f"the answer is larger than {limit:,} bytes")
