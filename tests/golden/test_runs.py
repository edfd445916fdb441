"""What `sublet run` plans: a command line and made-up facts on one side, the plan on the other."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from sublet._value import replace
from sublet.cli._options import parse
from sublet.cli.run import OPTIONS, make_request
from sublet.plan.codec import decode, encode
from sublet.plan.jsonform import from_json, to_json
from sublet.planners.identity import parse_ids
from sublet.planners.request import Account, RootFs
from sublet.planners.run import plan_run
from unit.planners.machines import DEBIAN, NO_SUB_IDS, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from sublet.plan.facts import Facts
    from sublet.plan.model import Plan

    Root = Literal["system", "host"] | RootFs

TREE = "/srv/debian"
VANISH, STAY = RootFs(TREE), RootFs(TREE, "stay")
KEPT = RootFs(TREE, "kept", "/data/upper", "/data/work")
REFUSED = RootFs(TREE, "refused")
APT = Account(42, 65534, (), "_apt", "/nonexistent")

# name -> command line, facts, and the root file system and user that were looked up for it
CASES: dict[str, tuple[str, Facts, RootFs | None, Account | None]] = {
    "keep": ("-- true", DEBIAN, None, None),
    "keep_as_root": ("-- true", ROOT, None, None),
    "keep_without_sub_ids": ("-- true", NO_SUB_IDS, None, None),
    "root": ("--ids root -- id", DEBIAN, None, None),
    "full": ("--ids full -- id", DEBIAN, None, None),
    "keep_id": ("--ids keep:405:100 -- id", DEBIAN, None, None),
    "nomap": ("--ids nomap -- id", DEBIAN, None, None),
    "host_ids": ("--ids host --rootfs . -- id", ROOT, VANISH, None),
    "explicit": ("--ids b:0:100000:65536 --rootfs . -- id", ROOT, VANISH, None),
    "view_host": ("--view host --net host -- ls /", DEBIAN, None, None),
    "net_host": ("--net host -- curl example.org", DEBIAN, None, None),
    "rootfs": ("--ids full --rootfs . -- ls -l /", DEBIAN, VANISH, None),
    "rootfs_net_host": ("--ids full --net host --rootfs . -- apt-get update", DEBIAN, VANISH, None),
    "rootfs_user": ("--ids full --user _apt --rootfs . -- id", DEBIAN, VANISH, APT),
    "rootfs_keep": ("--rootfs . -- id", DEBIAN, VANISH, None),
    "rootfs_writable": ("--ids full --writable --rootfs . -- sh", DEBIAN, STAY, None),
    "rootfs_named": ("--ids full --name web --rootfs . -- sh", DEBIAN, KEPT, None),
    "rootfs_read_only": ("--ids full --read-only --rootfs . -- sh", DEBIAN, REFUSED, None),
    "mounts": (
        "-v src:/src:ro --rw . --tmpfs /scratch:size=64m --dev-bind /dev/kvm -w sub -- make",
        DEBIAN,
        None,
        None,
    ),
    "process": (
        (
            "-t -e A=1 -e TERM -e NOT --clearenv --hostname box --ulimit nofile=64:128"
            " --timeout 1.5 --die-with-parent --seccomp none -- sh -c true"
        ),
        DEBIAN,
        None,
        None,
    ),
    "privileges": (
        "--cap-add NET_ADMIN --cap-drop CHOWN --ids root --no-new-privs -- ip link",
        DEBIAN,
        None,
        None,
    ),
}


def plan_of(name: str, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Return the plan of a case, for a caller with a small environment."""
    line, facts, root, account = CASES[name]
    environment = {"HOME": facts.home, "PATH": "/usr/bin:/bin", "TERM": "xterm", "LANG": "de_DE"}
    for variable in os.environ:
        monkeypatch.delenv(variable)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    given = parse("run", OPTIONS, line.split())
    given.values.pop("user", None)
    ids = parse_ids(given.all("ids") or ["keep"])
    view: Root = "host" if given.values.get("view") == "host" else "system"
    monkeypatch.setattr("sublet.cli._rootfs.whoever", lambda *_: None)
    request = make_request(given, facts, ids, root or view)
    return plan_run(replace(request, user=account), facts)


@pytest.mark.parametrize("name", CASES)
def test_plan(
    name: str, golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    golden(f"run/{name}.json", to_json(plan_of(name, monkeypatch)).rstrip() + "\n")


@pytest.mark.parametrize("name", CASES)
def test_plans_survive_both_forms(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(name, monkeypatch)
    assert decode(encode(plan)) == plan
    assert from_json(to_json(plan)) == plan
