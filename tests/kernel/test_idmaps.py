"""The kernel's own opinion on maps: what check_kernel() passes is taken and read back equal."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from sublet.errors import InputError, MapError, NotationError
from sublet.ids import IdMap, InsideId, OutsideId
from sublet.ids.notation import uid_map
from support import probes
from unit.ids.big_maps import of_text_bytes, spread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.requires("root", "userns")

FILES = ("uid_map", "gid_map")
PATIENCE = 10.0
"""Seconds until a process that has not reached its namespace counts as stuck."""


@pytest.fixture(autouse=True)
def _all_ids_at_hand() -> None:
    for name in FILES:
        with open(f"/proc/self/{name}", encoding="ascii") as file:
            if uid_map.parse(file.read()) != IdMap.identity():
                probes.beyond(f"not all IDs are at hand in /proc/self/{name}")


@contextmanager
def sleeper(*prefix: str) -> Iterator[int]:
    """Keep a process in a new user namespace without maps, and give its process ID."""
    before = os.readlink("/proc/self/ns/user")
    process = subprocess.Popen([*prefix, "unshare", "--user", "sleep", "60"])
    try:
        deadline = time.monotonic() + PATIENCE
        while not (comm_of(process.pid) == "sleep" and user_namespace(process.pid) != before):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def comm_of(pid: int) -> str:
    with open(f"/proc/{pid}/comm", encoding="ascii") as file:
        return file.read().rstrip("\n")


def user_namespace(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/user")


def write(pid: int, name: str, text: str) -> int:
    """Write a whole map at once; return 0 or the kernel's errno."""
    descriptor = os.open(f"/proc/{pid}/{name}", os.O_WRONLY)
    try:
        data = text.encode("ascii")
        assert os.write(descriptor, data) == len(data)
    except OSError as error:
        return error.errno or -1
    finally:
        os.close(descriptor)
    return 0


def read(pid: int, name: str) -> str:
    with open(f"/proc/{pid}/{name}", encoding="ascii") as file:
        return file.read()


ACCEPTED = {
    "1 extent": IdMap.of((0, 1001, 1)),
    "5 extents": spread(5),
    "6 extents": spread(6),
    "6 extents, unsorted": IdMap(tuple(reversed(spread(6).extents))),
    "340 extents": spread(340),
    "4095 bytes": of_text_bytes(4095),
    "all IDs": IdMap.identity(),
    "the last ID": IdMap.of((4294967294, 0, 1), (0, 4294967294, 1)),
    "touching": IdMap.of((0, 1001, 1), (1, 1002, 65536)),
    "crossing": IdMap.of((0, 100000, 10), (10, 5, 10), (20, 1000, 1)),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("id_map", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_passes_is_taken_and_read_back_equal(id_map: IdMap, name: str) -> None:
    id_map.check_kernel()
    with sleeper() as pid:
        assert uid_map.parse(read(pid, name)) == IdMap()
        assert write(pid, name, uid_map.render(id_map)) == 0
        assert uid_map.parse(read(pid, name)) == id_map


TOO_MUCH = {
    "341 extents": spread(341),
    "4096 bytes": of_text_bytes(4096),
    "no extents": IdMap(),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("id_map", TOO_MUCH.values(), ids=TOO_MUCH.keys())
def test_what_does_not_pass_is_refused_by_the_kernel_too(id_map: IdMap, name: str) -> None:
    with pytest.raises(MapError):
        id_map.check_kernel()
    with sleeper() as pid:
        # an empty write never reaches the kernel's parser, so the empty map is sent as a newline
        assert write(pid, name, uid_map.render(id_map) or "\n") == errno.EINVAL
        assert read(pid, name) == ""
        assert write(pid, name, "0 0 1\n") == 0  # the namespace was able to take a map


REFUSED = [
    "0 0 0\n",
    "4294967295 0 1\n",
    "0 4294967295 1\n",
    "4294967294 0 2\n",
    "0 4294967290 6\n",
    "1 1 4294967295\n",
    "0 0 4294967296\n",
    "-1 0 1\n",
    "0 0 1\n0 1 1\n",
    "0 0 1\n1 0 1\n",
    "0 100 10\n5 200 1\n",
    "0 100 10\n20 109 1\n",
    "0 0\n",
    "0 0 1 1\n",
    "a 0 1\n",
    "0 0 1\n\n1 1 1\n",
]


@pytest.mark.parametrize("text", REFUSED)
def test_texts_that_both_refuse(text: str) -> None:
    with pytest.raises(InputError):
        uid_map.parse(text)
    with sleeper() as pid:
        assert write(pid, "uid_map", text) == errno.EINVAL
        assert write(pid, "uid_map", "0 0 1\n") == 0


def test_the_kernel_takes_a_number_beyond_32_bits_for_another_id() -> None:
    text = "4294967296 0 1\n"
    with pytest.raises(NotationError, match="out of range"):
        uid_map.parse(text)
    with sleeper() as pid:
        assert write(pid, "uid_map", text) == 0
        assert uid_map.parse(read(pid, "uid_map")) == IdMap.of((0, 0, 1))


def test_a_nested_map_read_from_outside_is_the_composition() -> None:
    # Seven extents each: beyond five, the kernel keeps a map in another form and sorts it.
    parent = IdMap.of(*((10 * n, 100000 + 1000 * (7 - n), 10) for n in range(7)))
    child = IdMap.of(*((100 * n, 8 * (6 - n) + 1, 7) for n in range(7)))
    with sleeper() as outer:
        for name in FILES:
            assert write(outer, name, uid_map.render(parent)) == 0
        enter = ("nsenter", f"--user=/proc/{outer}/ns/user", "--setuid", "0", "--setgid", "0")
        with sleeper(*enter) as inner:
            writer = [*enter, "sh", "-c", f"exec cat > /proc/{inner}/uid_map"]

            def write_from_parent(id_map: IdMap) -> subprocess.CompletedProcess[str]:
                text = uid_map.render(id_map)
                return subprocess.run(
                    writer, input=text, check=False, capture_output=True, text=True
                )

            # Two extents of the child's cross from one of the parent's to the next.
            assert "not permitted" in write_from_parent(child).stderr
            fitted = child.fit_into(parent)
            assert len(fitted.extents) > len(child.extents)
            assert write_from_parent(fitted).returncode == 0
            reader = [*enter, "cat", f"/proc/{inner}/uid_map"]
            shown = subprocess.run(reader, check=True, capture_output=True, text=True).stdout
            assert uid_map.parse(shown) == child
            assert uid_map.parse(read(inner, "uid_map")) == child.compose(parent)


def test_owners_are_seen_through_the_map_as_looked_up(tmp_path: Path) -> None:
    id_map = IdMap.of((0, 0, 1), (1, 100000, 10), (11, 300000, 5), (16, 200000, 100))
    with sleeper() as pid:
        for name in FILES:
            assert write(pid, name, uid_map.render(id_map)) == 0
        enter = ("nsenter", f"--user=/proc/{pid}/ns/user", "--setuid", "0", "--setgid", "0")
        for outside in (0, 1, 99999, 100000, 100009, 100010, 200000, 200099, 200100, 300004):
            path = f"{tmp_path}/{outside}"
            with open(path, "x", encoding="ascii"):
                os.chown(path, outside, outside)
            shown = subprocess.run(
                [*enter, "stat", "--format=%u", path], capture_output=True, text=True, check=True
            ).stdout
            inside = id_map.to_inside(OutsideId(outside))
            assert int(shown) == (65534 if inside is None else inside)
            if inside is not None:
                assert id_map.to_outside(InsideId(inside)) == outside
