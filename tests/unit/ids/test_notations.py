"""Texts as they stand on real machines, and as an enemy would write them."""

from __future__ import annotations

import pytest

from sublet.errors import InputError, MapError, NotationError
from sublet.ids import IdMap, OutsideId, Range
from sublet.ids.notation import explicit, newuidmap, subid, uid_map
from sublet.ids.notation.numbers import parse_count, parse_id

HOSTILE_NUMBERS = [
    "",
    "-1",
    "+0",
    "00",
    "010",
    "0x10",
    "1e3",
    "1_000",
    " 1",
    "1 ",
    "1\n",
    "1\0",
    "1,0",
    "1.0",
    "\u0661",
    "\uff11",
    "\u00b2",
    "root",
    "1000a",
    "4294967296",
    "18446744073709551616",
    "9" * 10_000,
]


@pytest.mark.parametrize("text", HOSTILE_NUMBERS)
def test_numbers_that_overflow_or_that_readers_take_differently(text: str) -> None:
    for parse in (parse_id, parse_count):
        with pytest.raises(NotationError) as refused:
            parse(text)
        assert refused.value.hint
        assert len(str(refused.value)) < 200


def test_the_one_id_that_is_no_id_and_the_largest_count() -> None:
    with pytest.raises(NotationError, match="user ID '4294967295' is out of range") as refused:
        parse_id("4294967295", "user ID")
    assert refused.value.hint == "Use a number from 0 to 4294967294."
    assert parse_id("4294967294") == 4294967294
    assert parse_count("4294967295") == 4294967295
    with pytest.raises(NotationError, match="count '0' is out of range"):
        parse_count("0")


def test_uid_map_of_a_rootless_namespace() -> None:
    text = "         0       1001          1\n         1     100000      65536\n"
    parsed = uid_map.parse(text)
    assert parsed == IdMap.of((0, 1001, 1), (1, 100000, 65536))
    assert uid_map.render(parsed) == "0 1001 1\n1 100000 65536\n"


def test_uid_map_before_it_is_written_is_empty() -> None:
    assert uid_map.parse("") == IdMap()
    assert uid_map.render(IdMap()) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n", r"line 1 of the map, '', has 0 fields"),
        ("0 0 1\n\n", r"line 2 of the map, '', has 0 fields"),
        ("0 0\n", r"'0 0', has 2 fields"),
        ("0 0 1 1\n", r"has 4 fields"),
        ("0 0 1\n5 x 1\n", r"line 2 of the map: outside ID 'x' is not a decimal number"),
        ("0 0 1\x0b1 1 1\n", r"has 5 fields|not a decimal number"),
        ("0 0 1\r\n", r"count '1\\r' is not"),
        ("0 4294967295 1\n", r"no outside ID in the reader's user namespace"),
        ("0 0 1 " * 1000, r"\(6000 characters\), has 3000 fields"),
    ],
)
def test_uid_map_that_does_not_parse(text: str, words: str) -> None:
    with pytest.raises(NotationError, match=words) as refused:
        uid_map.parse(text)
    assert refused.value.hint
    assert len(str(refused.value)) < 200


def test_uid_map_that_is_no_map() -> None:
    with pytest.raises(MapError, match="line 1 of the map: inside of extent 4294967290 0 10"):
        uid_map.parse("4294967290 0 10\n")
    with pytest.raises(MapError, match="overlap on the outside"):
        uid_map.parse("0 1000 1\n1 1000 1\n")


SUBUID = """\
# delegated by hand
alice:100000:65536

bob:300000:65536:extra
1001:165536:1000
carol:0x1000:10
carol:010:10
carol:200000:0
carol:4294967290:6
carol :200000:1
:200000:1
dave:500000:65536\r
alice:50000:100
"""


def test_subuid_keeps_the_order_of_the_file_and_explains_what_it_skips() -> None:
    parsed = subid.parse(SUBUID)
    assert [str(entry) for entry in parsed.entries] == [
        "alice:100000:65536",
        "1001:165536:1000",
        "alice:50000:100",
    ]
    assert [entry.line for entry in parsed.entries] == [2, 5, 13]
    assert [(s.line, s.kind) for s in parsed.skipped[:3]] == [
        (1, "comment"),
        (3, "blank"),
        (4, "malformed"),
    ]
    beyond = "do not lie between 0 and 4294967294"
    assert [(s.line, s.reason) for s in parsed.problems] == [
        (4, "the line 'bob:300000:65536:extra' has 4 fields"),
        (6, "first ID '0x1000' is not a decimal number"),
        (7, "first ID '010' starts with a zero"),
        (8, "count '0' is out of range"),
        (9, f"range from 4294967290: the IDs 4294967290 to 4294967295 {beyond}"),
        (10, "the owner 'carol ' is not a login name or a user ID"),
        (11, "the owner '' is not a login name or a user ID"),
        (12, r"count '65536\r' is not a decimal number"),
    ]


def test_subuid_selects_by_name_and_by_number() -> None:
    parsed = subid.parse(SUBUID)
    by_name = (Range.outside(100000, 65536), Range.outside(50000, 100))
    both = (Range.outside(100000, 65536), Range.outside(165536, 1000), Range.outside(50000, 100))
    assert parsed.ranges("alice", 1001) == both
    assert parsed.ranges("alice", 5) == by_name
    assert parsed.ranges(None, 1001) == (Range.outside(165536, 1000),)
    assert parsed.ranges("ali", 100) == ()
    assert all(type(span.start) is OutsideId for span in both)


def test_subuid_line_length_is_shadows() -> None:
    owner = "x" * (1023 - len(":100000:1"))
    assert len(subid.parse(f"{owner}:100000:1\n").entries) == 1
    assert "longer than 1023 bytes" in subid.parse(f"x{owner}:100000:1\n").problems[0].reason
    odd = "\udce9" + owner[1:]  # a byte that is no UTF-8, as surrogateescape gives it
    assert len(subid.parse(f"{odd}:100000:1\n").entries) == 1


def test_subuid_without_a_last_newline_and_without_anything() -> None:
    assert len(subid.parse("alice:100000:65536").entries) == 1
    assert subid.parse("") == subid.SubIdFile()


def test_subuid_suggests_what_is_free() -> None:
    parsed = subid.parse("alice:100000:65536\nbob:165536:65536\n")
    assert parsed.free_range() == Range.outside(231072, 65536)
    assert subid.parse("").free_range() == Range.outside(100000, 65536)
    assert subid.parse("containers:1:4294967294\n").free_range() is None


def test_newuidmap_arguments() -> None:
    argv = ["newuidmap", "4711", "0", "1001", "1", "1", "100000", "65536"]
    call = newuidmap.parse(argv)
    assert (call.pid, call.proc_fd) == (4711, None)
    assert call.id_map == IdMap.of((0, 1001, 1), (1, 100000, 65536))
    assert newuidmap.render(call) == argv
    assert newuidmap.parse(["/usr/bin/newgidmap", "fd:3", "0", "0", "1"]).proc_fd == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the command has 0 arguments"),
        (["newuidmap"], "'newuidmap' has 0 arguments"),
        (["newuidmap", "1"], "has 1 arguments"),
        (["newuidmap", "1", "0", "0"], "has 3 arguments"),
        (["newuidmap", "1", "0", "0", "1", "1"], "has 5 arguments"),
        (["newuidmap", "0", "0", "0", "1"], "process ID '0' is out of range"),
        (["newuidmap", "-1", "0", "0", "1"], "process ID '-1' is not a decimal"),
        (["newuidmap", "4194304", "0", "0", "1"], "process ID 4194304 is out of range"),
        (["newuidmap", "fd:x", "0", "0", "1"], "descriptor 'x' is not"),
        (["newuidmap", "1", "0", "0", "1", "1", "y", "1"], "extent 2 of newuidmap: outside ID 'y'"),
    ],
)
def test_newuidmap_arguments_that_do_not_parse(arguments: list[str], words: str) -> None:
    with pytest.raises(NotationError, match=words):
        newuidmap.parse(arguments)


def test_newuidmap_names_the_process_once() -> None:
    for pid, proc_fd in ((None, None), (1, 3)):
        with pytest.raises(InputError, match="either a process ID or a descriptor"):
            newuidmap.NewIdMap("newuidmap", IdMap.identity(), pid=pid, proc_fd=proc_fd)


def test_explicit_maps() -> None:
    users, groups = explicit.parse(["u:0:1000:1,g:0:100:1", "b:1:100000:65536"])
    assert users.extents == IdMap.of((0, 1000, 1), (1, 100000, 65536)).extents
    assert groups.extents == IdMap.of((0, 100, 1), (1, 100000, 65536)).extents
    assert explicit.render(users, users) == "b:0:1000:1,b:1:100000:65536"
    assert explicit.render(users, IdMap.of((0, 5, 1))) == "u:0:1000:1,u:1:100000:65536,g:0:5:1"
    assert explicit.parse(["u:0:1:1"])[1] == IdMap()


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([""], "entry 1, '', is no entry"),
        (["u:0:0:1,"], "entry 2, '', is no entry"),
        (["u:0:0:1", "x:0:0:1"], "entry 2, 'x:0:0:1', is no entry"),
        (["u:0:0"], "'u:0:0', is no entry"),
        (["u:0:0:1:1"], "is no entry"),
        (["U:0:0:1"], "is no entry"),
        (["u: 0:0:1"], "inside ID ' 0' is not a decimal number"),
        (["b:0:-1:1"], "entry 1, 'b:0:-1:1': outside ID '-1'"),
        (["b:0:0:0"], "count '0' is out of range"),
    ],
)
def test_explicit_maps_that_do_not_parse(texts: list[str], words: str) -> None:
    with pytest.raises(NotationError, match=words) as refused:
        explicit.parse(texts)
    assert refused.value.hint


def test_explicit_maps_that_are_none() -> None:
    with pytest.raises(MapError, match=r"the user map: extents .* overlap on the inside"):
        explicit.parse(["u:0:0:5,b:4:100:1"])
    with pytest.raises(MapError, match=r"the group map: .* overlap on the outside"):
        explicit.parse(["g:0:0:5,b:10:4:1"])
    with pytest.raises(MapError, match="entry 1, 'u:1:1:4294967295': inside of extent"):
        explicit.parse(["u:1:1:4294967295"])
