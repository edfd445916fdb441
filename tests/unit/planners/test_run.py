"""The decisions of the planner of `sublet run`, one by one; whole plans are in tests/golden/run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sublet._value import replace
from sublet.mounts.operations import Bind, Overlay, Remount
from sublet.plan import capabilities
from sublet.plan.facts import Sysctls
from sublet.planners.identity import parse_ids
from sublet.planners.request import Account, BindMount, Request, RootFs
from sublet.planners.run import plan_run
from sublet.seccomp import default_filter
from sublet.seccomp.profile import ALLOW, Profile
from unit.planners.machines import DEBIAN, NO_SUB_IDS, ROOT

if TYPE_CHECKING:
    from typing import Literal

    from sublet.plan.facts import Facts
    from sublet.plan.model import Plan

ON_A_TERMINAL = replace(DEBIAN, terminals=(True, True, True))
TREE = RootFs("/srv/tree")
FULL = parse_ids(["full"])


def plan(facts: Facts = DEBIAN, **changes: object) -> Plan:
    return plan_run(replace(Request(("true",)), **changes), facts)


def targets(made: Plan) -> list[str]:
    return [operation.target for operation in made.operations]


def bound(made: Plan, target: str) -> Bind:
    (found,) = (one for one in made.operations if one.target == target and isinstance(one, Bind))
    return found


# ---------------------------------------------------------------- the system view


def test_what_a_system_is_made_of_is_read_only_and_links_stay_links() -> None:
    made = plan()
    assert {"/usr", "/etc", "/opt"} <= set(targets(made))
    assert not {"/boot", "/srv", "/lost+found", "/vmlinuz"} & set(targets(made))
    for target in ("/usr", "/etc", "/opt", DEBIAN.directory or ""):
        assert bound(made, target).attributes_set >= {"read_only", "nosuid", "nodev"}
    (link,) = (one for one in made.operations if one.target == "/bin")
    assert link.__dict__["text"] == "usr/bin"


@pytest.mark.parametrize(
    ("directory", "is_bound"),
    [
        ("/home/alice/project", True),
        ("/srv/x", True),
        ("/home/alice", True),
        ("/root", True),
        ("/tmp/build", True),
        ("/", False),
        ("/tmp", False),
        ("/home", False),
        ("/usr/src", False),
        ("/etc", False),
        ("/bin/x", False),
        ("/proc/self", False),
        ("/usrlocal", True),
    ],
)
def test_the_working_directory_is_bound_where_it_would_not_be_seen(
    directory: str, *, is_bound: bool
) -> None:
    made = plan(replace(DEBIAN, directory=directory))
    found = [one for one in made.operations if one.target == directory and isinstance(one, Bind)]
    known = {"/etc"}
    assert bool([one for one in found if one.target not in known]) == is_bound
    assert made.process.directory == directory


def test_a_working_directory_that_is_gone_is_the_root() -> None:
    assert plan(replace(DEBIAN, directory=None)).process.directory == "/"


def test_home_is_an_empty_directory_of_the_commands_own() -> None:
    made = plan(replace(DEBIAN, directory="/"), ids=parse_ids(["keep:405:100"]))
    (home,) = (one for one in made.operations if one.target == "/home/alice")
    assert (home.__dict__["uid"], home.__dict__["gid"]) == (405, 100)
    assert "/usr/games" not in targets(plan(replace(DEBIAN, home="/usr/games")))


def test_the_name_service_is_reachable_with_the_machines_network_only() -> None:
    real = DEBIAN.resolv_conf or ""
    assert real in targets(plan(net="host"))
    assert real not in targets(plan())
    within = replace(DEBIAN, resolv_conf="/etc/resolv.conf")
    assert "/etc/resolv.conf" not in targets(plan(within, net="host"))
    assert "/etc/resolv.conf" in targets(plan(within, net="host", root=TREE))


# ---------------------------------------------------------------- root file systems


def test_what_becomes_of_writes() -> None:
    def root_of(root: RootFs, facts: Facts = DEBIAN) -> object:
        return plan(facts, root=root, ids=FULL).operations[0]

    scratch = root_of(TREE)
    assert isinstance(scratch, Overlay)
    assert scratch.flags == {"scratch", "userxattr"}
    assert isinstance(root_of(replace(TREE, writes="stay")), Bind)
    kept = root_of(replace(TREE, writes="kept", upper="/u", work="/w"))
    assert isinstance(kept, Overlay)
    assert (kept.source, kept.work, kept.flags) == ("/u", "/w", frozenset({"userxattr"}))
    roots = root_of(TREE, ROOT)
    assert isinstance(roots, Overlay)
    assert roots.flags == {"scratch", "outside"}
    last = plan(root=replace(TREE, writes="refused"), ids=FULL).operations[-1]
    assert last == Remount("/", attributes_set=frozenset({"read_only"}))


def test_setuid_programs_are_for_maps_with_several_users() -> None:
    for text, nosuid in (("full", False), ("keep", True), ("root", True)):
        root = plan(root=TREE, ids=parse_ids([text])).operations[0]
        assert ("nosuid" in root.__dict__["attributes_set"]) is nosuid
        assert "nodev" in root.__dict__["attributes_set"]


def test_sys_is_fresh_where_the_network_is_the_sandboxs_own() -> None:
    def kind_of_sys(**changes: object) -> str:
        made = plan(**changes)  # type: ignore[arg-type]
        return next(one.kind for one in made.operations if one.target == "/sys")

    assert kind_of_sys(root=TREE) == "sysfs"
    assert kind_of_sys(root=TREE, net="host") == "bind"
    host = {"facts": ROOT, "ids": parse_ids(["host"])}
    assert kind_of_sys(root=TREE, net="host", **host) == "sysfs"


def test_only_the_privileged_make_mounts_outside() -> None:
    mounts = (BindMount("/data", "/srv"),)
    assert "outside" in bound(plan(ROOT, mounts=mounts), "/data").flags
    for facts in (DEBIAN, NO_SUB_IDS):
        assert "outside" not in bound(plan(facts, mounts=mounts), "/data").flags


def test_only_real_root_needs_masks() -> None:
    """Whoever is user 0 of the machine may write kernel.core_pattern, capabilities or not."""

    def masked(facts: Facts, text: str, root: RootFs | Literal["system", "host"]) -> bool:
        made = plan(facts, root=root, ids=parse_ids([text]))
        return "/proc/kcore" in targets(made) and "/proc/sys" in targets(made)

    views: tuple[RootFs | Literal["system", "host"], ...] = (TREE, "system", "host")
    for root in views:
        for text in ("host", "keep", "root", "full"):
            assert masked(ROOT, text, root), (text, root)
        assert not masked(ROOT, "nomap", root)
        for text in ("keep", "root", "full"):
            assert not masked(DEBIAN, text, root)


# ---------------------------------------------------------------- the process


def test_the_environment_of_a_root_file_system_is_that_of_its_user() -> None:
    callers = (("HOME", "/home/alice"), ("TERM", "xterm"), ("SECRET", "x"))
    account = Account(405, 100, (), "guest", "/home/guest")
    made = plan(root=TREE, ids=FULL, user=account, environment=callers)
    got = dict(entry.split("=", 1) for entry in made.process.environment)
    assert (got["HOME"], got["USER"], got["LOGNAME"]) == ("/home/guest", "guest", "guest")
    assert got["TERM"] == "xterm"
    assert "SECRET" not in got
    assert made.process.search_path == got["PATH"]


def test_pwd_follows_the_working_directory() -> None:
    callers = (("PWD", "/home/alice/project"), ("PATH", "/bin"))
    made = plan(environment=callers, directory="/usr")
    assert "PWD=/usr" in made.process.environment
    assert made.process.search_path == "/bin"


def test_a_filter_of_ones_own_gives_job_control_up_where_input_could_be_injected() -> None:
    old = replace(ON_A_TERMINAL, sysctls=Sysctls())
    on = replace(ON_A_TERMINAL, sysctls=Sysctls(legacy_tiocsti=1))
    own = Profile(ALLOW, ())
    for facts in (old, on):
        assert not plan(facts).process.new_session
        assert plan(facts, seccomp="none").process.new_session
        assert plan(facts, seccomp=own).process.new_session
        # a terminal of its own comes with a session of its own
        assert not plan(facts, seccomp="none", terminal=True).process.new_session
    assert not plan(ON_A_TERMINAL, seccomp="none").process.new_session
    assert not plan(replace(old, terminals=(False,) * 3), seccomp="none").process.new_session


def test_the_filter_fits_the_capabilities_that_the_command_could_have() -> None:
    names = capabilities.names(capabilities.CONTAINER)
    assert plan(ids=FULL).seccomp == default_filter("x86_64", frozenset(names), DEBIAN.kernel)
    assert plan().seccomp == default_filter("x86_64", frozenset(), DEBIAN.kernel)
    assert plan(seccomp="none").seccomp == b""


def test_descriptors_that_are_held_are_slots() -> None:
    assert plan(slots=("layer", "tree")).slots == ("layer", "tree")
