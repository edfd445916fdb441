from __future__ import annotations

import pytest

from sublet.ids import IdMap, InsideId, OutsideId, Range
from sublet.plan.facts import Facts, Helper, RootEntry, Subordinate
from sublet.plan.model import Maps
from sublet.plan.validate import validate
from sublet.planners.inside import lowest, owns_everything, plan_inside, whole_maps

EVERYTHING = (1 << 41) - 1
SUB_IDS = Subordinate((Range.outside(100000, 65536),), "file", "/etc/subuid")
ALICE = Facts(
    1001,
    1001,
    user="alice",
    subuids=SUB_IDS,
    subgids=SUB_IDS,
    newuidmap=Helper("/usr/bin/newuidmap", None),
    newgidmap=Helper("/usr/bin/newgidmap", None),
    root_entries=(
        RootEntry("bin", "symlink", "usr/bin"),
        RootEntry("etc", "directory"),
        RootEntry("home", "directory"),
        RootEntry("usr", "directory"),
    ),
)
ROOT = Facts(0, 0, capabilities=EVERYTHING, permitted=EVERYTHING, root_entries=ALICE.root_entries)
NOMAP = Maps(IdMap.of((0, 100000, 65536)), IdMap.of((0, 100000, 65536)))
KEEP = Maps(IdMap.of((1001, 1001, 1)), IdMap.of((1001, 1001, 1)))
COMMAND = ("/usr/bin/python3", "-c", "pass")


@pytest.mark.parametrize("facts", [ALICE, ROOT], ids=["alice", "root"])
@pytest.mark.parametrize("kind", ["whole", "nomap", "keep"])
def test_every_plan_is_a_valid_one(facts: Facts, kind: str) -> None:
    maps = {"whole": whole_maps(facts), "nomap": NOMAP, "keep": KEEP}[kind]
    plan = plan_inside(
        facts, maps, argv=COMMAND, directory="/d", readable=("/opt/py",), held="held"
    )
    validate(plan)
    assert plan.slots == ("held",)
    assert plan.credentials is not None
    assert plan.credentials.uid == lowest(maps.uid)
    assert plan.credentials.no_new_privs
    assert plan.supervision.die_with_parent


def test_one_directory_is_writable_and_nothing_private_is_there() -> None:
    plan = plan_inside(ALICE, whole_maps(ALICE), argv=COMMAND, directory="/secret/d")
    targets = {operation.target: operation for operation in plan.operations}
    assert {"/usr", "/bin", "/tree"} <= targets.keys()
    assert not {"/etc", "/home", "/proc", "/dev"} & targets.keys()
    writable = [
        operation.target
        for operation in plan.operations
        if operation.kind == "bind" and "read_only" not in getattr(operation, "attributes_set", ())
    ]
    assert writable == ["/tree"]
    assert {"net", "pid", "user", "mount"} <= plan.namespaces


def test_an_ordinary_caller_is_added_where_the_map_leaves_room() -> None:
    plan = plan_inside(ALICE, NOMAP, argv=COMMAND, directory="/d")
    (maps,) = plan.maps
    assert maps.uid == IdMap.of((0, 100000, 65536), (65536, 1001, 1))
    assert plan.user_namespace.writer == "helpers"
    holes = Maps(IdMap.of((0, 100000, 5), (6, 100005, 5)), IdMap.of((1, 100000, 10)))
    (maps,) = plan_inside(ALICE, holes, argv=COMMAND, directory="/d").maps
    assert maps.uid.to_inside(OutsideId(1001)) == 5
    assert maps.gid.to_inside(OutsideId(1001)) == 0


def test_root_stays_out_of_a_map_of_others() -> None:
    (maps,) = plan_inside(ROOT, NOMAP, argv=COMMAND, directory="/d").maps
    assert maps == NOMAP
    assert plan_inside(ROOT, None, argv=COMMAND, directory="/d").maps == ()


def test_the_whole_map_has_all_that_the_caller_can_have() -> None:
    maps = whole_maps(ALICE)
    assert maps.uid.to_outside(InsideId(0)) == 1001
    for number in (1001, 100000, 165535):
        assert maps.uid.to_inside(OutsideId(number)) is not None
    alone = whole_maps(Facts(1002, 1002))
    assert alone == Maps(IdMap.of((0, 1002, 1)), IdMap.of((0, 1002, 1)))


def test_who_owns_everything() -> None:
    assert owns_everything(ROOT)
    assert not owns_everything(ALICE)
    assert not owns_everything(Facts(0, 0, capabilities=EVERYTHING & ~1))
