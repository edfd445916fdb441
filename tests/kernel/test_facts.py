"""Facts and probes on the machine itself, as root and as ordinary users."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support import installed

if TYPE_CHECKING:
    from support.users import User

SOURCE = Path(installed.CHECKOUT) / "src"

FACTS = """
import sys
sys.path.insert(0, sys.argv[1])
from sublet.host import read_facts
facts = read_facts()
import json
print(json.dumps({
    "uid": facts.uid, "gid": facts.gid, "user": facts.user, "home": facts.home,
    "groups": facts.groups, "initial": facts.initial_user_namespace,
    "subuids": [[int(r.start), r.count] for r in facts.subuids.ranges],
    "subgids": [[int(r.start), r.count] for r in facts.subgids.ranges],
    "uid_map": str(facts.uid_map), "capabilities": facts.capabilities,
    "newuidmap": facts.newuidmap.problem,
}))
"""


@pytest.fixture(scope="module")
def library(place: Path) -> str:
    """The package where every user can read it."""
    library = place / f"facts-{os.getpid()}"  # each worker has its own
    library.mkdir(mode=0o755)
    shutil.copytree(SOURCE / "sublet", library / "sublet", ignore=shutil.ignore_patterns("*.pyc"))
    for folder, _, names in os.walk(library):
        Path(folder).chmod(0o755)
        for name in names:
            (Path(folder) / name).chmod(0o644)
    return str(library)


def facts_of(user: User, library: str, *prefix: str) -> dict[str, Any]:
    argv = [*prefix, installed.interpreter(), "-I", "-S", "-c", FACTS, library]
    done = user.run(argv)
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = json.loads(done.stdout)
    return read


def test_each_user_is_who_they_are(everyone: User, library: str) -> None:
    facts = facts_of(everyone, library)
    assert (facts["uid"], facts["gid"]) == (everyone.uid, everyone.gid)
    assert (facts["user"], facts["home"]) == (everyone.name, str(everyone.home))
    expected = [[everyone.sub_ids.start, len(everyone.sub_ids)]] if everyone.sub_ids else []
    assert facts["subuids"] == facts["subgids"] == expected
    assert facts["initial"]
    assert bool(facts["capabilities"]) == (everyone.uid == 0)


@pytest.mark.requires("userns", "command:unshare")
def test_inside_a_user_namespace(anyone: User, library: str) -> None:
    facts = facts_of(anyone, library, "unshare", "--user", "--map-root-user")
    assert not facts["initial"]
    assert facts["uid"] == 0
    assert facts["uid_map"] == f"0 {anyone.uid} 1"
    assert facts["capabilities"]


@pytest.mark.requires("newuidmap", "command:setpriv")
def test_helpers_do_not_work_with_no_new_privs(alice: User, library: str) -> None:
    assert facts_of(alice, library)["newuidmap"] is None
    facts = facts_of(alice, library, "setpriv", "--no-new-privs")
    assert facts["newuidmap"] == "no_new_privs"


@pytest.mark.requires("root", "userns", "kernel>=5.12")
def test_probing_agrees_with_doing(library: str, alice: User) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from sublet.host.probe import probe\nf = probe()\n"
        "print(f.user_namespaces, f.mount_setattr, 'tmpfs' in f.idmapped, f.landlock >= 0)"
    )
    done = alice.run([installed.interpreter(), "-I", "-S", "-c", script, library])
    assert done.returncode == 0, done.stderr
    known, expected = done.stdout.split(), ["True", "True"]
    assert known[:2] == expected
    # tmpfs takes ID maps since 6.3
    assert (known[2] == "True") == (_kernel() >= (6, 3))


@pytest.mark.requires("userns", "command:unshare")
def test_no_user_namespaces_is_an_answer(library: str) -> None:
    """The probe says no, and does not fail, where the sysctl of a namespace above forbids it."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "open('/proc/sys/user/max_user_namespaces', 'w').write('0')\n"
        "from sublet.host.probe import probe\nfrom sublet.host import read_facts\n"
        "f = probe()\nprint(f.user_namespaces, sorted(f.untested))\n"
        "print(read_facts().sysctls.max_user_namespaces)"
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", sys.executable, "-I", "-S", "-c", script, library],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "False ['idmapped', 'overlay', 'overlay_userxattr']"
    assert second == "0"


@pytest.mark.requires("root")
def test_a_directory_that_denies_is_named(alice: User, library: str) -> None:
    closed = alice.mkdir("open") / "closed"
    (closed / "below").mkdir(parents=True)
    closed.chmod(0o700)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from sublet.host.sources import look\nf = look(sys.argv[2])\nprint(f.kind, f.component)"
    )
    argv = [installed.interpreter(), "-I", "-S", "-c", script, library, str(closed / "below")]
    assert alice.run(argv).stdout.split() == ["denied", str(closed)]
    closed.chmod(0o755)
    assert alice.run(argv).stdout.split() == ["directory", "None"]


def _kernel() -> tuple[int, int]:
    from sublet.host.read import parse_release

    return parse_release(os.uname().release)
