"""Random trees, packed by tarfile and unpacked by us: what is on disk is what tarfile says."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import stat
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sublet.archive.streams import Stream, open_stream
from sublet.archive.unpack import Unpacker
from sublet.errors import ArchiveError

ROOT = os.geteuid() == 0
FORMATS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
NAMES = st.one_of(
    st.sampled_from(["a", "b", "c"]),
    st.text("xyäß ☃\n\\", min_size=1, max_size=8),
    st.just("long" * 40),
)
OWNERS = st.integers(0, 70_000) if ROOT else st.just(os.geteuid())


@st.composite
def trees(draw: st.DrawFn) -> dict[str, tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]]:
    """Draw members by path, each path once, parents before what is in them."""
    found: dict[str, tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]] = {}
    folders = [""]
    files: list[str] = []
    for _ in range(draw(st.integers(1, 12))):
        path = draw(st.sampled_from(folders)) + draw(NAMES)
        if path in found or f"{path}/" in found:
            continue
        member = tarfile.TarInfo(path)
        member.uid, member.gid = draw(OWNERS), draw(OWNERS) if ROOT else os.getegid()
        member.mode = draw(st.integers(0, 0o7777))
        member.mtime = draw(st.integers(0, 2**33 - 1))
        kind = draw(st.sampled_from(["file", "directory", "link", "hard", "pipe"]))
        if kind == "directory":
            member.type = tarfile.DIRTYPE
            # What is in them is looked at afterwards, which takes rights where one is not root.
            member.mode |= 0 if ROOT else 0o700
            folders.append(f"{path}/")
        elif kind == "link":
            member.type = tarfile.SYMTYPE
            member.linkname = draw(NAMES) + draw(st.sampled_from(["", "/..", "/" + "d" * 120]))
        elif kind == "hard" and files:
            member.type = tarfile.LNKTYPE
            member.linkname = draw(st.sampled_from(files))
        elif kind == "pipe":
            member.type = tarfile.FIFOTYPE
        else:
            data = draw(st.binary(max_size=1500))
            member.size = len(data)
            found[path] = (member, data)
            files.append(path)
            continue
        found[path] = member
    return found


def pack(
    members: dict[str, tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]], form: int
) -> tuple[bytes, dict[str, tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]]]:
    """Return the archive, and the members that the format could hold."""
    buffer = io.BytesIO()
    held = {}
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for path, member in members.items():
            about, data = member if isinstance(member, tuple) else (member, b"")
            target = about.linkname if about.type == tarfile.LNKTYPE else None
            try:
                if target is None or target in held:
                    archive.addfile(about, io.BytesIO(data))
                    held[path] = member
            except ValueError:  # ustar: a name that is too long
                continue
    return buffer.getvalue(), held


def unpack(archive: bytes, target: Path, *, compressed: bool = False) -> dict[str, int]:
    root = os.open(target, os.O_RDONLY)
    mask = os.umask(0)
    everybody = [[0, 4294967295]]
    unpacker = Unpacker(
        root, uids=everybody, gids=everybody, squash=not ROOT, max_bytes=10**8, max_members=1000
    )
    try:
        if not compressed:
            return unpacker.unpack(Stream(iter([archive])))
        with tempfile.TemporaryFile() as source:
            source.write(archive)
            source.flush()
            source.seek(0)
            return unpacker.unpack(open_stream(source.fileno()))
    finally:
        unpacker.close()
        os.umask(mask)
        os.close(root)


def remove(place: Path) -> None:
    for folder, below, _ in os.walk(place):
        for name in below:
            if not os.path.islink(os.path.join(folder, name)):
                os.chmod(os.path.join(folder, name), 0o700)
    shutil.rmtree(place)


@given(members=trees(), form=FORMATS)
@settings(max_examples=150, deadline=None)
def test_what_is_packed_is_unpacked(
    members: dict[str, tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]], form: int
) -> None:
    archive, held = pack(members, form)
    place = Path(tempfile.mkdtemp(prefix="sublet-roundtrip-"))
    try:
        if not held:
            with pytest.raises(ArchiveError, match="no members"):
                unpack(archive, place)
            return
        unpack(archive, place)
        for path, member in held.items():
            about = member[0] if isinstance(member, tuple) else member
            found = (place / path).lstat()
            if about.type == tarfile.LNKTYPE:
                assert found.st_ino == (place / about.linkname).lstat().st_ino
                continue
            if about.type == tarfile.SYMTYPE:
                assert os.readlink(place / path) == about.linkname
            elif about.type == tarfile.FIFOTYPE:
                assert stat.S_ISFIFO(found.st_mode)
                assert stat.S_IMODE(found.st_mode) & 0o777 == about.mode & 0o777
            else:
                assert stat.S_ISDIR(found.st_mode) == about.isdir()
                assert stat.S_IMODE(found.st_mode) == about.mode
            if isinstance(member, tuple) and ROOT:
                assert (place / path).read_bytes() == member[1]
            assert found.st_mtime == about.mtime
            if ROOT:
                assert (found.st_uid, found.st_gid) == (about.uid, about.gid)
        implied = {str(above) for path in held for above in Path(path).parents} - {"."}
        walked = {
            os.path.relpath(os.path.join(folder, name), place)
            for folder, below, names in os.walk(place)
            for name in (*below, *names)
        }
        assert walked == {path.rstrip("/") for path in held} | implied
    finally:
        remove(place)


def base() -> bytes:
    """Return an archive with everything in it, also a link that leads out."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, link in (
            ("d", tarfile.DIRTYPE, ""),
            ("d/out", tarfile.SYMTYPE, "../../victim"),
            ("d/f", tarfile.REGTYPE, ""),
            ("d/h", tarfile.LNKTYPE, "d/f"),
            ("d/" + "n" * 150, tarfile.REGTYPE, ""),
            ("p", tarfile.FIFOTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            member.mode = 0o755
            member.uid, member.gid = os.geteuid(), os.getegid()
            member.size = 700 if kind == tarfile.REGTYPE else 0
            member.pax_headers = {"SCHILY.xattr.user.x": "y"} if name == "d/f" else {}
            archive.addfile(member, io.BytesIO(b"z" * member.size))
    return buffer.getvalue()


BASE = base()
PACKED = gzip.compress(BASE, mtime=0)


def sealed(archive: bytearray, header: int) -> bytes:
    """Return the archive with one header's checksum made right again, if one is there."""
    block = archive[header : header + 512]
    if len(block) == 512:
        block[148:156] = b" " * 8
        archive[header + 148 : header + 156] = b"%06o\0 " % sum(block)
    return bytes(archive)


@given(data=st.data(), compressed=st.booleans(), cut=st.booleans())
@settings(max_examples=400, deadline=None)
def test_damage_is_reported_and_stays_inside(
    data: st.DataObject, compressed: bool, cut: bool
) -> None:
    archive = bytearray(PACKED if compressed else BASE)
    for _ in range(data.draw(st.integers(0, 4))):
        # mostly where headers are
        at = data.draw(st.integers(0, min(len(archive), 6000) - 1))
        archive[at] = data.draw(st.integers(0, 255))
        if not compressed:
            archive = bytearray(sealed(archive, at - at % 512))
    if cut:
        del archive[data.draw(st.integers(0, len(archive))) :]
    place = Path(tempfile.mkdtemp(prefix="sublet-damage-"))
    victim = place / "victim"
    victim.mkdir()
    (victim / "f").write_text("untouched")
    (place / "tree").mkdir()
    try:
        # anything but a report is an error of ours
        with contextlib.suppress(ArchiveError, OSError):
            assert unpack(bytes(archive), place / "tree", compressed=compressed)["members"]
        assert sorted(os.listdir(place)) == ["tree", "victim"]
        assert os.listdir(victim) == ["f"]
        assert (victim / "f").read_text() == "untouched"
        assert (victim / "f").stat().st_nlink == 1
    finally:
        remove(place)


def test_the_undamaged_archive_unpacks(tmp_path: Path) -> None:
    for number, (archive, compressed) in enumerate(((BASE, False), (PACKED, True))):
        target = tmp_path / str(number)
        target.mkdir()
        assert unpack(archive, target, compressed=compressed)["members"] == 6
        assert os.readlink(target / "d/out") == "../../victim"
