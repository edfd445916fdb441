from __future__ import annotations

import bz2
import gzip
import lzma
import os
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from sublet.archive.streams import CHUNK, open_stream
from sublet.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

zstandard = pytest.importorskip("zstandard")

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
    "bzip2": bz2.compress,
    "zstd": lambda data: bytes(zstandard.ZstdCompressor(write_checksum=True).compress(data)),
}
PATTERN = b"".join(b"%d," % number for number in range(100_000))
each_format = pytest.mark.parametrize("name", COMPRESSORS)


def read(data: bytes, place: Path) -> bytes:
    path = place / "data"
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        stream = open_stream(descriptor)
        parts = []
        while part := stream.read(100_000):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def test_plain(tmp_path: Path) -> None:
    assert read(PATTERN, tmp_path) == PATTERN


@each_format
def test_each_format(tmp_path: Path, name: str) -> None:
    assert read(COMPRESSORS[name](PATTERN), tmp_path) == PATTERN


@each_format
def test_concatenated_streams_and_padding(tmp_path: Path, name: str) -> None:
    compress = COMPRESSORS[name]
    data = compress(b"one,") + compress(b"") + compress(PATTERN) + bytes(1000)
    assert read(data, tmp_path) == b"one," + PATTERN


@each_format
def test_truncation_and_garbage(tmp_path: Path, name: str) -> None:
    whole = COMPRESSORS[name](PATTERN)
    for cut in (1, 2, 3, len(whole) // 2, len(whole) - 7):
        with pytest.raises(ArchiveError, match="truncated"):
            read(whole[:-cut], tmp_path)
    with pytest.raises(ArchiveError, match=r"damaged|truncated"):
        read(whole + b"garbage at the end", tmp_path)


@each_format
def test_damage(tmp_path: Path, name: str) -> None:
    whole = bytearray(COMPRESSORS[name](PATTERN))
    whole[len(whole) // 2] ^= 0x55
    with pytest.raises(ArchiveError, match="damaged"):
        read(bytes(whole), tmp_path)


@each_format
def test_a_bomb_takes_little_memory(tmp_path: Path, name: str) -> None:
    bomb = COMPRESSORS[name](bytes(100 * CHUNK))
    assert len(bomb) < CHUNK
    path = tmp_path / "bomb"
    path.write_bytes(bomb)
    descriptor = os.open(path, os.O_RDONLY)
    tracemalloc.start()
    try:
        assert open_stream(descriptor).skip(100 * CHUNK)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        os.close(descriptor)
    assert peak < 80 * CHUNK


@each_format
def test_no_thread_is_left_behind(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data"
    path.write_bytes(COMPRESSORS[name](bytes(64 * CHUNK)))
    before = threading.active_count()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        stream = open_stream(descriptor)
        assert stream.read(10) == bytes(10)
        assert threading.active_count() == before + 1
        del stream
        deadline = time.monotonic() + 5
        while threading.active_count() > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert threading.active_count() == before
    finally:
        os.close(descriptor)
