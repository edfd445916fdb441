from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from property.ids.strategies import BASES, id_maps
from sublet.errors import MapError, NotationError
from sublet.ids import MAX_ID, IdMap, OutsideId, Range
from sublet.ids.notation import explicit, newuidmap, subid, uid_map
from sublet.ids.notation.numbers import parse_count, parse_id

ids = st.sampled_from([0, 1, 9, 10, 65534, 65535, 2**31 - 1, 2**31, MAX_ID - 1, MAX_ID])
maps = st.tuples(st.sampled_from(BASES), st.sampled_from(BASES)).flatmap(lambda b: id_maps(*b))
owners = st.from_regex(r"[a-z0-9_][a-z0-9_-]{0,8}\$?", fullmatch=True)
outside_ranges = st.tuples(ids, st.integers(1, 2**32 - 1)).map(
    lambda pair: Range(OutsideId(pair[0]), min(pair[0] + pair[1], MAX_ID + 1))
)
lines = st.tuples(owners, outside_ranges)
noise = st.text(alphabet="ug b0123456789:,.#-+_\t\n\r\x0b\u0661x", max_size=30)


@given(ids | st.integers(0, MAX_ID))
def test_a_number_is_read_as_it_is_printed(number: int) -> None:
    assert parse_id(str(number)) == number


@given(st.text(max_size=12) | noise)
def test_a_number_has_one_spelling(text: str) -> None:
    for parse, lowest, highest in ((parse_id, 0, MAX_ID), (parse_count, 1, MAX_ID + 1)):
        good = text.isascii() and text.isdigit() and str(int(text)) == text
        if good and lowest <= int(text) <= highest:
            assert str(parse(text)) == text
        else:
            with pytest.raises(NotationError) as refused:
                parse(text)
            assert refused.value.hint


@given(maps)
def test_uid_map_round_trip(id_map: IdMap) -> None:
    assert uid_map.parse(uid_map.render(id_map)).extents == id_map.extents


@given(maps)
def test_uid_map_as_the_kernel_pads_it(id_map: IdMap) -> None:
    text = "".join(f"{e.inside:10d} {e.outside:10d} {e.count:10d}\n" for e in id_map.extents)
    assert uid_map.parse(text).extents == id_map.extents


@given(maps.filter(lambda id_map: id_map.extents), st.integers(1, 4194303), st.booleans())
def test_newuidmap_round_trip(id_map: IdMap, number: int, by_descriptor: bool) -> None:
    if by_descriptor:
        call = newuidmap.NewIdMap("newuidmap", id_map, proc_fd=number)
    else:
        call = newuidmap.NewIdMap("/usr/bin/newgidmap", id_map, pid=number)
    argv = newuidmap.render(call)
    assert len(argv) == 2 + 3 * len(id_map.extents)
    assert newuidmap.render(newuidmap.parse(argv)) == argv
    assert newuidmap.parse(argv) == call


@given(maps, maps, st.booleans())
def test_explicit_round_trip(users: IdMap, groups: IdMap, both: bool) -> None:
    groups = users if both else groups
    text = explicit.render(users, groups)
    parsed = explicit.parse([text] if text else [])
    assert [m.extents for m in parsed] == [users.extents, groups.extents]
    one_by_one = explicit.parse(text.split(",") if text else [])
    assert [m.extents for m in one_by_one] == [users.extents, groups.extents]


@given(st.lists(lines, max_size=8), st.data())
def test_subid_round_trip_among_other_lines(
    entries: list[tuple[str, Range[OutsideId]]], data: st.DataObject
) -> None:
    texts: list[str] = []
    expected = []
    for owner, span in entries:
        texts += data.draw(
            st.lists(st.sampled_from(["", "# a", "x:1", ":1:2", "a:1:0"]), max_size=2)
        )
        texts.append(f"{owner}:{int(span.start)}:{span.count}")
        expected.append(subid.SubIdEntry(len(texts), owner, span))
    parsed = subid.parse("".join(f"{text}\n" for text in texts))
    assert parsed.entries == tuple(expected)
    assert len(parsed.skipped) == len(texts) - len(entries)
    again = subid.parse(subid.render(parsed.entries))
    assert [(e.owner, e.range) for e in again.entries] == entries


@given(st.lists(lines, max_size=8), owners, st.integers(0, 3))
def test_subid_ranges_are_those_by_name_or_number_in_file_order(
    entries: list[tuple[str, Range[OutsideId]]], name: str, uid: int
) -> None:
    text = "".join(f"{owner}:{span}\n" for owner, span in entries)
    chosen = [span for owner, span in entries if owner in (name, str(uid))]
    assert list(subid.parse(text).ranges(name, uid)) == chosen


@given(st.lists(lines, max_size=4), st.integers(1, 2**31))
def test_subid_free_range_is_free(entries: list[tuple[str, Range[OutsideId]]], count: int) -> None:
    free = subid.parse("".join(f"{o}:{r}\n" for o, r in entries)).free_range(count)
    starts = [100000] + [span.end for _, span in entries if span.end >= 100000]
    fits = [
        start
        for start in starts
        if start + count <= MAX_ID + 1
        and not any(span.start < start + count and start < span.end for _, span in entries)
    ]
    assert free == (Range.outside(min(fits), count) if fits else None)


@given(st.text() | noise)
def test_no_subid_file_is_an_error(text: str) -> None:
    parsed = subid.parse(text)
    numbers = sorted([e.line for e in parsed.entries] + [s.line for s in parsed.skipped])
    assert numbers == list(range(1, len(numbers) + 1))


@given(st.text(max_size=40) | noise)
def test_any_text_is_a_map_or_a_sentence(text: str) -> None:
    for attempt in (
        lambda: uid_map.parse(text),
        lambda: explicit.parse([text]),
        lambda: newuidmap.parse(["newuidmap", *text.split()]),
    ):
        with suppress(NotationError, MapError):
            attempt()
