"""What check_kernel() and the constructors refuse, number by number."""

from __future__ import annotations

import time

import pytest

from sublet.errors import MapError, NotationError
from sublet.ids import MAX_ID, Extent, IdMap, InsideId, OutsideId, Range, extent
from sublet.ids.notation import explicit, newuidmap, uid_map
from unit.ids.big_maps import of_text_bytes, spread


def test_340_extents_pass_and_the_341st_is_named() -> None:
    spread(340).check_kernel()
    with pytest.raises(MapError, match=r"341 extents.* takes 340: extent 341 \(680 680 1\)"):
        spread(341).check_kernel()


def test_one_extent_passes_and_none_does_not() -> None:
    IdMap.of((0, 1000, 1)).check_kernel()
    with pytest.raises(MapError, match="no extents"):
        IdMap().check_kernel()


def test_a_hundred_thousand_extents_are_refused_at_once_and_in_few_words() -> None:
    many = spread(100_000)
    start = time.perf_counter()
    with pytest.raises(MapError, match=r"100000 extents.*extent 341") as refused:
        many.check_kernel()
    assert time.perf_counter() - start < 0.1
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("size", [4000, 4075, 4094, 4095])
def test_text_shorter_than_a_page_passes(size: int) -> None:
    made = of_text_bytes(size)
    assert len(uid_map.render(made)) == size
    made.check_kernel()


@pytest.mark.parametrize("size", [4096, 4097, 4100])
def test_text_of_a_page_or_more_is_refused_naming_the_extent(size: int) -> None:
    made = of_text_bytes(size)
    assert len(uid_map.render(made)) == size
    last = made.extents[-1]
    words = rf"{size} bytes.* takes 4095: extent {len(made.extents)} \({last}\)"
    with pytest.raises(MapError, match=words):
        made.check_kernel()


def test_joining_extents_that_touch_brings_a_map_back_within_the_limits() -> None:
    cut = IdMap.of(*((n, 100000 + n, 1) for n in range(1000)))
    with pytest.raises(MapError, match="1000 extents"):
        cut.check_kernel()
    cut.canonical().check_kernel()
    assert cut.canonical().extents == (extent(0, 100000, 1000),)


@pytest.mark.parametrize(
    ("triple", "words"),
    [
        ((0, 0, 0), r"extent 0 0 0: the count is 0"),
        ((0, 0, -1), r"count is -1"),
        ((4294967295, 0, 1), r"inside of extent 4294967295 0 1: .* between 0 and 4294967294"),
        ((0, 4294967295, 1), r"outside of extent 0 4294967295 1"),
        ((4294967290, 0, 6), r"the IDs 4294967290 to 4294967295 do not lie"),
        ((0, 4294967294, 2), r"outside of .* the IDs 4294967294 to 4294967295"),
        ((1, 0, 4294967295), r"the IDs 1 to 4294967295"),
        ((0, 0, 4294967296), r"4294967296: the IDs 0 to 4294967295"),
        ((4294967295, 4294967295, 4294967295), r"do not lie"),
        ((-1, 0, 1), r"the IDs -1 to -1"),
        ((0, 0, 10**5000), r"a number of 16610 bits"),
    ],
)
def test_extents_that_leave_the_32_bits_are_refused(
    triple: tuple[int, int, int], words: str
) -> None:
    with pytest.raises(MapError, match=words) as refused:
        extent(*triple)
    assert refused.value.hint


@pytest.mark.parametrize(
    "triple",
    [(0, 0, 4294967295), (4294967294, 0, 1), (0, 4294967294, 1), (1, 4294967290, 5)],
)
def test_extents_up_to_the_very_last_id_are_taken(triple: tuple[int, int, int]) -> None:
    made = extent(*triple)
    assert made.outside_range.last <= MAX_ID
    IdMap((made,)).check_kernel()


@pytest.mark.parametrize(
    ("triples", "words"),
    [
        (
            [(0, 1000, 10), (9, 2000, 1)],
            r"extents \(0 1000 10\) and \(9 2000 1\) overlap on the inside: both have ID 9",
        ),
        (
            [(0, 1000, 10), (20, 995, 10)],
            r"\(20 995 10\) and \(0 1000 10\) overlap on the outside: both have IDs 1000 to 1004",
        ),
        ([(5, 0, 1), (5, 0, 1)], r"\(5 0 1\) and \(5 0 1\) overlap on the inside"),
        ([(0, 0, 4294967295), (7, 7, 1)], r"both have ID 7"),
    ],
)
def test_overlaps_name_both_extents(triples: list[tuple[int, int, int]], words: str) -> None:
    with pytest.raises(MapError, match=words):
        IdMap.of(*triples)


def test_extents_may_touch() -> None:
    made = IdMap.of((0, 1000, 10), (10, 1010, 5), (15, 990, 10))
    assert made.to_outside(InsideId(15)) == 990


def test_sides_are_told_apart_at_run_time() -> None:
    with pytest.raises(TypeError, match="not OutsideId and InsideId"):
        Extent(OutsideId(0), InsideId(0), 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not int and int"):
        Extent(0, 0, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not 5"):
        Range(5, 6)  # type: ignore[type-var]
    assert isinstance(InsideId(5), int)
    assert not isinstance(InsideId(5), OutsideId)


@pytest.mark.parametrize("number", [-1, 4294967295, 4294967296, 2**64])
def test_ids_that_cannot_exist(number: int) -> None:
    for side in (InsideId, OutsideId):
        with pytest.raises(MapError, match=f"{number} is not a usable ID"):
            side(number)


@pytest.mark.parametrize(("start", "count"), [(0, 0), (5, -2), (4294967294, 2), (1, 4294967295)])
def test_ranges_that_cannot_exist(start: int, count: int) -> None:
    with pytest.raises(MapError, match=f"range from {start}: "):
        Range.outside(start, count)


def test_range_of_everything() -> None:
    every = Range.inside(0, 4294967295)
    assert (every.end, every.last, len(every)) == (4294967295, 4294967294, 4294967295)
    assert str(every) == "0:4294967295"


def test_the_map_of_the_initial_namespace() -> None:
    initial = uid_map.parse("         0          0 4294967295\n")
    assert initial == IdMap.identity()
    assert initial.extents == (extent(0, 0, 4294967295),)
    initial.check_kernel()


@pytest.mark.parametrize(
    "text", ["0 4294967290 6", "4294967295 0 1", "0 0 4294967296", "4294967296 0 1", "0 0 0"]
)
def test_arithmetic_near_two_to_the_32_in_every_notation(text: str) -> None:
    for attempt in (
        lambda: uid_map.parse(text),
        lambda: explicit.parse(["u:" + text.replace(" ", ":")]),
        lambda: newuidmap.parse(["newuidmap", "1", *text.split()]),
    ):
        with pytest.raises((MapError, NotationError), match=r"out of range|do not lie"):
            attempt()


def test_values_are_readable_and_differ_from_other_things() -> None:
    made = IdMap.of((0, 1000, 1), (1, 100000, 65536))
    assert str(made) == "0 1000 1, 1 100000 65536"
    assert str(IdMap()) == "nothing mapped"
    assert str(made.outside_set()) == "1000:1, 100000:65536"
    assert str(IdMap().inside_set()) == "no IDs"
    assert made != "0 1000 1, 1 100000 65536"
    assert len({made, made.canonical()}) == 1
