"""Where an archive's bytes come from: a descriptor, plain or compressed, told by its first bytes.

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
    from collections.abc import Callable, Generator, Iterator
    from typing import Protocol

    import zstandard

    class Decompressor(Protocol):
        """What zlib, lzma, bz2 and zstd's decompressors have in common."""

        @property
        def eof(self) -> bool:
            """Whether the end of the compressed stream has been seen."""

        @property
        def unused_data(self) -> bytes:
            """What came after that end."""


CHUNK = 1 << 20
AHEAD = 8  # chunks that may wait between decompressor and consumer
AFTERMATH = 64 << 20  # bytes after tar's end marker that are still checked for damage

# zstandard's decompressor takes no limit: the input is cut instead. A block of 128 KiB can be
# compressed to 4 bytes, which makes 32 MiB of this.
ZSTANDARD_STEP = 1024

MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
)


class Stream:
    """A forward-only reader over chunks of bytes. ``position``: bytes passed so far."""

    def __init__(self, chunks: Iterator[bytes | memoryview]) -> None:
        self._chunks = chunks
        self._chunk = memoryview(b"")
        self.position = 0

    def _some(self, count: int) -> memoryview:
        """Return 1 to *count* bytes, none at the end."""
        while not self._chunk:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._chunk = memoryview(chunk)
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

    Raises ArchiveError for a compression that this Python has no module for; while reading, for
    compressed data that is damaged or ends too early.
    """
    start = os.read(descriptor, CHUNK)
    for magic, name in MAGIC:
        if start.startswith(magic):
            return Stream(_in_thread(_decompressed(name, _raw(start, descriptor))))
    return Stream(_raw(start, descriptor))


def _raw(start: bytes, descriptor: int) -> Iterator[bytes]:
    while start:
        yield start
        start = os.read(descriptor, CHUNK)


def _decompressed(name: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress stream after stream (all four formats may be concatenated)."""
    make, feed = _decompressor(name)
    machine: Decompressor | None = None
    for raw in chunks:
        data = raw
        while data:
            if machine is None:
                if not data.strip(b"\0"):  # padding after the last stream
                    break
                machine = make()
            try:
                yield from feed(machine, data)
            except Exception as error:  # each library has its own class
                raise ArchiveError(f"the {name} data is damaged: {error}") from error
            if not machine.eof:
                break
            data = machine.unused_data
            machine = None
    if machine is not None:
        raise ArchiveError(f"the {name} data ends in the middle: the archive is truncated")


def _decompressor(
    name: str,
) -> tuple[Callable[[], Decompressor], Callable[[object, bytes], Iterator[bytes]]]:
    """Return what makes a decompressor, and what feeds it with bounded memory.

    Raises ArchiveError where this Python has no module for it.
    """
    if name == "gzip":
        import zlib

        return lambda: zlib.decompressobj(wbits=31), _feed_zlib
    if name == "xz":
        import lzma

        # the format can ask for 4 GiB; xz -9 takes 65 MiB
        return lambda: lzma.LZMADecompressor(memlimit=1 << 30), _feed_limited
    if name == "bzip2":
        import bz2

        return bz2.BZ2Decompressor, _feed_limited
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        try:
            import zstandard
        except ImportError:
            raise ArchiveError(
                "the archive is compressed with zstd, and this Python has no module for it",
                hint="Install the extra: pip install 'sublet[zstd]'; or unpack with: zstd -d FILE",
            ) from None
        return lambda: _Zstandard(zstandard.ZstdDecompressor().decompressobj()), _feed_limited
    return zstd.ZstdDecompressor, _feed_limited


def _feed_zlib(machine: object, data: bytes) -> Iterator[bytes]:
    while data and not machine.eof:  # type: ignore[attr-defined]
        yield machine.decompress(data, CHUNK)  # type: ignore[attr-defined]
        data = machine.unconsumed_tail  # type: ignore[attr-defined]


def _feed_limited(machine: object, data: bytes) -> Iterator[bytes]:
    """Feed a decompressor of lzma's manners, which keeps the input that it could not use yet."""
    yield machine.decompress(data, CHUNK)  # type: ignore[attr-defined]
    while not (machine.needs_input or machine.eof):  # type: ignore[attr-defined]
        yield machine.decompress(b"", CHUNK)  # type: ignore[attr-defined]


class _Zstandard:
    """The package zstandard's decompressor, with lzma's manners."""

    def __init__(self, machine: zstandard.ZstdDecompressionObj) -> None:
        self._machine = machine
        self._input = b""

    @property
    def eof(self) -> bool:
        return self._machine.eof

    @property
    def needs_input(self) -> bool:
        return not self._input

    @property
    def unused_data(self) -> bytes:
        return self._machine.unused_data + self._input

    def decompress(self, data: bytes, _limit: int) -> bytes:
        """Take *data*, and decompress a step of what there is: see ZSTANDARD_STEP."""
        waiting = self._input + data
        self._input = waiting[ZSTANDARD_STEP:]
        return self._machine.decompress(waiting[:ZSTANDARD_STEP])


def _in_thread(chunks: Iterator[bytes]) -> Generator[memoryview, None, None]:
    """Yield the chunks, made by another thread, which ends when nobody takes them any more."""
    waiting: queue.Queue[memoryview | BaseException | None] = queue.Queue(AHEAD)
    abandoned = threading.Event()

    def work() -> None:
        try:
            for chunk in chunks:
                # in pieces, so that few large chunks wait
                view = memoryview(chunk)
                for at in range(0, len(view), CHUNK):
                    if abandoned.is_set():
                        return
                    waiting.put(view[at : at + CHUNK])
            waiting.put(None)
        except BaseException as error:  # noqa: BLE001  (raised again where chunks are taken)
            waiting.put(error)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        abandoned.set()
        while worker.is_alive():
            try:
                waiting.get(timeout=0.01)
            except queue.Empty:
                continue
