"""The named maps on the figures that the real tools show."""

from __future__ import annotations

import pytest

from sublet.errors import MapError, NotDelegatedError
from sublet.ids import IdMap, InsideId, OutsideId, Range
from sublet.ids.layouts import Delegation, full, keep, keep_id, nomap, root
from sublet.ids.notation import subid, uid_map

ALICE = OutsideId(1001)


def delegation(*ranges: tuple[int, int], caller: OutsideId = ALICE) -> Delegation:
    return Delegation(caller, tuple(Range.outside(*r) for r in ranges), "alice", "/etc/subuid")


USUAL = delegation((100000, 65536))


def test_keep_and_root() -> None:
    assert uid_map.render(keep(ALICE)) == "1001 1001 1\n"
    assert uid_map.render(root(ALICE)) == "0 1001 1\n"
    assert uid_map.render(keep(ALICE, InsideId(2000))) == "2000 1001 1\n"


def test_full_is_the_map_of_rootless_podman_and_docker() -> None:
    assert uid_map.render(full(USUAL)) == "0 1001 1\n1 100000 65536\n"


def test_full_walks_ranges_in_the_order_of_the_file() -> None:
    made = full(delegation((300000, 10), (100000, 20)))
    assert uid_map.render(made) == "0 1001 1\n1 300000 10\n11 100000 20\n"


def test_the_caller_stays_an_extent_of_its_own_beside_a_touching_range() -> None:
    made = full(delegation((1002, 65536)))
    assert uid_map.render(made) == "0 1001 1\n1 1002 65536\n"


def test_a_delegated_own_id_is_not_mapped_twice() -> None:
    made = full(delegation((1001, 1), (165536, 65535)))
    assert uid_map.render(made) == "0 1001 1\n1 165536 65535\n"
    middle = full(delegation((1000, 3)))
    assert uid_map.render(middle) == "0 1001 1\n1 1000 1\n2 1002 1\n"
    assert nomap(delegation((1001, 1), (165536, 65535))) == IdMap.of((0, 165536, 65535))


def test_keep_id_is_podmans_map_seen_from_the_machine() -> None:
    # podman: 0 1 1001, 1001 0 1, 1002 1002 64535, relative to its own namespace (the full map)
    relative = IdMap.of((0, 1, 1001), (1001, 0, 1), (1002, 1002, 64535))
    assert keep_id(USUAL) == relative.compose(full(USUAL))
    assert uid_map.render(keep_id(USUAL)) == "0 100000 1001\n1001 1001 1\n1002 101001 64535\n"


def test_keep_id_with_another_id_inside() -> None:
    relative = IdMap.of((0, 1, 405), (405, 0, 1), (406, 406, 65536 - 405))
    assert keep_id(USUAL, InsideId(405)) == relative.compose(full(USUAL))
    assert uid_map.render(keep_id(USUAL, InsideId(0))) == uid_map.render(full(USUAL))


def test_keep_id_beyond_the_ranges_leaves_a_gap_as_podman_does() -> None:
    made = keep_id(USUAL, InsideId(100000))
    assert uid_map.render(made) == "0 100000 65536\n100000 1001 1\n"
    assert uid_map.render(keep_id(USUAL, InsideId(65536))) == "0 100000 65536\n65536 1001 1\n"


def test_nomap_is_podmans_map_relative_to_the_full_map() -> None:
    assert nomap(USUAL) == IdMap.of((0, 1, 65536)).compose(full(USUAL))
    assert nomap(USUAL).to_inside(ALICE) is None


def test_the_whole_of_the_32_bits_delegated() -> None:
    everything = delegation((0, 4294967295))
    made = full(everything)
    made.check_kernel()
    assert len(made.inside_set()) == 4294967295
    assert made.to_outside(InsideId(4294967294)) == 4294967294


@pytest.mark.parametrize("ranges", [(), ((1001, 1),)])
def test_nothing_delegated_names_the_line_to_add(ranges: tuple[tuple[int, int], ...]) -> None:
    for layout in (full, keep_id, nomap):
        with pytest.raises(NotDelegatedError, match="alice in /etc/subuid") as refused:
            layout(delegation(*ranges))
        assert refused.value.path == "/etc/subuid"
        assert refused.value.hint == ('As root, add the line "alice:100000:65536" to /etc/subuid.')


def test_the_line_to_add_is_one_that_is_free() -> None:
    file = subid.parse("bob:100000:65536\n")
    free = file.free_range()
    assert free is not None
    nothing = Delegation(ALICE, file.ranges("alice", 1001), "alice", "/etc/subgid", free)
    with pytest.raises(NotDelegatedError) as refused:
        full(nothing)
    assert '"alice:165536:65536" to /etc/subgid' in str(refused.value.hint)


@pytest.mark.parametrize(
    "ranges",
    [
        ((100000, 65536), (100000, 65536)),
        ((100000, 65536), (300000, 10), (165535, 10)),
        ((0, 4294967295), (7, 1)),
    ],
)
def test_overlapping_lines_are_named(ranges: tuple[tuple[int, int], ...]) -> None:
    for layout in (full, keep_id, nomap):
        with pytest.raises(MapError, match=r"the ranges .* and .* of alice overlap") as refused:
            layout(delegation(*ranges))
        assert "/etc/subuid" in str(refused.value.hint)
