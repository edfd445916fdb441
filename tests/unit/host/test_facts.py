"""Facts of machines that are made up as files below a directory."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from sublet.errors import HostError
from sublet.host import Host, read_facts
from sublet.host.read import parse_release
from sublet.ids import IdMap, Range
from sublet.plan.facts import Cgroup, RootEntry

if TYPE_CHECKING:
    from pathlib import Path

STATUS = """\
Name:\tpython3
Umask:\t0022
Uid:\t1000\t1000\t1000\t1000
Gid:\t1000\t1000\t1000\t1000
Groups:\t27 1000
CapInh:\t0000000000000000
CapPrm:\t0000000000000000
CapEff:\t0000000000000000
CapBnd:\t000001ffffffffff
NoNewPrivs:\t0
"""
USERS = """\
root:x:0:0:root:/root:/bin/bash
alice:x:1000:1000::/home/alice:/bin/bash
bob:x:1001:1001::/home/bob:/bin/bash
"""


class Machine:
    """A machine of files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environ = {"USER": "alice", "HOME": "/home/alice", "PATH": "/opt/bin:/usr/bin"}
        self.put("proc/self/status", STATUS)
        self.put("proc/self/uid_map", "         0          0 4294967295\n")
        self.put("proc/self/gid_map", "         0          0 4294967295\n")
        (root / "proc/self/ns").mkdir()
        (root / "proc/self/ns/user").symlink_to("user:[4026531837]")
        self.put("etc/passwd", USERS)
        self.put("etc/subuid", "bob:100000:65536\nalice:165536:65536\n# end\n1000:300000:10\n")
        self.put("etc/subgid", "alice:500000:1000\n")
        self.put("usr/bin/newuidmap", "", 0o4755)
        self.put("usr/bin/newgidmap", "", 0o4755)

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    @property
    def host(self) -> Host:
        return Host(str(self.root), self.environ)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_who_we_are(machine: Machine) -> None:
    facts = read_facts(machine.host)
    assert (facts.uid, facts.gid, facts.euid, facts.egid) == (1000, 1000, 1000, 1000)
    assert (facts.user, facts.home, facts.owner) == ("alice", "/home/alice", "alice")
    assert facts.groups == (27, 1000)
    assert facts.initial_user_namespace
    assert facts.uid_map == IdMap.of((0, 0, 4294967295))
    assert (facts.capabilities, facts.bounding) == (0, 0x1FFFFFFFFFF)
    assert not facts.capable(21)


def test_the_name_in_the_environment_is_not_believed(machine: Machine) -> None:
    machine.environ["USER"] = "bob"
    facts = read_facts(machine.host)
    assert facts.user == "alice"
    assert facts.subuids.ranges == (Range.outside(165536, 65536), Range.outside(300000, 10))


def test_a_user_without_a_name(machine: Machine) -> None:
    machine.put("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n")
    facts = read_facts(machine.host)
    assert (facts.user, facts.owner) == (None, "1000")
    assert facts.subuids.ranges == (Range.outside(300000, 10),)
    assert facts.subgids.ranges == ()


def test_what_is_delegated_keeps_the_order_of_the_file(machine: Machine) -> None:
    machine.put("etc/subuid", "1000:900000:5\nalice:7:1\nalice:junk:1\nalice:100:0\nbob:1:1\n")
    facts = read_facts(machine.host)
    assert facts.subuids.ranges == (Range.outside(900000, 5), Range.outside(7, 1))
    assert (facts.subuids.source, facts.subuids.file) == ("file", "/etc/subuid")
    assert facts.subuids.suggested == Range.outside(900005, 65536)


def test_files_that_are_not_there(machine: Machine) -> None:
    (machine.root / "etc/subuid").unlink()
    (machine.root / "usr/bin/newuidmap").unlink()
    facts = read_facts(machine.host)
    assert (facts.subuids.ranges, facts.subuids.source) == ((), "none")
    assert facts.newuidmap.path is None
    assert not facts.newuidmap.usable
    assert facts.newgidmap.usable


def test_no_room_for_a_suggestion(machine: Machine) -> None:
    machine.put("etc/subuid", "bob:100000:4294867295\n")
    assert read_facts(machine.host).subuids.suggested is None


@pytest.mark.parametrize("line", ["subid: sss\n", "subid: files sss\n", "  subid :sss # x\n"])
def test_getsubids_is_asked_where_nsswitch_says_so(machine: Machine, line: str) -> None:
    machine.put("etc/nsswitch.conf", "passwd: files\n" + line)
    script = (
        f"#!{sys.executable} -I\nimport sys\n"
        "print('0: alice', '7000' if '-g' in sys.argv else '6000', '50')\nprint('junk')\n"
    )
    machine.put("usr/bin/getsubids", script, 0o755)
    facts = read_facts(machine.host)
    assert (facts.subuids.ranges, facts.subuids.source) == ((Range.outside(6000, 50),), "getsubids")
    assert facts.subgids.ranges == (Range.outside(7000, 50),)


@pytest.mark.parametrize("line", ["subid: files\n", "# subid: sss\n", "subidx: sss\n", "subid:\n"])
def test_getsubids_is_not_asked_otherwise(machine: Machine, line: str) -> None:
    machine.put("etc/nsswitch.conf", line)
    machine.put("usr/bin/getsubids", "#!/bin/false\n", 0o755)
    assert read_facts(machine.host).subuids.source == "file"


def test_helpers_that_cannot_work(machine: Machine) -> None:
    machine.put("usr/bin/newuidmap", "", 0o755)
    facts = read_facts(machine.host)
    assert facts.newuidmap.problem == "unprivileged"
    assert facts.newuidmap.path == "/usr/bin/newuidmap"
    machine.put("opt/bin/newgidmap", "", 0o4755)
    machine.put("proc/self/status", STATUS.replace("NoNewPrivs:\t0", "NoNewPrivs:\t1"))
    facts = read_facts(machine.host)
    assert (facts.newgidmap.path, facts.newgidmap.problem) == ("/opt/bin/newgidmap", "no_new_privs")
    assert facts.no_new_privs


def test_sysctls(machine: Machine) -> None:
    machine.put("proc/sys/user/max_user_namespaces", "0\n")
    machine.put("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n")
    sysctls = read_facts(machine.host).sysctls
    assert sysctls.max_user_namespaces == 0
    assert sysctls.apparmor_restrict_unprivileged_userns == 1
    assert sysctls.unprivileged_userns_clone is None


def test_nested_namespaces(machine: Machine) -> None:
    (machine.root / "proc/self/ns/user").unlink()
    (machine.root / "proc/self/ns/user").symlink_to("user:[4026532999]")
    machine.put("proc/self/uid_map", "         0       1000          1\n  1 165536 65536\n")
    facts = read_facts(machine.host)
    assert not facts.initial_user_namespace
    assert facts.uid_map == IdMap.of((0, 1000, 1), (1, 165536, 65536))


def test_the_initial_namespace_is_not_told_by_its_map(machine: Machine) -> None:
    (machine.root / "proc/self/ns/user").unlink()
    (machine.root / "proc/self/ns/user").symlink_to("user:[4026532999]")
    assert not read_facts(machine.host).initial_user_namespace


def test_what_stands_below_the_root(machine: Machine) -> None:
    (machine.root / "bin").symlink_to("usr/bin")
    machine.put("vmlinuz", "")
    entries = read_facts(machine.host).root_entries
    assert RootEntry("bin", "symlink", "usr/bin") in entries
    assert RootEntry("usr", "directory") in entries
    assert RootEntry("vmlinuz", "other") in entries
    assert [entry.name for entry in entries] == sorted(entry.name for entry in entries)


def test_where_resolv_conf_really_is(machine: Machine) -> None:
    assert read_facts(machine.host).resolv_conf is None
    (machine.root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    assert read_facts(machine.host).resolv_conf is None
    machine.put("run/systemd/resolve/stub-resolv.conf", "")
    assert read_facts(machine.host).resolv_conf == "/run/systemd/resolve/stub-resolv.conf"


def test_only_what_is_needed_is_read(machine: Machine) -> None:
    facts = read_facts(machine.host, need=())
    assert facts.subuids.ranges == ()
    assert facts.root_entries == ()
    assert facts.uid == 1000


def test_without_proc_nothing_goes(machine: Machine) -> None:
    (machine.root / "proc/self/status").unlink()
    with pytest.raises(HostError, match="status") as caught:
        read_facts(machine.host)
    assert "proc" in str(caught.value.hint)


def test_cgroups_of_both_versions(machine: Machine) -> None:
    machine.put("proc/self/cgroup", "5:cpu,cpuacct:/user\n1:name=systemd:/a:b\n0::/user.slice/x\n")
    machine.put(
        "proc/self/mountinfo",
        "30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "31 25 0:27 / /sys/fs/cgroup/unified\\040two rw shared:9 - cgroup2 cgroup2 rw\n"
        "32 25 0:28 /other /elsewhere rw - cgroup cgroup rw,xattr,name=systemd\n",
    )
    group = "sys/fs/cgroup/unified two/user.slice/x"
    machine.put(f"{group}/cgroup.controllers", "memory pids\n")
    machine.put(f"{group}/cgroup.procs", "")
    assert read_facts(machine.host).cgroups == (
        Cgroup(1, ("cpu", "cpuacct"), "/user", "/sys/fs/cgroup/cpu,cpuacct/user"),
        Cgroup(1, ("name=systemd",), "/a:b"),
        Cgroup(2, ("memory", "pids"), "/user.slice/x", f"/{group}", writable=True),
    )


def test_a_cgroup_seen_through_a_mount_of_its_own(machine: Machine) -> None:
    machine.put("proc/self/cgroup", "0::/pod/one\n")
    mount = "31 25 0:27 /pod /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    machine.put("proc/self/mountinfo", mount)
    (found,) = read_facts(machine.host).cgroups
    assert (found.path, found.controllers, found.writable) == ("/sys/fs/cgroup/one", (), False)


@pytest.mark.parametrize(
    ("release", "version"),
    [("6.18.44-fc-v769", (6, 18)), ("5.4", (5, 4)), ("6.8.0-1", (6, 8)), ("7-rc1", (7, 0))],
)
def test_kernel_versions(release: str, version: tuple[int, int]) -> None:
    assert parse_release(release) == version


def test_reading_is_bounded_and_never_blocks(machine: Machine) -> None:
    os.mkfifo(machine.root / "etc/nsswitch.conf")
    machine.put("etc/subuid", "bob:1:1\n" * 200_000 + "alice:9:9\n")
    facts = read_facts(machine.host)
    assert facts.subuids.ranges == ()


def test_this_machine() -> None:
    facts = read_facts()
    assert (facts.uid, facts.gid) == (os.getuid(), os.getgid())
    assert facts.directory == os.getcwd()
    assert {entry.name for entry in facts.root_entries} == set(os.listdir("/"))
    assert sorted(facts.groups) == sorted(os.getgroups())
