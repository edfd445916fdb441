"""Tar archives made byte by byte, so that they can be wrong in every way; and running the unpacker.

A well-formed header is `header(...)`; what a test wants wrong is said by name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SOURCES = Path(__file__).resolve().parents[2] / "src"
BLOCK = 512
END = bytes(2 * BLOCK)
ANYBODY = [[0, 4294967295]]


def octal(value: int, width: int) -> bytes:
    """Return a number as tar writes it: octal digits and a NUL; base 256 where it takes that."""
    text = b"%0*o\0" % (width - 1, value) if value >= 0 else b""
    if 0 < len(text) <= width:
        return text
    coded = bytearray((value % (1 << 8 * width)).to_bytes(width, "big"))
    coded[0] |= 0x80
    return bytes(coded)


def header(
    path: bytes,
    kind: bytes = b"0",
    *,
    size: int = 0,
    mode: int = 0o644,
    owner: tuple[int, int] | None = None,
    mtime: int = 1,
    link: bytes = b"",
    magic: bytes = b"ustar\00000",
    fields: Mapping[int, bytes] = {},
) -> bytes:
    """Return one header; *fields* overwrites bytes at an offset, before the checksum is taken."""
    uid, gid = owner or (os.geteuid(), os.getegid())
    block = bytearray(BLOCK)
    block[0 : len(path)] = path
    block[100:108] = octal(mode, 8)
    block[108:116] = octal(uid, 8)
    block[116:124] = octal(gid, 8)
    block[124:136] = octal(size, 12)
    block[136:148] = octal(mtime, 12)
    block[156:157] = kind
    block[157 : 157 + len(link)] = link
    block[257 : 257 + len(magic)] = magic
    for offset, field in fields.items():
        block[offset : offset + len(field)] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    assert len(block) == BLOCK
    return bytes(block)


def padded(data: bytes) -> bytes:
    """Return *data* filled up to whole blocks."""
    return data + bytes(-len(data) % BLOCK)


def file(path: bytes, data: bytes = b"", **more: Any) -> bytes:
    """Return a regular file's header and data."""
    return header(path, size=len(data), **more) + padded(data)


def directory(path: bytes, mode: int = 0o755, **more: Any) -> bytes:
    """Return a directory's header."""
    return header(path, b"5", mode=mode, **more)


def symlink(path: bytes, link: bytes, **more: Any) -> bytes:
    """Return a symbolic link's header."""
    return header(path, b"2", mode=0o777, link=link, **more)


def hardlink(path: bytes, link: bytes, **more: Any) -> bytes:
    """Return a hard link's header."""
    return header(path, b"1", link=link, **more)


def record(key: bytes, value: bytes) -> bytes:
    """Return one pax record, whose length counts itself."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def pax(records: Sequence[tuple[bytes, bytes]], kind: bytes = b"x") -> bytes:
    """Return an extended (or, of kind g, a global) header."""
    text = b"".join(record(*pair) for pair in records)
    return header(b"pax", kind, size=len(text)) + padded(text)


class Outcome(NamedTuple):
    """What the unpacker said: its answer, exit status, and anything on standard error."""

    answer: dict[str, Any]
    status: int
    stderr: str

    @property
    def error(self) -> str:
        """The error's sentence; empty after a success."""
        return str(self.answer.get("error", ""))


def unpack(archive: bytes | Path, target: Path, **options: Any) -> Outcome:
    """Unpack into *target*, which is made, by the program itself; no map, the caller's own rights.

    Every option of the program may be given; the IDs of all members are allowed by default.
    """
    target.mkdir(exist_ok=True)
    chosen = {
        "uids": ANYBODY,
        "gids": ANYBODY,
        "squash": os.geteuid() != 0,
        "max_bytes": 1 << 30,
        "max_members": 10_000,
        **options,
    }
    if isinstance(archive, bytes):
        path = target.with_name(f"{target.name}.tar")
        path.write_bytes(archive)
    else:
        path = archive
    with open(path, "rb") as source:
        done = subprocess.run(
            [sys.executable, "-m", "sublet.archive.unpack", json.dumps(chosen)],
            stdin=source,
            capture_output=True,
            text=True,
            cwd=target,
            env={**os.environ, "PYTHONPATH": str(SOURCES)},
            timeout=60,
            check=False,
        )
    answer = json.loads(done.stdout) if done.stdout else {}
    return Outcome(answer, done.returncode, done.stderr)
