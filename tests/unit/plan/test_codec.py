"""The wire form in detail: what is kept once, and what a damaged plan is refused for."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from sublet._value import replace
from sublet.errors import PlanError
from sublet.ids import IdMap
from sublet.mounts.operations import Bind, File, Mask
from sublet.plan import _wire
from sublet.plan.codec import decode, encode
from sublet.plan.model import (
    Credentials,
    Descriptor,
    Join,
    Maps,
    Plan,
    Process,
    Rlimit,
    UserNamespace,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MAP = IdMap.of((0, 1000, 1), (1, 100000, 10))
PLAN = Plan(
    process=Process(
        ("/bin/sh", "-c", "true"),
        environment=("A=1",),
        rlimits=(Rlimit(7, 1, 2),),
        descriptors=(Descriptor("s", 5),),
    ),
    namespaces=frozenset(("user", "mount")),
    joins=(Join("net", "s"),),
    maps=(Maps(MAP, MAP),),
    user_namespace=UserNamespace(writer="direct"),
    operations=(Bind("/", source="/srv", map=0), File("/f", content=b"xyz"), Mask("/m")),
    pivot=True,
    credentials=Credentials(uid=0, gid=0, groups=(1, 2)),
    slots=("s",),
)
SECTIONS = list(_wire.SECTIONS)


def section(wire: bytes | bytearray, name: str) -> tuple[int, int]:
    """Return offset and count of a section."""
    place, count = struct.unpack_from("<II", wire, 16 + 8 * SECTIONS.index(name))
    return place, count


def place_of(wire: bytes | bytearray, name: str, index: int, field: str) -> tuple[int, str]:
    """Return where a field of a record lies, and its struct code."""
    record = _wire.SECTIONS[name]
    if record not in _wire.RECORDS:
        return section(wire, name)[0] + 4 * index, "I"
    codes = iter(_wire.RECORDS[record][0][1:])
    at = section(wire, name)[0] + index * struct.calcsize(_wire.RECORDS[record][0])
    for one, type_ in _wire.RECORDS[record][1]:
        code = next(codes)
        pair = type_.startswith("run") or type_ == "data"
        if one == field.removesuffix("+"):
            return (at + 4, "I") if field.endswith("+") else (at, code)
        at += struct.calcsize(code) * (2 if pair else 1)
        if pair:
            next(codes)
    raise AssertionError(field)


def test_the_plan_that_is_damaged_below_is_good() -> None:
    assert decode(encode(PLAN)) == PLAN


def test_equal_strings_and_contents_are_sent_once() -> None:
    twice = replace(PLAN, operations=(*PLAN.operations, File("/f", content=b"xyz")))
    for name in ("strings", "data"):
        assert section(encode(twice), name)[1] == section(encode(PLAN), name)[1]


def test_contents_lie_at_multiples_of_eight() -> None:
    wire = encode(replace(PLAN, seccomp=b"12345678"))
    at, _ = place_of(wire, "settings", 0, "seccomp")
    assert struct.unpack_from("<II", wire, at)[0] % 8 == 0
    at, _ = place_of(wire, "operations", 1, "content")
    assert struct.unpack_from("<II", wire, at)[0] % 8 == 0


def test_a_plan_that_is_not_valid_is_not_sent() -> None:
    with pytest.raises(PlanError, match="there is no command"):
        encode(replace(PLAN, process=Process(())))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda wire: wire[:50], "cut off"),
        (lambda wire: b"X" + wire[1:], "does not start with SUBLPLAN"),
        (lambda wire: wire[:8] + b"\2" + wire[9:], "version 2, not 1"),
        (lambda wire: wire + bytes(8), "bytes and says"),
        (lambda wire: wire.replace(b"/srv", b"\0srv"), "'' is not absolute"),
    ],
)
def test_a_damaged_header_is_refused(change: Callable[[bytes], bytes], sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence):
        decode(change(encode(PLAN)))


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_may_not_lie_elsewhere(name: str) -> None:
    good = encode(PLAN)
    place, count = section(good, name)
    for wrong_place, wrong_count in (
        (place + 4, count),
        (0, count),
        (len(good) + 8, 0),
        (place, 0x7FFFFFFF),
        (0xFFFFFFF8, 0xFFFFFFFF),
    ):
        wire = bytearray(good)
        at = 16 + 8 * SECTIONS.index(name)
        struct.pack_into("<II", wire, at, wrong_place, wrong_count)
        with pytest.raises(PlanError, match="section "):
            decode(bytes(wire))


@pytest.mark.parametrize(
    ("name", "index", "field", "number", "sentence"),
    [
        ("settings", 0, "flags", 1 << 31, "settings[0].flags: 0x80000000 is no setting"),
        ("settings", 0, "flags", 0x1, "settings.uid: a value without the flag set_credentials"),
        ("settings", 0, "flags", 0x81, "settings.flags: set_groups without set_credentials"),
        ("settings", 0, "flags", 0x41, "settings.flags: no_new_privs without set_credentials"),
        ("settings", 0, "flags", 0x101, "settings.groups: groups without the flag set_groups"),
        ("settings", 0, "namespaces", 1, "settings[0].namespaces: 0x1 is no namespace"),
        ("settings", 0, "writer", 4, "settings[0].writer: 4 is no writer"),
        ("settings", 0, "setgroups", 2, "settings[0].setgroups: 2 is no setgroups"),
        ("settings", 0, "root_propagation", 3, "settings[0].root_propagation: 3 is no prop"),
        ("settings", 0, "hostname", 99999, "settings[0].hostname: string at 99999 of"),
        ("settings", 0, "argv", 3, "settings[0].argv: words 3 to 6 of 4"),
        ("settings", 0, "argv+", 0xFFFFFFFF, "settings[0].argv: words 0 to 4294967295 of 4"),
        ("settings", 0, "groups+", 3, "settings[0].groups: groups 0 to 3 of 2"),
        ("settings", 0, "seccomp+", 16, "settings[0].seccomp: bytes 0 to 16 of 3"),
        ("settings", 0, "reserved", 1, "settings[0].reserved: 1 in a reserved field"),
        ("maps", 0, "gid+", 9, "maps[0].gid: extents 2 to 11 of 4"),
        ("extents", 1, "count", 0, "maps[0].uid: "),
        ("extents", 1, "inside", 0, "maps[0].uid: extents (0 1000 1) and (0 100000 10) overlap"),
        ("extents", 0, "reserved", 7, "extents[0].reserved: 7 in a reserved field"),
        ("slots", 0, "", _wire.NONE, "slots[0]: string at 4294967295 of"),
        ("words", 1, "", 5000, "settings[0].argv: string at 5000 of"),
        ("joins", 0, "namespace", 0x20080, "joins[0].namespace: 131200 is no namespace"),
        ("joins", 0, "slot", _wire.NONE, "joins[0].slot: no slot is named"),
        ("joins", 0, "slot", 1, "joins[0].slot: slot 1 of 1"),
        ("operations", 0, "kind", 0, "operations[0].kind: 0 is no operation"),
        ("operations", 0, "kind", 99, "operations[0].kind: 99 is no operation"),
        ("operations", 0, "flags", 0x8000, "operations[0].flags: 0x8000 is no operation_flag"),
        ("operations", 0, "flags", 0x20, "operation 0 (bind /): flags: userxattr means nothing"),
        ("operations", 0, "target", _wire.NONE, "operations[0].target: bind needs it"),
        ("operations", 0, "map", 1, "operations[0].map: map 1 of 1"),
        ("operations", 0, "slot", 0, "exactly one of source and slot"),
        ("operations", 0, "attributes_set", 1 << 40, "attributes_set: 0x10000000000 is no attr"),
        ("operations", 0, "mode", 0, "operations[0].mode: bind has no such field"),
        ("operations", 1, "content", 1, "operations[1].content: offset 1 is no multiple of 8"),
        ("operations", 1, "content+", 4, "operations[1].content: bytes 0 to 4 of 3"),
        ("operations", 2, "size", 1, "operations[2].size: mask has no such field"),
        ("operations", 2, "uid", 0, "operations[2].uid: mask has no such field"),
        ("operations", 2, "source", 0, "operations[2].source: mask has no such field"),
        ("operations", 2, "lower+", 1, "operations[2].lower: mask has no such field"),
        ("rlimits", 0, "hard", 0, "process.rlimits: 1:0 is no soft and hard limit"),
        ("descriptors", 0, "slot", _wire.NONE, "descriptors[0].slot: no slot is named"),
    ],
)
def test_a_damaged_field_is_named(
    name: str, index: int, field: str, number: int, sentence: str
) -> None:
    wire = bytearray(encode(PLAN))
    at, code = place_of(wire, name, index, field)
    struct.pack_into("<" + code, wire, at, number)
    with pytest.raises(PlanError) as caught:
        decode(bytes(wire))
    assert sentence in str(caught.value)


def test_the_last_string_must_end() -> None:
    wire = bytearray(encode(PLAN))
    place, count = section(wire, "strings")
    wire[place + count - 1] = 65
    with pytest.raises(PlanError, match="the last string is not terminated"):
        decode(bytes(wire))


def test_more_than_the_executor_takes_is_not_sent() -> None:
    words = tuple("x" for _ in range(_wire.MAX_WORDS))
    with pytest.raises(PlanError, match="262145 words; at most 262144"):
        encode(Plan(Process(("/x", *words))))
    with pytest.raises(PlanError, match="bytes; at most 16777216"):
        encode(Plan(Process(("/x",)), operations=(File("/f", content=bytes(1 << 24)),)))
