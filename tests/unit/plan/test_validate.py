"""Each rule of validation is broken once, and the sentence names what and where."""

from __future__ import annotations

from typing import Any

import pytest

from sublet._value import replace
from sublet.errors import PlanError
from sublet.ids import IdMap
from sublet.mounts.operations import (
    Bind,
    BindFile,
    Chmod,
    Device,
    Directory,
    File,
    Mask,
    Operation,
    Overlay,
    Proc,
    Remount,
    Symlink,
    Sysctl,
    Tmpfs,
)
from sublet.plan.model import (
    Credentials,
    Descriptor,
    Join,
    Maps,
    Plan,
    Process,
    Rlimit,
    Supervision,
    UserNamespace,
)
from sublet.plan.validate import validate

ONE = IdMap.of((0, 1000, 1))
MANY = IdMap.of((0, 1000, 1), (1, 100000, 65536))
GOOD = Plan(
    process=Process(("/bin/true",)),
    namespaces=frozenset(("user", "mount", "pid", "net", "uts")),
    maps=(Maps(MANY, MANY),),
    user_namespace=UserNamespace(writer="direct"),
    slots=("s",),
)


def flags(*names: str) -> frozenset[Any]:
    return frozenset(names)


def test_the_plan_that_is_broken_below_is_good() -> None:
    validate(GOOD)


@pytest.mark.parametrize(
    ("operation", "sentence"),
    [
        (Operation("/x"), "operation 1 (Operation /x): there is no such kind"),
        (Proc("proc"), "operation 1 (proc proc): target: 'proc' is not absolute"),
        (Proc(""), "operation 1 (proc ): target: '' is not absolute"),
        (Proc("/a/../b"), "target: '/a/../b' has .. in it"),
        (Proc("/.."), "target: '/..' has .. in it"),
        (Proc("/a/"), "target: '/a/' is not normalised"),
        (Proc("//a"), "target: '//a' is not normalised"),
        (Proc("/a/./b"), "target: '/a/./b' is not normalised"),
        (Proc("/a\0b"), "target: has a NUL in it"),
        (Proc("/a\ud800"), "target: has half of a surrogate pair in it"),
        (Mask("/"), "target: this cannot be done to the root itself"),
        (Proc("/p", flags=flags("outside", "x")), "flags: outside, x means nothing here"),
        (Bind("/x"), "exactly one of source and slot must be given"),
        (Bind("/x", source="/y", slot="s"), "exactly one of source and slot must be given"),
        (Bind("/x", source="y"), "source: 'y' is not absolute"),
        (Bind("/x", source=""), "source: '' is not absolute"),
        (Bind("/x", source="/\0"), "source: has a NUL in it"),
        (Bind("/x", slot="t"), "slot: the plan has no slot 't'"),
        (Bind("/x", slot="s", map=1), "map: there is no map 1; the plan has 1"),
        (Bind("/x", slot="s", map=-1), "map: there is no map -1; the plan has 1"),
        (Bind("/x", slot="s", map=0, flags=flags("own_map")), "own_map and a map exclude"),
        (Bind("/x", slot="s", attributes_set=flags("sync")), "attributes_set: sync: no such"),
        (
            Bind("/x", slot="s", attributes_set=flags("noatime", "strictatime")),
            "attributes_set: noatime and strictatime exclude one another",
        ),
        (
            Bind("/x", slot="s", attributes_set=flags("nodev"), attributes_clear=flags("nodev")),
            "attributes: nodev both set and cleared",
        ),
        (
            Remount("/x", attributes_set=flags("nodev"), attributes_clear=flags("nodev")),
            "attributes: nodev both set and cleared",
        ),
        (Bind("/x", slot="s", propagation="up"), "propagation: 'up' is no propagation"),  # type: ignore[arg-type]
        (Overlay("/x"), "lower: there must be one at least"),
        (Overlay("/x", lower=("/a", "b")), "lower: 'b' is not absolute"),
        (Overlay("/x", lower=("/a",), source="/u"), "source and work must be given together"),
        (Overlay("/x", lower=("/a",), work="/w"), "source and work must be given together"),
        (Overlay("/x", lower=("/a",), size=1), "size: only scratch has a size"),
        (
            Overlay("/x", lower=("/a",), source="/u", work="/w", flags=flags("scratch")),
            "flags: scratch makes its own upper directory",
        ),
        (Tmpfs("/x", size=-1), "size: -1 is no 64-bit number"),
        (Tmpfs("/x", size=2**64), "size: 18446744073709551616 is no 64-bit number"),
        (Tmpfs("/x", mode=0o10000), "mode: 0o10000 is no mode"),
        (Tmpfs("/x", uid=4294967295), "uid: 4294967295 is no usable ID"),
        (Tmpfs("/x", gid=-1), "gid: -1 is no usable ID"),
        (Tmpfs("/x", options=("a", "")), "options: '' is empty"),
        (Device("/x"), "source: '' is not absolute"),
        (Device("/x", source="/x", device_major=4096), "device_major: 4096 is no major number"),
        (Device("/x", source="/x", device_minor=1 << 20), "device_minor: 1048576 is no minor"),
        (Directory("/x", flags=flags("exclusive", "if_missing")), "exclude one another"),
        (File("/x", content=b"x", slot="s"), "content and slot exclude one another"),
        (BindFile("/x", content=b"x", slot="s"), "content and slot exclude one another"),
        (Symlink("/x"), "text: is empty"),
        (Chmod("/x"), "mode: it must be given"),
        (Sysctl("/kernel/x", text="1"), "target: '/kernel/x' is not normalised"),
        (Sysctl("../x", text="1"), "target: '../x' has .. in it"),
        (Sysctl("kernel/x"), "text: is empty"),
    ],
)
def test_a_wrong_operation_is_named(operation: Operation, sentence: str) -> None:
    plan = replace(GOOD, operations=(Proc("/proc"), operation))
    with pytest.raises(PlanError) as caught:
        validate(plan)
    assert str(caught.value).startswith("operation 1 (")
    assert sentence in str(caught.value)
    assert caught.value.path == operation.target


def test_own_map_needs_a_map() -> None:
    bind = Bind("/x", source="/x", flags=flags("own_map"))
    with pytest.raises(PlanError, match="own_map, but the plan has no map"):
        validate(Plan(Process(("/x",)), operations=(bind,)))


def process(**changes: Any) -> Plan:
    return replace(GOOD, process=replace(GOOD.process, **changes))


def user(**changes: Any) -> Plan:
    return replace(GOOD, user_namespace=replace(GOOD.user_namespace, **changes))


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        (process(argv=()), "process.argv: there is no command"),
        (process(argv=("/x", "\0")), "process.argv[1]: has a NUL in it"),
        (process(argv=("",)), "process.command: is empty"),
        (process(argv=("x",)), "process.command: 'x' has no slash, and there is no search_path"),
        (process(command="x"), "process.command: 'x' has no slash, and there is no search_path"),
        (process(environment=("A=1", "B")), "process.environment[1]: 'B' is not NAME=VALUE"),
        (process(environment=("=1",)), "process.environment[0]: '=1' is not NAME=VALUE"),
        (process(environment=("A=\0",)), "process.environment[0]: has a NUL in it"),
        (process(directory="x"), "process.directory: 'x' is not absolute"),
        (process(umask=0o1000), "process.umask: 0o1000 is no umask"),
        (process(rlimits=(Rlimit(16, 0, 0),)), "process.rlimits: 16 is no resource"),
        (process(rlimits=(Rlimit(1, 0, 0), Rlimit(1, 0, 0))), "process.rlimits: 1 is no resource"),
        (process(rlimits=(Rlimit(1, 2, 1),)), "process.rlimits: 2:1 is no soft and hard limit"),
        (process(descriptors=(Descriptor("t", 3),)), "the plan has no slot 't'"),
        (process(descriptors=(Descriptor("s", -1),)), "process.descriptors: -1 is no number"),
        (process(descriptors=(Descriptor("s", 1024),)), "process.descriptors: 1024 is no number"),
        (process(descriptors=(Descriptor("s", 3),) * 2), "process.descriptors: 3 is no number"),
        (
            process(terminal=True, descriptors=(Descriptor("s", 2),)),
            "process.descriptors: 2 is the terminal's",
        ),
        (replace(GOOD, seccomp=b"x" * 9), "seccomp: 9 bytes are no whole number"),
        (replace(GOOD, seccomp=b"x" * 8 * 4097), "seccomp: the kernel takes 4096 instructions"),
        (replace(GOOD, slots=("s", "s")), "slots: a name is there twice"),
        (replace(GOOD, slots=("s", "")), "slots: '': is empty"),
        (replace(GOOD, slots=("a=b",)), "slots: 'a=b' has = in it"),
        (replace(GOOD, pivot=True), "pivot: no operation mounts a new root at /"),
        (replace(GOOD, namespaces=flags("mnt")), "namespaces: mnt: no such namespace"),
        (replace(GOOD, joins=(Join("net", "s"),)), "joins: the net namespace is made or joined"),
        (replace(GOOD, joins=(Join("ipc", "s"),) * 2), "joins: the ipc namespace is made or join"),
        (replace(GOOD, joins=(Join("ipc", "t"),)), "joins: ipc: the plan has no slot 't'"),
        (replace(GOOD, joins=(Join("x", "s"),)), "joins: 'x' is no namespace"),  # type: ignore[arg-type]
        (replace(GOOD, root_propagation="x"), "root_propagation: 'x' is no propagation"),
        (replace(GOOD, hostname="x" * 65), "hostname: it is longer than 64 bytes"),
        (replace(GOOD, domainname="\0"), "domainname: has a NUL in it"),
        (user(writer="none"), "nobody writes the new user namespace's maps"),
        (user(writer="me"), "user_namespace.writer: 'me' is no writer"),
        (user(setgroups="x"), "user_namespace.setgroups: 'x' is neither allow nor deny"),
        (user(writer="helpers", newuidmap="/x"), "user_namespace.newgidmap: the writer is helpers"),
        (user(newuidmap="x"), "user_namespace.newuidmap: 'x' is not absolute"),
        (user(writer="self", setgroups="deny"), "maps[0]: a process may map one ID itself"),
        (user(setup_uid=65537), "user_namespace.setup_uid: 65537 has no mapping"),
        (user(setup_gid=-1), "user_namespace.setup_gid: -1 is no usable ID"),
        (replace(GOOD, maps=()), "maps: the new user namespace has no map"),
        (replace(GOOD, maps=(Maps(MANY, IdMap()),)), "maps[0].gid: the map has no extents"),
        (
            replace(user(writer="self"), maps=(Maps(ONE, ONE),)),
            "user_namespace.setgroups: deny it is",
        ),
        (replace(GOOD, credentials=Credentials(uid=65537)), "credentials.uid: 65537 has no map"),
        (replace(GOOD, credentials=Credentials(gid=-1)), "credentials.gid: -1 is no usable ID"),
        (replace(GOOD, credentials=Credentials(groups=(0, 70000))), "credentials.groups: 70000"),
        (
            replace(user(setgroups="deny"), credentials=Credentials(groups=())),
            "credentials.groups: setgroups is denied",
        ),
        (replace(GOOD, credentials=Credentials(effective=1)), "effective: more than is permitted"),
        (
            replace(GOOD, credentials=Credentials(permitted=1, ambient=1)),
            "ambient: more than is permitted and inheritable",
        ),
        (replace(GOOD, credentials=Credentials(bounding=1 << 64)), "bounding: 184467440737095516"),
        (replace(GOOD, credentials=Credentials(securebits=-1)), "securebits: -1 is no 32-bit"),
        (replace(GOOD, supervision=Supervision(timeout_ms=-1)), "supervision.timeout_ms: -1"),
        (replace(GOOD, supervision=Supervision(reporter=("x",))), "reporter[0]: 'x' is not abso"),
        (replace(GOOD, supervision=Supervision(report_always=True)), "there is no reporter"),
    ],
)
def test_a_wrong_part_is_named(plan: Plan, sentence: str) -> None:
    with pytest.raises(PlanError) as caught:
        validate(plan)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pivot": True}, "pivot: the plan makes no mount namespace"),
        ({"loopback": True}, "loopback: the plan makes no net namespace"),
        ({"lock_namespaces": True}, "lock_namespaces: the plan makes no user namespace"),
        ({"supervision": Supervision(init=True)}, "supervision.init: the plan makes no pid"),
        ({"root_propagation": "slave"}, "it would change the machine's own mounts"),
        ({"hostname": "x"}, "hostname: the plan has no uts namespace"),
        ({"user_namespace": UserNamespace("self")}, "self, but no user namespace is made"),
    ],
)
def test_what_needs_a_namespace_is_refused_without(changes: Any, sentence: str) -> None:
    with pytest.raises(PlanError) as caught:
        validate(Plan(Process(("/x",)), **changes))
    assert sentence in str(caught.value)
