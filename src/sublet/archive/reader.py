"""Read a tar stream member by member: ustar, GNU and pax, as tar(5) and POSIX pax(1) describe them.

The reader trusts nothing: checksums are verified, sizes are bounded, and whatever it does not know
is an ArchiveError that names the member and the byte where its header stands. What readers of tar
are known to understand differently (two extended headers for one member, a global path or size) is
refused, so that nobody can hide a member behind another reading.
"""

from __future__ import annotations

from sublet._value import Value
from sublet.archive.numbers import MAX_ID, damaged, decimal, number, quoted, time
from sublet.archive.sparse import Layout, read_layout
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

    Records = list[tuple[str, bytes]]


BLOCK = 512
NOTHING = bytes(BLOCK)
MAX_EXTENSION = 1 << 20  # bytes of one extended header, and of all global ones together
MAX_PATH = 4095  # bytes; longer ones can be given to no system call

KINDS = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"S": "file",
    b"1": "hardlink",
    b"2": "symlink",
    b"3": "device",
    b"4": "device",
    b"5": "directory",
    b"6": "fifo",
}
EXTENSIONS = {
    b"x": "extended header",
    b"g": "global header",
    b"L": "long name",
    b"K": "long link",
}
LABEL = b"V"  # GNU's name of a volume: no member
XATTR = "SCHILY.xattr."
ACL = "SCHILY.acl."
SPARSE = "GNU.sparse."


class Member(Value):
    """One member. ``path`` and ``link`` are bytes as they stand in the archive.

    ``uid`` and ``gid`` are inside IDs; ``size`` counts the bytes of data that follow in the stream;
    ``layout`` says where they go in a sparse file, None where they are the whole file; ``mtime`` is
    in nanoseconds since 1970; ``mode`` has the set-ID and sticky bits; ``acl``: it has an ACL in
    text form; ``offset`` is its header's.
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
    acl: bool
    layout: Layout | None
    offset: int

    @property
    def name(self) -> str:
        """The path for people."""
        return quoted(self.path)


class _Pending:
    """What the headers before a member's own said about it."""

    def __init__(self) -> None:
        self.pax: Records | None = None
        self.name: bytes | None = None
        self.link: bytes | None = None

    def add(self, kind: bytes, text: bytes, offset: int) -> None:
        if kind == b"x" and self.pax is None:
            self.pax = _records(text, offset)
        elif kind == b"L" and self.name is None:
            self.name = text.rstrip(b"\0")
        elif kind == b"K" and self.link is None:
            self.link = text.rstrip(b"\0")
        else:
            raise damaged(offset, f"a second {EXTENSIONS[kind]} for the same member")

    def __bool__(self) -> bool:
        return not (self.pax is None and self.name is None and self.link is None)


def members(source: Source) -> Iterator[Member]:
    """Yield the members of *source*, one by one, in their order.

    After a member of kind ``file`` the source stands at its first byte of data; the consumer reads
    ``member.size`` bytes or fewer, and what it leaves is skipped.

    Raises ArchiveError: truncated, malformed, or with parts that are not supported.
    """
    common: dict[str, bytes] = {}
    common_size = 0
    pending = _Pending()
    while True:
        offset = source.position
        header = source.read(BLOCK)
        if not header and not offset:
            raise damaged(offset, "the archive is empty")
        if len(header) < BLOCK:
            raise damaged(offset, "the archive ends without its end marker: it is truncated")
        if header == NOTHING:
            if pending:
                raise damaged(offset, "the archive ends after an extended header")
            return
        _verify_checksum(header, offset)
        kind = header[156:157]
        if kind in EXTENSIONS:
            text = _extension(source, header, offset)
            if kind == b"g":
                common_size += len(text)
                if common_size > MAX_EXTENSION:
                    raise damaged(offset, f"global headers of more than {MAX_EXTENSION} bytes")
                _add_common(common, text, offset)
            else:
                pending.add(kind, text, offset)
            continue
        if kind == LABEL and not pending:
            continue
        member = _member(header, source, common, pending, offset)
        pending = _Pending()
        start = source.position
        yield member
        # the padding counts from the first block of data, which a sparse map may have filled
        rest = member.size + -member.size % BLOCK - (source.position - start)
        if rest and not source.skip(rest):
            raise damaged(offset, f"the archive ends inside {member.name}: it is truncated")


def _member(
    header: bytes, source: Source, common: dict[str, bytes], pending: _Pending, offset: int
) -> Member:
    kind = header[156:157]
    path = _text(header[0:100])
    link = _text(header[157:257])
    if header[257:263] == b"ustar\0":
        # star keeps times in the last bytes of the prefix
        prefix = _text(header[345 : 476 if header[508:512] == b"tar\0" else 500])
        path = prefix + b"/" + path if prefix else path
    path = path if pending.name is None else pending.name
    link = link if pending.link is None else pending.link
    if kind not in KINDS:
        raise damaged(offset, f"member {quoted(path)} is of the unsupported type {kind!r}")
    pax: Records = [*common.items(), *(pending.pax or [])]
    # later records win, and an empty value takes the record back
    said = {key: value for key, value in dict(pax).items() if value}
    path = said.get("path", path)
    link = said.get("linkpath", link)
    size = _field(said, "size", header[124:136], offset)
    uid = _field(said, "uid", header[108:116], offset)
    gid = _field(said, "gid", header[116:124], offset)
    mode = number(header[100:108], offset, "mode") & 0o7777
    if "mtime" in said:
        mtime = time(said["mtime"], offset)
    else:
        mtime = number(header[136:148], offset, "mtime", signed=True) * 1_000_000_000
    name = KINDS[kind]
    layout = None
    if name == "file" and (kind == b"S" or any(key.startswith(SPARSE) for key, _ in pax)):
        path = said.get(f"{SPARSE}name", path)
        layout, size = read_layout(header, pax, source, size, offset)
    if name == "file" and path.endswith(b"/"):
        name = "directory"
        if size:
            raise damaged(offset, f"the directory {quoted(path)} has data")
    if not path or b"\0" in path or b"\0" in link:
        raise damaged(offset, "a path that is empty or contains a NUL byte")
    if len(path) > MAX_PATH or len(link) > MAX_PATH:
        raise damaged(offset, f"a path of more than {MAX_PATH} bytes")
    if max(uid, gid) > MAX_ID:
        raise damaged(offset, f"member {quoted(path)} has the owner {uid}:{gid}, above {MAX_ID}")
    return Member(
        path=path,
        kind=name,
        size=size if name == "file" else 0,  # others have no data, whatever their size says
        mode=mode,
        uid=uid,
        gid=gid,
        mtime=mtime,
        link=link,
        xattrs=tuple((key[len(XATTR) :], value) for key, value in pax if key.startswith(XATTR)),
        acl=any(key.startswith(ACL) for key in said),
        layout=layout,
        offset=offset,
    )


def _field(said: dict[str, bytes], name: str, field: bytes, offset: int) -> int:
    """Return a number as the extended header says it, or else the header's own field."""
    if name in said:
        return decimal(said[name], offset, f"pax record {name}")
    return number(field, offset, name)


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _verify_checksum(header: bytes, offset: int) -> None:
    # the sum is taken with the checksum field itself as eight spaces
    total = sum(header) - sum(header[148:156]) + 8 * 32
    # some old tars added the bytes up as signed ones
    high = sum(1 for byte in header[:148] + header[156:] if byte > 127)
    try:
        if number(header[148:156], offset, "checksum") in {total, total - 256 * high}:
            return
    except ArchiveError:
        if offset > 0:
            raise
    if offset == 0:
        raise ArchiveError("this is not a tar archive: it does not begin with a tar header")
    raise damaged(offset, "the checksum does not match")


def _extension(source: Source, header: bytes, offset: int) -> bytes:
    size = number(header[124:136], offset, "size")
    if size > MAX_EXTENSION:
        raise damaged(offset, f"an extended header of {size} bytes, more than {MAX_EXTENSION}")
    text = source.read(size + -size % BLOCK)
    if len(text) < size + -size % BLOCK:
        raise damaged(offset, "the archive ends inside an extended header: it is truncated")
    return text[:size]


def _add_common(common: dict[str, bytes], text: bytes, offset: int) -> None:
    """Take from a global header what can hold for every member; comments are left alone."""
    for key, value in _records(text, offset):
        if key in {"uid", "gid", "mtime"}:
            common[key] = value
        elif key in {"path", "linkpath", "size"} or key.startswith((XATTR, ACL, SPARSE)):
            raise damaged(offset, f"a global header with the record {key}")


def _records(text: bytes, offset: int) -> Records:
    """Parse pax records: ``length key=value`` and a newline; the length counts all of it."""
    records: Records = []
    at = 0
    while at < len(text):
        space = text.find(b" ", at, at + 12)
        length = text[at:space] if space > at else b""
        end = at + int(length) if length.isdigit() else 0
        if end <= space + 1 or end > len(text) or text[end - 1] != 0x0A:
            raise damaged(offset, "a malformed pax record")
        key, equals, value = text[space + 1 : end - 1].partition(b"=")
        if not equals or not key:
            raise damaged(offset, "a pax record without a key")
        records.append((key.decode("utf-8", "surrogateescape"), value))
        at = end
    return records
