"""Sentences and remedies: what was attempted, what the kernel answered, what to do."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING

import pytest

from sublet.errors import (
    CannotExecuteError,
    CommandNotFoundError,
    HostError,
    NotDelegatedError,
    SetupError,
    SubletError,
)
from sublet.host import Host
from sublet.ids import IdMap, Range
from sublet.launch.failure import explain
from sublet.launch.remedies import interpreter_of
from sublet.launch.report import Report, report_of
from sublet.mounts.operations import (
    Bind,
    Cgroup2,
    Device,
    Directory,
    File,
    Operation,
    Overlay,
    Proc,
    Sysctl,
    Sysfs,
    Tmpfs,
)
from sublet.plan import _wire
from sublet.plan.facts import Facts, Helper, Subordinate, Sysctls
from sublet.plan.message import Message
from sublet.plan.model import Credentials, Maps, Plan, Process, Rlimit, UserNamespace

if TYPE_CHECKING:
    from pathlib import Path

    from sublet.mounts.operations import Attribute

ALICE = Facts(uid=1000, gid=1000, user="alice", kernel=(6, 1))
OWN = IdMap.of((0, 1000, 1))
FULL = IdMap.of((0, 1000, 1), (1, 100000, 65536))
READ_ONLY: frozenset[Attribute] = frozenset({"read_only"})


def plan(*operations: Operation, argv: tuple[str, ...] = ("tool",), maps: IdMap = OWN) -> Plan:
    return Plan(
        Process(
            argv,
            search_path="/usr/bin:/bin",
            directory="/work",
            rlimits=(Rlimit(7, 1024, 4096),),
        ),
        namespaces=frozenset({"user", "mount", "pid"}),
        maps=(Maps(maps, OWN),),
        user_namespace=UserNamespace(
            "helpers", newuidmap="/usr/bin/newuidmap", newgidmap="/usr/bin/newgidmap"
        ),
        operations=operations,
        hostname="box",
        domainname="example",
        credentials=Credentials(uid=5, gid=6, groups=(7, 8)),
    )


def failed(what: Plan, phase: str, step: str, number: int, operation: int | None = None) -> Report:
    assert phase in _wire.ENUMS["phase"]
    assert step in _wire.ENUMS["step"]
    return Report("setup", what, phase=phase, step=step, errno=number, operation=operation)


def explained(
    report: Report, facts: Facts = ALICE, host: Host | None = None
) -> tuple[SubletError, str, str]:
    error = explain(report, facts, host or Host("/nonexistent", {}))
    assert error.phase == report.phase
    assert error.errno == report.errno
    assert "None" not in error.what
    assert not error.what.endswith(".")
    if error.hint is not None:
        assert error.hint.endswith(".")
        assert "None" not in error.hint
    return error, error.what, error.hint or ""


NAMESPACES = "cannot make new namespaces (mount, pid, user): "


@pytest.mark.parametrize(
    ("sysctls", "number", "remedy"),
    [
        (Sysctls(max_user_namespaces=0), errno.ENOSPC, "user.max_user_namespaces=15000"),
        (Sysctls(max_user_namespaces=9), errno.ENOSPC, "nest 32 deep"),
        (Sysctls(max_user_namespaces=9), errno.EUSERS, "nest 32 deep"),
        (Sysctls(unprivileged_userns_clone=0), errno.EPERM, "unprivileged_userns_clone=1"),
        (
            Sysctls(apparmor_restrict_unprivileged_userns=1),
            errno.EPERM,
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (Sysctls(), errno.EPERM, "security module"),
        (Sysctls(), errno.ENOSYS, "This kernel is 6.1"),
    ],
)
def test_user_namespaces_that_are_not_to_be_had(sysctls: Sysctls, number: int, remedy: str) -> None:
    facts = Facts(uid=1000, gid=1000, sysctls=sysctls, kernel=(6, 1))
    error, what, hint = explained(failed(plan(), "clone", "clone3", number), facts)
    assert type(error) is HostError
    assert what.startswith(NAMESPACES + os.strerror(number))
    assert remedy in hint


def test_a_chroot_and_a_container_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    report = failed(plan(), "clone", "clone3", errno.EPERM)
    (tmp_path / "proc/self/mountinfo").write_text("9 8 0:1 / /proc rw - proc proc rw\n")
    assert "chroot" in explained(report, host=Host(str(tmp_path)))[2]
    (tmp_path / "proc/self/mountinfo").write_text("9 8 0:1 / / rw - ext4 x rw\n")
    (tmp_path / "proc/self/status").write_text("Name:\tx\nSeccomp:\t2\n")
    assert "seccomp" in explained(report, host=Host(str(tmp_path)))[2]


def test_apparmor_also_shows_later() -> None:
    facts = Facts(uid=1, gid=1, sysctls=Sysctls(apparmor_restrict_unprivileged_userns=1))
    report = failed(plan(Proc("/proc")), "mounts", "fsmount", errno.EPERM, 0)
    assert "AppArmor" in explained(report, facts)[2]
    assert "AppArmor" not in explained(report, ALICE)[2]


def test_maps_that_are_not_delegated_are_explained_by_the_rules() -> None:
    facts = Facts(
        uid=1000,
        gid=1000,
        user="alice",
        newuidmap=Helper("/usr/bin/newuidmap", None),
        newgidmap=Helper("/usr/bin/newgidmap", None),
    )
    report = failed(plan(maps=FULL), "maps", "newuidmap", errno.EPERM)
    error, what, hint = explained(report, facts)
    assert type(error) is NotDelegatedError
    assert "1-65536 inside to 100000-165535 outside" in what
    assert '"alice:100000:65536"' in hint


def test_maps_that_fail_although_delegated() -> None:
    delegated = Subordinate((Range.outside(100000, 65536),), "file", "/etc/subuid")
    helper = Helper("/usr/bin/newuidmap", None)
    facts = Facts(uid=1000, gid=1000, subuids=delegated, newuidmap=helper, newgidmap=helper)
    message = Message("failed", phase="maps", step="newuidmap", value=1)
    error, what, _ = explained(report_of(message, plan(maps=FULL)), facts)
    assert type(error) is SetupError
    assert what == (
        "/usr/bin/newuidmap did not write the user ID map 0 1000 1, 1 100000 65536 (inside outside"
        " count): it ended with status 1"
    )


def test_a_missing_source_names_its_first_missing_component(tmp_path: Path) -> None:
    (tmp_path / "srv").mkdir()
    report = failed(plan(Bind("/x", source="/srv/a/b")), "outside", "open_tree", errno.ENOENT, 0)
    error, what, hint = explained(report, host=Host(str(tmp_path)))
    assert what == "cannot bind /srv/a/b to /x: No such file or directory (open_tree)"
    assert hint.startswith("/srv/a does not exist on this machine")
    assert error.path == "/srv/a"


def test_a_denied_source_names_who_denies(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "in").mkdir(parents=True)
    closed.chmod(0)
    if os.access(closed, os.X_OK):
        pytest.skip("beyond this machine: root is denied nothing")
    report = failed(plan(Bind("/x", source="/closed/in")), "mounts", "open_tree", errno.EACCES, 0)
    error, _, hint = explained(report, host=Host(str(tmp_path)))
    assert error.path == "/closed"
    assert "mode 0000" in hint


@pytest.mark.parametrize(
    ("operation", "step", "number", "sentence", "remedy"),
    [
        (Directory("/usr/x/y"), "mkdirat", errno.EROFS, "read-only place", "/usr is read-only"),
        (Directory("/usr/x/y"), "mkdirat", errno.EROFS, "read-only place", "--tmpfs /usr/x"),
        (
            Bind("/etc/f", source="/srv"),
            "openat2",
            errno.ENOTDIR,
            "a file where a directory is needed",
            "/etc/f must be one",
        ),
        (Bind("/d", source="/f"), "openat2", errno.EISDIR, "a file is needed", "Name the file"),
        (
            Bind("/l", source="/f"),
            "openat2",
            errno.ELOOP,
            "symbolic link",
            "inside of the new root",
        ),
        (File("/m/f"), "openat2", errno.ENOENT, "destination does not exist", "Make /m in"),
        (File("/m/f"), "openat2", errno.EACCES, "Permission denied", "owner is mapped"),
        (Directory("/m"), "mkdirat", errno.EOVERFLOW, "no mapping", "--ids full"),
        (Directory("/m"), "fchown", errno.EINVAL, "fchown", "--ids full"),
        (Proc("/proc"), "fsmount", errno.EPERM, "cannot mount proc on /proc", "systempaths"),
        (Sysfs("/sys"), "fsmount", errno.EPERM, "cannot mount sysfs on /sys", "--net none"),
        (
            Overlay("/", lower=("/l1", "/l2"), source="/u", work="/w"),
            "fsconfig",
            errno.EINVAL,
            "cannot mount the overlay of /u over /l1:/l2 on /",
            "upper directory",
        ),
        (
            Bind("/x", source="/s", flags=frozenset({"own_map"})),
            "mount_setattr",
            errno.EPERM,
            "cannot bind /s to /x",
            "privilege over the file system",
        ),
        (
            Bind("/x", source="/s", map=1),
            "mount_setattr",
            errno.EINVAL,
            "cannot bind /s to /x",
            "cannot be ID-mapped",
        ),
        (Bind("/x", source="/s"), "open_tree", errno.EINVAL, "cannot bind", "recursively"),
        (Sysctl("net/a", text="1"), "write", errno.EACCES, "sysctl net.a to 1", "own namespaces"),
        (Sysctl("x", text="1"), "openat2", errno.ENOENT, "sysctl x to 1", "no sysctl of that name"),
        (File("/m/l"), "open", errno.ELOOP, "a symbolic link stands in the way", "/m/l is a symb"),
        (
            Device("/z", source="/dev/zero", device_major=8, device_minor=9),
            "check",
            errno.ENODEV,
            "cannot make the device /z",
            "/dev/zero is not the character device 8:9",
        ),
        (Cgroup2("/c"), "fsconfig", errno.EPERM, "cannot mount cgroup2", "cgroup namespace"),
    ],
)
def test_mounts(operation: Operation, step: str, number: int, sentence: str, remedy: str) -> None:
    what = plan(Tmpfs("/"), Bind("/usr", source="/usr", attributes_set=READ_ONLY), operation)
    error, said, hint = explained(failed(what, "mounts", step, number, 2))
    assert type(error) is SetupError
    assert sentence in said
    assert os.strerror(number) in said
    assert remedy in hint


def test_an_overlay_on_an_old_kernel() -> None:
    overlay = Overlay("/", lower=("/l",))
    report = failed(plan(overlay), "mounts", "fsconfig", errno.EPERM, 0)
    hint = explained(report, Facts(uid=1, gid=1, kernel=(5, 10)))[2]
    assert "need Linux 5.11; this is 5.10" in hint


def test_a_command_that_is_nowhere_in_path() -> None:
    error, what, hint = explained(failed(plan(), "exec", "search", errno.ENOENT))
    assert type(error) is CommandNotFoundError
    assert error.exit_code == 127
    assert what == "tool was not found: it is in no directory of PATH (/usr/bin:/bin)"
    assert "spelling" in hint


def test_a_command_that_only_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    report = failed(plan(Tmpfs("/"), argv=("env",)), "exec", "search", errno.ENOENT)
    assert "--bind /" in explained(report)[2]


def test_a_missing_interpreter_is_told_from_a_missing_command(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#! /opt/python -x\n")
    what = plan(Bind("/in", source=str(tmp_path)), argv=("/in/script",))
    error, said, hint = explained(failed(what, "exec", "execve", errno.ENOENT))
    assert type(error) is CommandNotFoundError
    assert said.startswith("cannot execute /in/script: No such file")
    assert "/opt/python" in hint
    missing = plan(Bind("/in", source=str(tmp_path)), argv=("/in/nothing",))
    assert "spelling" in explained(failed(missing, "exec", "execve", errno.ENOENT))[2]


def test_interpreters(tmp_path: Path) -> None:
    found = interpreter_of(os.path.realpath(sys.executable))
    assert found is not None
    assert os.path.exists(found)
    for text in (b"", b"#!", b"\x7fELF", b"\x7fELF\x02" + b"\xff" * 100, b"plain"):
        (tmp_path / "file").write_bytes(text)
        assert interpreter_of(str(tmp_path / "file")) is None


def test_commands_that_cannot_be_executed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "directory").mkdir()
    root = Bind("/in", source=str(tmp_path))
    cases = [
        (plan(root, argv=("/in/file",)), errno.EACCES, "chmod +x"),
        (plan(root, argv=("/in/directory",)), errno.EACCES, "is a directory"),
        (plan(Tmpfs("/t", attributes_set=frozenset({"noexec"})), argv=("/t/x",)), errno.EACCES,
         "/t is mounted noexec"),
        (plan(argv=("/y",)), errno.EACCES, "mode x"),
        (plan(root, argv=("/in/file",)), errno.ENOEXEC, "x86_64"),
    ]  # fmt: skip
    for what, number, remedy in cases:
        error, said, hint = explained(failed(what, "exec", "execve", number))
        assert type(error) is CannotExecuteError
        assert error.exit_code == 126
        assert f"cannot execute {what.process.argv[0]}: {os.strerror(number)}" in said
        assert remedy in hint


@pytest.mark.parametrize(
    ("phase", "step", "number", "sentence", "remedy"),
    [
        ("directory", "openat2", errno.ENOENT, "the working directory /work", "--workdir"),
        ("limits", "setrlimit", errno.EPERM, "resource limits (NOFILE=1024:4096)", "CAP_SYS_RES"),
        ("credentials", "setresuid", errno.EINVAL, "become user 5, group 6", "no mapping"),
        ("credentials", "setgroups", errno.EPERM, "groups (7, 8)", ""),
        ("decode", "check", errno.EINVAL, "does not accept the plan", ""),
        ("start", "check", errno.EPERM, "does not start", "chmod u-s,g-s"),
        ("seccomp", "seccomp", errno.EINVAL, "seccomp filter", "malformed"),
        ("root", "pivot_root", errno.EINVAL, "new root", ""),
        ("terminal", "ioctl", errno.EIO, "terminal", ""),
        ("maps", "uid_map", errno.EINVAL, "user ID map 0 1000 1", ""),
    ],
)
def test_phases(phase: str, step: str, number: int, sentence: str, remedy: str) -> None:
    error, what, hint = explained(failed(plan(), phase, step, number))
    assert type(error) is SetupError
    assert sentence in what
    assert remedy in hint


def test_without_a_user_namespace_privilege_is_missing() -> None:
    what = Plan(Process(("/x",)), namespaces=frozenset({"mount"}))
    hint = explained(failed(what, "clone", "clone3", errno.EPERM))[2]
    assert "CAP_SYS_ADMIN" in hint


@pytest.mark.parametrize("phase", sorted(_wire.ENUMS["phase"]))
@pytest.mark.parametrize("operation", [None, 0])
def test_every_step_in_every_phase_has_a_sentence(phase: str, operation: int | None) -> None:
    what = plan(Bind("/x", source="/s"))
    for step in _wire.ENUMS["step"]:
        for number in (1, 2, 13, 17, 20, 21, 22, 28, 30, 38, 40, 75):
            explained(failed(what, phase, step, number, operation))


def test_an_operation_that_the_plan_does_not_have() -> None:
    explained(failed(plan(), "mounts", "mkdirat", errno.EROFS, 99))


def test_who_sets_up_may_be_killed() -> None:
    message = Message("failed", phase="mounts", ending="lost", value=9)
    error, what, hint = explained(report_of(message, plan()))
    assert type(error) is SetupError
    assert what == (
        "cannot change the mounts: the process that set the sandbox up was killed (signal 9)"
    )
    assert "dmesg" in hint
