from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from sublet.archive.reader import MAX_EXTENSION, Member, members
from sublet.archive.streams import Stream
from sublet.errors import ArchiveError
from support.tars import END, directory, file, hardlink, header, octal, padded, pax, record, symlink

if TYPE_CHECKING:
    from collections.abc import Sequence

LONG = b"d/" * 100 + b"f"


def read(archive: bytes, chunk: int = 700) -> list[tuple[Member, bytes]]:
    """Read all members with their data, from a stream that comes in odd pieces."""
    stream = Stream(archive[at : at + chunk] for at in range(0, len(archive), chunk))
    return [(member, stream.read(member.size)) for member in members(stream)]


def only(archive: bytes) -> Member:
    ((member, _),) = read(archive + END)
    return member


def refused(archive: bytes, match: str) -> None:
    with pytest.raises(ArchiveError, match=match):
        read(archive + END)


def test_every_kind_is_told_apart() -> None:
    archive = (
        directory(b"d/")
        + file(b"d/f", b"data", mode=0o4755)
        + symlink(b"d/s", b"f")
        + hardlink(b"d/h", b"d/f")
        + header(b"d/p", b"6")
        + header(b"d/c", b"3")
        + header(b"d/b", b"4")
        + header(b"v7/", b"\0")
    )
    found = [(member.path, member.kind, data) for member, data in read(archive + END)]
    assert found == [
        (b"d/", "directory", b""),
        (b"d/f", "file", b"data"),
        (b"d/s", "symlink", b""),
        (b"d/h", "hardlink", b""),
        (b"d/p", "fifo", b""),
        (b"d/c", "device", b""),
        (b"d/b", "device", b""),
        (b"v7/", "directory", b""),
    ]


def test_data_that_is_not_taken_is_skipped() -> None:
    archive = file(b"a", bytes(5000)) + file(b"b", b"x" * 512) + file(b"c") + END
    stream = Stream(iter([archive]))
    assert [member.path for member in members(stream)] == [b"a", b"b", b"c"]


@pytest.mark.parametrize(
    "start",
    [
        pax([(b"path", LONG)]),
        header(b"././@LongLink", b"L", size=len(LONG) + 1) + padded(LONG + b"\0"),
    ],
    ids=["pax", "gnu"],
)
def test_long_names(start: bytes) -> None:
    assert only(start + file(b"short")).path == LONG


def test_the_prefix_counts_in_ustar_only() -> None:
    assert only(file(b"f", fields={345: b"prefix"})).path == b"prefix/f"
    assert only(file(b"f", fields={345: b"prefix"}, magic=b"ustar  \0")).path == b"f"
    star = {345: b"prefix", 476: b"00000000001 ", 508: b"tar\0"}
    assert only(file(b"f", fields=star)).path == b"prefix/f"


def test_pax_records_win_and_later_ones_more() -> None:
    records = [
        (b"uid", b"5"),
        (b"uid", b"70000"),
        (b"mtime", b"-1.25"),
        (b"comment", b"nothing"),
        (b"SCHILY.xattr.user.x", b"a\0=\nb"),
    ]
    member = only(pax(records) + file(b"f", owner=(1, 2)))
    assert (member.uid, member.gid, member.mtime) == (70000, 2, -1_250_000_000)
    assert member.xattrs == (("user.x", b"a\0=\nb"),)


def test_an_empty_pax_value_takes_the_record_back() -> None:
    assert only(pax([(b"path", b"x"), (b"path", b"")]) + file(b"f")).path == b"f"


def test_global_records_hold_until_the_end_and_own_ones_win() -> None:
    archive = pax([(b"uid", b"9"), (b"comment", b"c")], b"g") + file(b"a")
    archive += pax([(b"uid", b"8")]) + file(b"b") + file(b"c")
    assert [member.uid for member, _ in read(archive + END)] == [9, 8, 9]


def test_times_of_all_ages() -> None:
    for seconds in (0, -1, 2**33, -(2**62), 2**62):
        assert only(file(b"f", mtime=seconds)).mtime == seconds * 10**9


def test_a_size_in_base_256() -> None:
    (member,) = itertools.islice(members(Stream(iter([header(b"f", size=1 << 40)]))), 1)
    assert member.size == 1 << 40


def test_signed_checksums_of_old_tars() -> None:
    block = bytearray(header(b"\xff\xfe"))
    total = sum(byte if byte < 128 else byte - 256 for byte in block[:148] + block[156:]) + 256
    block[148:156] = b"%06o\0 " % total
    assert only(bytes(block)).path == b"\xff\xfe"


def test_a_label_is_no_member() -> None:
    assert only(header(b"label", b"V") + file(b"f")).path == b"f"


@pytest.mark.parametrize(
    ("archive", "match"),
    [
        (b"", "is empty"),
        (b"#!/bin/sh\n" + bytes(600), "not a tar archive"),
        (b"x" * 512, "not a tar archive"),
        (file(b"f")[:-1] + b"!", "not a tar archive"),
        (header(b"f", b"Z"), "unsupported type"),
        (header(b"f", b"M"), "unsupported type"),
        (file(b""), "path that is empty"),
        (header(b"f", fields={124: octal(-5, 12)}), "negative"),
        (header(b"f", fields={124: octal(1 << 80, 12)}), "too large"),
        (header(b"f", fields={108: octal(-1, 8)}), "negative"),
        (header(b"f", fields={108: octal(4294967295, 8)}), "owner"),
        (header(b"f", fields={124: b"0000009"}), "octal"),
        (header(b"f", fields={124: b"+7\0"}), "octal"),
        (header(b"f", fields={124: b"1_0\0"}), "octal"),
        (header(b"f", fields={148: b"x"})[:-1] + b"\1", "not a tar archive"),
        (header(b"f") + header(b"g")[:-1] + b"\1", "checksum does not match"),
        (pax([(b"size", b"-1")]) + file(b"f"), "size"),
        (pax([(b"size", b"99999999999999999999")]) + file(b"f"), "size"),
        (pax([(b"size", b"9223372036854775808")]) + file(b"f"), "size"),
        (pax([(b"mtime", b"yesterday")]) + file(b"f"), "mtime"),
        (pax([(b"path", b"a\0b")]) + file(b"f"), "NUL"),
        (pax([(b"path", b"a" * 4096)]) + file(b"f"), "path of more than"),
        (pax([(b"size", b"1000000")]) + file(b"f", b"x"), "inside f"),
        (pax([(b"path", b"x")]) + pax([(b"path", b"y")]) + file(b"f"), "second extended header"),
        (pax([(b"path", b"x")]), "after an extended header"),
        (pax([(b"path", b"x")], b"g") + file(b"f"), "global header"),
        (pax([(b"size", b"5")], b"g") + file(b"f"), "global header"),
        (header(b"h", b"x", size=MAX_EXTENSION + 1), "extended header of"),
        (header(b"h", b"x", size=600) + bytes(512), r"truncated|malformed"),
        (header(b"f/", b"0", size=3) + padded(b"abc"), "directory f/ has data"),
    ],
)
def test_what_is_wrong_is_refused(archive: bytes, match: str) -> None:
    if archive:
        refused(archive, match)
    else:
        with pytest.raises(ArchiveError, match=match):
            read(archive)


@pytest.mark.parametrize(
    "text",
    [
        b"5 a=b\n",
        b"99 a=b\n",
        b"-6 a=b\n",
        b"6 ab\n\n",
        b"5 =b\n",
        b"0 a=b\n",
        b"a=b\n",
        b"7 a=b\n",
        b"000000000000000000006 a=b\n",
    ],
)
def test_malformed_pax_records(text: bytes) -> None:
    refused(header(b"h", b"x", size=len(text)) + padded(text) + file(b"f"), "pax record")


def test_endless_global_headers_are_refused() -> None:
    one = pax([(b"comment", b"x" * 500_000)], b"g")
    read(one + file(b"f") + END)
    refused(one * 3 + file(b"f"), "global headers of more")


@pytest.mark.parametrize("cut", [1, 300, 512, 700, 1024, 1100, 1536, 2048])
def test_truncation_is_noticed_wherever_it_happens(cut: int) -> None:
    whole = pax([(b"uid", b"7")]) + file(b"f", b"x" * 600)
    assert len(whole) == 2560
    with pytest.raises(ArchiveError, match="truncated"):
        read(whole[:cut])
    with pytest.raises(ArchiveError, match="end marker"):
        read(whole)


# ---------------------------------------------------------------- sparse files

PIECES = ((1024, 3), (9000, 512))
DATA = b"abc" + b"d" * 512


def numbers(pieces: Sequence[tuple[int, int]]) -> list[bytes]:
    return [b"%d" % number for piece in pieces for number in piece]


def old_sparse(pieces: Sequence[tuple[int, int]], data: bytes, length: int = 20000) -> bytes:
    coded = [octal(start, 12) + octal(count, 12) for start, count in pieces]
    fields = {386: b"".join(coded[:4]), 483: octal(length, 12)}
    blocks = [coded[at : at + 21] for at in range(4, len(coded), 21)]
    if blocks:
        fields[482] = b"\1"
    text = header(b"s", b"S", size=len(data), magic=b"ustar  \0", fields=fields)
    for block in blocks:
        more = b"\1" if block is not blocks[-1] else b"\0"
        text += b"".join(block).ljust(504, b"\0") + more + bytes(7)
    return text + padded(data)


def pax_sparse(
    version: str, pieces: Sequence[tuple[int, int]], data: bytes, length: int = 20000
) -> bytes:
    size = b"%d" % length
    count = b"%d" % len(pieces)
    if version == "0.0":
        keys = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
        pairs = zip(itertools.cycle(keys), numbers(pieces), strict=False)
        records = [(b"GNU.sparse.size", size), (b"GNU.sparse.numblocks", count), *pairs]
        return pax(records) + file(b"s", data)
    records = [(b"GNU.sparse.name", b"s")]
    if version == "0.1":
        listed = b",".join(numbers(pieces))
        records += [(b"GNU.sparse.size", size), (b"GNU.sparse.map", listed)]
        return pax(records) + file(b"GNUSparseFile.1/s", data)
    records += [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")]
    records += [(b"GNU.sparse.realsize", size)]
    text = b"".join(number + b"\n" for number in [count, *numbers(pieces)])
    return pax(records) + file(b"GNUSparseFile.1/s", padded(text) + data)


MANY = tuple((at * 1000, 2) for at in range(60))


@pytest.mark.parametrize("version", ["old", "0.0", "0.1", "1.0"])
@pytest.mark.parametrize(("pieces", "data"), [(PIECES, DATA), (MANY, b"xy" * 60), ((), b"")])
def test_sparse_files(version: str, pieces: tuple[tuple[int, int], ...], data: bytes) -> None:
    length = 100_000
    if version == "old":
        archive = old_sparse(pieces, data, length)
    else:
        archive = pax_sparse(version, pieces, data, length)
    (first, found), (second, _) = read(archive + file(b"next") + END)
    assert (first.path, first.kind, found) == (b"s", "file", data)
    assert first.layout is not None
    assert (first.layout.length, first.layout.pieces) == (length, pieces)
    assert second.path == b"next"


@pytest.mark.parametrize(
    "archive",
    [
        old_sparse(((100, 3), (50, 512)), DATA),
        old_sparse(((0, 3), (2, 512)), DATA),
        old_sparse(PIECES, DATA, 5000),
        old_sparse(PIECES, DATA + b"more"),
        pax_sparse("0.0", ((0, 3), (5, 600)), DATA),
        pax_sparse("1.0", PIECES, DATA, 100),
        pax([(b"GNU.sparse.major", b"2"), (b"GNU.sparse.minor", b"0")]) + file(b"s", DATA),
        pax([(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")]) + file(b"s", b"x" * 5000),
        pax([(b"GNU.sparse.map", b"1,2")]) + file(b"s", DATA),
    ],
)
def test_sparse_maps_that_make_no_sense(archive: bytes) -> None:
    refused(archive, "sparse")


def test_a_sparse_map_without_an_end() -> None:
    records = [
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.realsize", b"1000000"),
    ]
    refused(pax(records) + file(b"s", b"9" * 100_000), "sparse map")
    refused(pax(records) + file(b"s", padded(b"99999999\n")), "sparse map")


def test_records_count_their_own_length() -> None:
    for size in range(1, 120):
        text = record(b"k", b"v" * size)
        assert int(text.split(b" ")[0]) == len(text)
