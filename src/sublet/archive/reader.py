"""Read a tar stream member by member: ustar, GNU and pax, as tar(5) and POSIX pax(1) describe them.

The reader trusts nothing: checksums are verified, sizes are bounded, and whatever it does not know
is an ArchiveError that names the member and the byte where its header stands.
"""

from __future__ import annotations

from sublet._value import Value
from sublet.errors import ArchiveError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class Source(Protocol):
        """Where the bytes come from: see streams.py."""

        position: int

        def read(self, count: int) -> bytes:
            """Return exactly *count* bytes, fewer only at the end."""

        def skip(self, count: int) -> bool:
            """Pass over *count* bytes; False if the stream ends before."""


BLOCK = 512
NOTHING = bytes(BLOCK)
MAX_EXTENSION = 1 << 20  # bytes of one pax or GNU long-name record
MAX_PATH = 4096
MAX_ID = 4294967294

KINDS = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"1": "hardlink",
    b"2": "symlink",
    b"3": "device",
    b"4": "device",
    b"5": "directory",
    b"6": "fifo",
}


class Member(Value):
    """One member. ``path`` and ``link`` as bytes, as they stand in the archive; ``uid`` and ``gid``
    are inside IDs.

    ``size`` in bytes; ``mtime`` in nanoseconds since 1970; ``mode`` with setuid, setgid and sticky
    bits; ``offset`` of its header.
    """

    path: bytes
    kind: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime: int
    link: bytes
    xattrs: tuple[tuple[str, bytes], ...]
    offset: int

    @property
    def name(self) -> str:
        """The path for people."""
        return self.path.decode("utf-8", "backslashreplace")


def members(source: Source) -> Iterator[Member]:
    """Yield the members of *source*; a member's data must be taken or is skipped before the next
    one.

    After a member of kind ``file`` the source stands at its first byte of data. The consumer reads
    exactly ``member.size`` bytes, or none.

    Raises ArchiveError: truncated, malformed, or with parts that are not supported.
    """
    common: dict[str, bytes] = {}
    own: dict[str, bytes] = {}
    gnu: dict[bytes, bytes] = {}
    while True:
        offset = source.position
        header = source.read(BLOCK)
        if not header and not offset:
            raise ArchiveError("the archive is empty")
        if len(header) < BLOCK:
            raise _damaged(offset, "the archive ends without its end marker: it is truncated")
        if header == NOTHING:
            return
        _verify_checksum(header, offset)
        kind = header[156:157]
        size = _number(header[124:136], offset, "size")
        if kind in b"xgLK" and kind:
            text = _extension(source, size, offset)
            if kind == b"x":
                own = _pax(text, offset)
            elif kind == b"g":
                common.update(_pax(text, offset))
            else:
                gnu[kind] = text.rstrip(b"\0")
            continue
        member = _member(header, size, {**common, **own} if common else own, gnu, offset)
        own, gnu = {}, {}
        start = source.position
        yield member
        rest = member.size + -member.size % BLOCK - (source.position - start)
        if rest and not source.skip(rest):
            raise _damaged(offset, f"the archive ends inside {member.name}: it is truncated")


def _member(
    header: bytes,
    size: int,
    pax: dict[str, bytes],
    gnu: dict[bytes, bytes],
    offset: int,
) -> Member:
    kind = header[156:157]
    path = gnu.get(b"L") or _text(header[0:100])
    link = gnu.get(b"K") or _text(header[157:257])
    ustar = header[257:263] == b"ustar\0"
    if ustar and b"L" not in gnu and (prefix := _text(header[345:500])):
        path = prefix + b"/" + path
    if kind not in KINDS:
        what = "a sparse file" if kind == b"S" else f"of the unknown type {kind!r}"
        raise _damaged(offset, f"member {path!r} is {what}, which is not supported")
    uid = _number(header[108:116], offset, "uid")
    gid = _number(header[116:124], offset, "gid")
    mtime = _number(header[136:148], offset, "mtime") * 1_000_000_000
    xattrs: list[tuple[str, bytes]] = []
    for key, value in pax.items():
        if key == "path":
            path = value
        elif key == "linkpath":
            link = value
        elif key == "size":
            size = _decimal(value, offset, key)
        elif key == "uid":
            uid = _decimal(value, offset, key)
        elif key == "gid":
            gid = _decimal(value, offset, key)
        elif key == "mtime":
            mtime = _time(value, offset)
        elif key.startswith("SCHILY.xattr."):
            xattrs.append((key[13:], value))
        elif key.startswith("GNU.sparse."):
            raise _damaged(offset, f"member {path!r} is a sparse file, which is not supported")
    name = KINDS[kind]
    if name == "file" and path.endswith(b"/"):
        name = "directory"
    if len(path) > MAX_PATH or len(link) > MAX_PATH:
        raise _damaged(offset, f"a path of more than {MAX_PATH} bytes")
    if not path or b"\0" in path or b"\0" in link:
        raise _damaged(offset, "a path that is empty or contains a NUL byte")
    if max(uid, gid) > MAX_ID or min(uid, gid) < 0:
        raise _damaged(offset, f"member {path!r} has the owner {uid}:{gid}, outside 0..{MAX_ID}")
    mode = _number(header[100:108], offset, "mode") & 0o7777
    if name != "file":
        size = 0
    return Member(path, name, size, mode, uid, gid, mtime, link, tuple(xattrs), offset)


def _damaged(offset: int, what: str) -> ArchiveError:
    return ArchiveError(f"{what} (header at byte {offset})")


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _number(field: bytes, offset: int, name: str) -> int:
    """Read a numeric field: octal text, or GNU's base 256 where the first byte has its high bit
    set.
    """
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        if field[0] == 0xFF or value >= 1 << 63:
            raise _damaged(offset, f"the field {name} is negative or too large")
        return value
    text = field.split(b"\0", 1)[0].strip(b" ")
    if not text:
        return 0
    if not text.isdigit():
        raise _damaged(offset, f"the field {name} is not a number: {field!r}")
    try:
        return int(text, 8)
    except ValueError:
        raise _damaged(offset, f"the field {name} is not octal: {field!r}") from None


def _verify_checksum(header: bytes, offset: int) -> None:
    found = _number(header[148:156], offset, "checksum")
    # the sum is taken with the checksum field itself as eight spaces
    if found != sum(header) - sum(header[148:156]) + 8 * 32:
        raise _damaged(offset, "the checksum does not match: not a tar archive, or a damaged one")


def _extension(source: Source, size: int, offset: int) -> bytes:
    if size > MAX_EXTENSION:
        raise _damaged(offset, f"an extension record of {size} bytes, more than {MAX_EXTENSION}")
    text = source.read(size + -size % BLOCK)
    if len(text) < size:
        raise _damaged(offset, "the archive ends inside an extension record: it is truncated")
    return text[:size]


def _pax(text: bytes, offset: int) -> dict[str, bytes]:
    """Parse pax records: ``length key=value`` and a newline; the length counts all of it."""
    records: dict[str, bytes] = {}
    at = 0
    while at < len(text):
        space = text.find(b" ", at, at + 12)
        length = text[at:space] if space > at else b""
        end = at + int(length) if length.isdigit() else 0
        if end <= space + 1 or end > len(text) or text[end - 1] != 0x0A:
            raise _damaged(offset, "a malformed pax record")
        key, equals, value = text[space + 1 : end - 1].partition(b"=")
        if not equals or not key:
            raise _damaged(offset, "a pax record without a key")
        records[key.decode("utf-8", "surrogateescape")] = value
        at = end
    return records


def _decimal(value: bytes, offset: int, key: str) -> int:
    if not value.isdigit() or len(value) > 19:
        raise _damaged(offset, f"the pax record {key} is not a number: {value[:40]!r}")
    return int(value)


def _time(value: bytes, offset: int) -> int:
    whole, _, fraction = value.partition(b".")
    digits = whole.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > 11 or (fraction and not fraction.isdigit()):
        raise _damaged(offset, f"the pax record mtime is not a time: {value[:40]!r}")
    nanoseconds = int(digits) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0") or b"0")
    return -nanoseconds if whole.startswith(b"-") else nanoseconds
