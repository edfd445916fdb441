"""Where an archive's bytes come from: a descriptor, plain or compressed, told apart by its first
bytes.

Decompression runs in a thread of its own (the C libraries release the interpreter's lock), so that
on two cores it costs no time of its own. The descriptor is read in order with read(2): whoever
shares its file description sees the progress as its offset.
"""

from __future__ import annotations

import os
import queue
import threading

from sublet.errors import ArchiveError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK = 1 << 20
AHEAD = 8  # chunks that may wait between decompressor and consumer

MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
)


class Stream:
    """A forward-only reader over chunks of bytes. ``position``: bytes passed so far."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = memoryview(b"")
        self.position = 0

    def _some(self, count: int) -> memoryview:
        """Return 1 to *count* bytes, none at the end."""
        if not self._chunk:
            self._chunk = memoryview(next(self._chunks, b""))
        part = self._chunk[:count]
        self._chunk = self._chunk[count:]
        self.position += len(part)
        return part

    def read(self, count: int) -> bytes:
        """Return exactly *count* bytes, fewer only at the end of the stream."""
        part = self._some(count)
        if len(part) == count:
            return bytes(part)
        parts = [part]
        missing = count - len(part)
        while missing and (part := self._some(missing)):
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def skip(self, count: int) -> bool:
        """Pass over *count* bytes; False where the stream ends before."""
        while count and (part := self._some(count)):
            count -= len(part)
        return not count

    def copy(self, descriptor: int, count: int) -> bool:
        """Write the next *count* bytes to *descriptor*; False where the stream ends before."""
        while count and (part := self._some(count)):
            count -= len(part)
            while part:
                part = part[os.write(descriptor, part) :]
        return not count


def open_stream(descriptor: int) -> Stream:
    """Return the archive's uncompressed bytes. The descriptor is read from its present offset on.

    Raises ArchiveError for a compression that this Python has no module for.
    """
    start = os.read(descriptor, CHUNK)
    for magic, name in MAGIC:
        if start.startswith(magic):
            return Stream(_in_thread(_decompressed(name, start, descriptor)))
    return Stream(_raw(start, descriptor))


def _raw(start: bytes, descriptor: int) -> Iterator[bytes]:
    while start:
        yield start
        start = os.read(descriptor, CHUNK)


def _decompressor(name: str) -> Callable[[], object]:
    if name == "gzip":
        import zlib

        return lambda: zlib.decompressobj(wbits=31)
    if name == "xz":
        import lzma

        return lzma.LZMADecompressor
    if name == "bzip2":
        import bz2

        return bz2.BZ2Decompressor
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        try:
            import zstandard
        except ImportError:
            raise ArchiveError(
                "the archive is compressed with zstd, and this Python has no module for it",
                hint="Install the package zstandard for this Python, or unpack with: zstd -d FILE",
            ) from None
        return lambda: zstandard.ZstdDecompressor().decompressobj()
    return zstd.ZstdDecompressor  # type: ignore[no-any-return,unused-ignore]


def _decompressed(name: str, start: bytes, descriptor: int) -> Iterator[bytes]:
    """Decompress stream after stream (all four formats may be concatenated)."""
    make = _decompressor(name)
    machine = make()
    fresh = True
    for raw in _raw(start, descriptor):
        data = raw
        while data:
            try:
                out = _step(machine, data)
            except Exception as error:  # each library has its own class
                raise ArchiveError(f"the {name} data is damaged: {error}") from error
            fresh = False
            if out:
                yield out
            yield from _pending(machine)
            if not machine.eof:  # type: ignore[attr-defined]
                break
            data = machine.unused_data  # type: ignore[attr-defined]
            machine, fresh = make(), True
            if not data.strip(b"\0"):  # padding after the last stream
                break
    if not fresh:
        raise ArchiveError(f"the {name} data ends in the middle: the archive is truncated")


def _step(machine: object, data: bytes) -> bytes:
    """Feed the decompressor, asking for at most a few chunks at once where it can be told (bombs)."""
    try:
        return machine.decompress(data, 4 * CHUNK)  # type: ignore[attr-defined,no-any-return]
    except TypeError:  # zstandard's takes no limit, and gives one frame's block at a time
        return machine.decompress(data)  # type: ignore[attr-defined,no-any-return]


def _pending(machine: object) -> Iterator[bytes]:
    """Yield what a limited step left over: zlib returns its input, lzma and bz2 keep it."""
    while (tail := getattr(machine, "unconsumed_tail", b"")) and not machine.eof:  # type: ignore[attr-defined]
        yield machine.decompress(tail, 4 * CHUNK)  # type: ignore[attr-defined]
    while not getattr(machine, "needs_input", True) and not machine.eof:  # type: ignore[attr-defined]
        yield machine.decompress(b"", 4 * CHUNK)  # type: ignore[attr-defined]


def _in_thread(chunks: Iterator[bytes]) -> Iterator[bytes]:
    waiting: queue.Queue[bytes | BaseException] = queue.Queue(AHEAD)

    def work() -> None:
        try:
            for chunk in chunks:
                waiting.put(chunk)
            waiting.put(b"")
        except BaseException as error:  # noqa: BLE001  (it is raised again where the chunks are taken)
            waiting.put(error)

    threading.Thread(target=work, daemon=True).start()
    while item := waiting.get():
        if isinstance(item, BaseException):
            raise item
        yield item
