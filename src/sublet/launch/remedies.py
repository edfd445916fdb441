"""What to do about a failed set-up: one table, the more special entries first."""

from __future__ import annotations

import errno
import os
import posixpath

from sublet.host import Host, read_facts
from sublet.host.sources import look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sublet.launch.report import Report
    from sublet.mounts.operations import Operation
    from sublet.plan.facts import Facts

    Remedy = Callable[["Failure"], "str | None"]
    Rule = tuple[frozenset[str], frozenset[int], Remedy]

SOURCE_STEPS = frozenset({"open_tree", "readlink", "open", "fstat", "read"})
TARGET_STEPS = frozenset(
    {"openat2", "mkdirat", "mknodat", "symlinkat", "fchown", "fchmod", "move_mount", "rename"}
)


class Failure:
    """A failed set-up, and what can be found out about it."""

    def __init__(self, report: Report, facts: Facts | None, host: Host | None) -> None:
        self.report = report
        self.host = Host() if host is None else host
        self.path: str | None = None
        self._facts = facts
        operations = report.plan.operations
        index = report.operation
        self.operation: Operation | None = (
            operations[index] if index is not None and index < len(operations) else None
        )
        if self.operation is not None:
            self.path = self.source if self.at_source else self.operation.target

    @property
    def facts(self) -> Facts:
        """The machine's facts, read now where they were not given."""
        if self._facts is None:
            self._facts = read_facts(self.host)
        return self._facts

    @property
    def source(self) -> str | None:
        """The source of the operation that failed."""
        if self.operation is None:
            return None
        given = self.operation.__dict__
        lower = given.get("lower") or (None,)
        found: str | None = given.get("source") or lower[0]
        return found

    @property
    def at_source(self) -> bool:
        """Whether the source was at fault, and not the target."""
        return self.report.step in SOURCE_STEPS and self.source is not None

    @property
    def at_target(self) -> bool:
        """Whether the target was at fault."""
        if self.operation is None or self.operation.kind == "sysctl":
            return False
        return self.report.step in TARGET_STEPS or (
            self.report.step == "open" and self.source is None
        )

    def outside(self, inside: str) -> str | None:
        """Return where on the machine the *inside* path comes from, None where it is not known."""
        # Without a root of its own, the sandbox sees the machine's, but for what is laid over it.
        found = None if self.report.plan.pivot else inside
        for operation in self.report.plan.operations:
            if not _below(inside, operation.target):
                continue
            if operation.kind not in {"bind", "overlay", "tmpfs", "proc", "sysfs", "mask"}:
                continue
            given = operation.__dict__
            places = [given.get("source"), *given.get("lower", ())]
            rest = inside[len(operation.target.rstrip("/")) :]
            candidates = [place + rest for place in places if place]
            found = next((path for path in candidates if os.path.lexists(path)), None)
        return found


def _below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def remedy(failure: Failure) -> tuple[str | None, str | None]:
    """Return what to do, and the path concerned where it was found out; None for neither."""
    report = failure.report
    for steps, numbers, advise in _RULES:
        if steps and report.step not in steps and report.phase not in steps:
            continue
        if numbers and report.errno not in numbers:
            continue
        hint = advise(failure)
        if hint is not None:
            return hint, failure.path
    return None, failure.path


# ---------------------------------------------------------------- user namespaces


def _user_namespaces(failure: Failure) -> str | None:
    """Say who forbids user namespaces, or takes their privileges away."""
    if "user" not in failure.report.plan.namespaces:
        return _privileged(failure)
    facts = failure.facts
    sysctls = facts.sysctls
    early = failure.report.phase == "clone"
    if sysctls.apparmor_restrict_unprivileged_userns and not facts.capable(21):
        return (
            "AppArmor keeps ordinary users' programs from using user namespaces here (Ubuntu 23.10"
            " and later). As root, allow them to all: sysctl -w"
            " kernel.apparmor_restrict_unprivileged_userns=0, or give sublet-exec a profile with"
            " the rule `userns,` in /etc/apparmor.d."
        )
    if not early:
        return None
    if sysctls.unprivileged_userns_clone == 0 and not facts.capable(21):
        return (
            "User namespaces are forbidden to ordinary users here. As root:"
            " sysctl -w kernel.unprivileged_userns_clone=1."
        )
    if chrooted(failure.host):
        return (
            "A process in a chroot may make no user namespace. Run it outside of the chroot, or"
            " enter that with a namespace of its own instead (unshare, pivot_root)."
        )
    status = failure.host.read("/proc/self/status") or ""
    if "\nSeccomp:\t2" in status:
        return (
            "A seccomp filter is in force, as in a container, and may forbid this. Start the"
            " container with a profile that allows clone, clone3, unshare and mount."
        )
    return (
        "A security module may forbid user namespaces (SELinux: getsebool user_namespace...;"
        " the kernel's log may say more: dmesg)."
    )


def _privileged(failure: Failure) -> str | None:
    if failure.facts.capable(21):
        return None
    return "Without a user namespace of its own this needs CAP_SYS_ADMIN: run it as root."


def _too_many(failure: Failure) -> str:
    limit = failure.facts.sysctls.max_user_namespaces
    if limit == 0:
        return (
            "User namespaces are switched off here: user.max_user_namespaces is 0. As root:"
            " sysctl -w user.max_user_namespaces=15000 (and a file in /etc/sysctl.d to keep it)."
        )
    known = "" if limit is None else f" (it is {limit})"
    return (
        f"No more namespaces may be made: user.max_user_namespaces{known} and the other"
        " user.max_*_namespaces bound their number, and user namespaces nest 32 deep at most."
    )


def _old_kernel(failure: Failure) -> str:
    major, minor = failure.facts.kernel
    return (
        f"This kernel is {major}.{minor}; Sublet needs 5.12 or newer. In a container, an old"
        " seccomp profile may hide the newer system calls."
    )


def chrooted(host: Host) -> bool:
    """Tell whether this process's root is none of its mounts, which is how a chroot looks."""
    mounts = host.read("/proc/self/mountinfo")
    return mounts is not None and not any(
        line.split(" ")[4:5] == ["/"] for line in mounts.split("\n")
    )


def _joining(_: Failure) -> str:
    return (
        "A namespace can be joined by who has CAP_SYS_ADMIN in it: the user who made the sandbox,"
        " from outside of it."
    )


# ---------------------------------------------------------------- mounts


def _source_missing(failure: Failure) -> str | None:
    if not failure.at_source or failure.source is None:
        return None
    found = look(failure.source, failure.host)
    failure.path = found.component or failure.source
    if found.kind == "missing":
        return f"{found.component} does not exist on this machine. Create it, or name another path."
    if found.kind == "loop":
        return f"{found.component} is a symbolic link that leads to itself."
    return None


def _source_denied(failure: Failure) -> str | None:
    if not failure.at_source or failure.source is None:
        return None
    found = look(failure.source, failure.host)
    if found.kind != "denied" or found.component is None:
        return None
    failure.path = found.component
    try:
        about = os.stat(failure.host.path(found.component))
        mode = f"{about.st_mode & 0o7777:04o}"
        owner = f"it belongs to user {about.st_uid}, group {about.st_gid}, mode {mode}"
    except OSError:
        owner = "it may not even be looked at"
    facts = failure.facts
    return (
        f"{found.component} may not be searched by user {facts.uid}, group {facts.gid}: {owner}."
        f" Ask for x permission there: chmod o+x {found.component}, or setfacl -m"
        f" u:{facts.uid}:x {found.component}."
    )


def _proc_masked(failure: Failure) -> str | None:
    operation = failure.operation
    if operation is None or operation.kind not in {"proc", "sysfs"}:
        return None
    if operation.kind == "sysfs":
        return "A fresh sysfs needs a network namespace of the sandbox's own: --net none."
    return (
        "A fresh /proc may be mounted only where the present one is not partly covered, as it is"
        " inside most containers. Start the outer container with its /proc unmasked (podman run"
        " --security-opt unmask=/proc/*, docker run --security-opt systempaths=unconfined)."
    )


def _overlay(failure: Failure) -> str | None:
    operation = failure.operation
    if operation is None or operation.kind != "overlay":
        return None
    major, minor = failure.facts.kernel
    if (major, minor) < (5, 11):
        return (
            f"Overlays in a user namespace need Linux 5.11; this is {major}.{minor}. Use --writable"
            " or --read-only with --rootfs."
        )
    return (
        "The upper directory must lie on a file system that can carry an overlay (not on an"
        " overlay itself, NFS or FAT), the same as its work directory, and not be in use by another"
        " overlay. Use --writable or --read-only, or put it elsewhere."
    )


def _idmapped(failure: Failure) -> str | None:
    operation = failure.operation
    if operation is None or not (
        "own_map" in operation.flags or operation.__dict__.get("map") is not None
    ):
        return None
    if failure.report.errno == errno.EPERM:
        return (
            "ID-mapping a mount takes privilege over the file system itself (CAP_SYS_ADMIN in the"
            " user namespace that mounted it): root for the machine's own disks."
        )
    return (
        "The file system of the source cannot be ID-mapped by this kernel, or it is ID-mapped"
        " already (mapping twice needs Linux 6.15)."
    )


def _locked(failure: Failure) -> str | None:
    operation = failure.operation
    if operation is None:
        return None
    if failure.report.step == "open_tree" and "recursive" not in operation.flags:
        return (
            f"Other mounts lie below {failure.source}, and what they cover may not be uncovered in"
            " a user namespace. Bind it recursively, as is the default."
        )
    return None


def _read_only(failure: Failure) -> str | None:
    if failure.operation is None:
        return None
    target = failure.operation.target
    place = _read_only_place(failure, target)
    failure.path = target
    return (
        f"{place} is read-only, and {target} does not exist in it yet. Make it outside first, name"
        f" a destination that exists, or put a tmpfs over a place above it: --tmpfs"
        f" {posixpath.dirname(target)}."
    )


def _read_only_place(failure: Failure, target: str) -> str:
    """Return the target of the mount that *target* would be made in."""
    place = "/"
    index = failure.report.operation or 0
    for operation in failure.report.plan.operations[:index]:
        mounts = operation.kind in {"bind", "overlay", "tmpfs", "remount"}
        if mounts and _below(target, operation.target) and len(operation.target) >= len(place):
            place = operation.target
    return place


def _wrong_kind(failure: Failure) -> str | None:
    if failure.operation is None:
        return None
    target = failure.operation.target
    if failure.report.errno == errno.ENOTDIR:
        return (
            f"What is bound is a directory, so {target} must be one, and so must everything above"
            " it. Remove the file there, or name another destination."
        )
    return f"What is bound is a file, so {target} must be one. Name the file below it."


def _target_link(failure: Failure) -> str | None:
    if failure.operation is None:
        return None
    return (
        f"{failure.operation.target} is a symbolic link, or lies behind one that leads nowhere"
        " inside of the new root. Name the path that it stands for."
    )


def _target_missing(failure: Failure) -> str | None:
    if failure.operation is None:
        return None
    target = failure.operation.target
    if failure.operation.kind in {"file", "directory", "symlink", "device"}:
        return f"Make {posixpath.dirname(target)} in the root first, or name one that exists."
    return f"Make {target} in the root first, or name one that exists."


def _target_denied(failure: Failure) -> str | None:
    if failure.operation is None:
        return None
    return (
        f"The directory that {failure.operation.target} lies in belongs to an ID that may not be"
        " written to by who sets up. See with ls -ln outside whether its owner is mapped."
    )


def _unmapped(failure: Failure) -> str:
    del failure
    return "The ID has no mapping inside. Map more IDs: --ids full, or an explicit extent for it."


# ---------------------------------------------------------------- the command


def _not_found(failure: Failure) -> str:
    plan = failure.report.plan
    command = plan.process.command or plan.process.argv[0]
    on_machine = _search(command) if "/" not in command else None
    if on_machine is not None and failure.outside(on_machine) is None:
        return (
            f"This machine has {on_machine}, and the sandbox does not. Install it in the root file"
            f" system, or bind it: --bind {on_machine}:ro."
        )
    return (
        "Check the spelling; what is inside may differ from what is outside. A path with a slash is"
        " taken as it is."
    )


def _search(command: str) -> str | None:
    for directory in os.environ.get("PATH", "").split(":"):
        path = f"{directory}/{command}"
        if directory.startswith("/") and os.access(path, os.X_OK):
            return path
    return None


def _interpreter_missing(failure: Failure) -> str | None:
    """Tell a missing command from one whose interpreter is missing: both are ENOENT."""
    plan = failure.report.plan
    command = plan.process.command or plan.process.argv[0]
    if "/" not in command:
        found = None
        for directory in (plan.process.search_path or "").split(":"):
            found = found or failure.outside(f"{directory}/{command}")
    else:
        found = failure.outside(command)
    if found is None:
        return None
    interpreter = interpreter_of(found)
    if interpreter is None:
        return None
    failure.path = interpreter
    return (
        f"{command} is there, and the interpreter that it names, {interpreter}, is not. Install"
        " that in the root file system, or bind it."
    )


def interpreter_of(path: str) -> str | None:
    """Return the interpreter that the program names: its #! line's, or its ELF loader."""
    import struct

    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError:
        return None
    if head.startswith(b"#!"):
        words = head[2:].split(b"\n", 1)[0].split()
        return os.fsdecode(words[0]) if words else None
    if head[:5] != b"\x7fELF\x02" or len(head) < 64:
        return None
    (start,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    for number in range(count):
        at = start + number * size
        if at + 40 > len(head) or size < 56:
            break
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", head, at)
        if kind == 3 and offset + length <= len(head):
            return os.fsdecode(head[offset : offset + length].rstrip(b"\0"))
    return None


def _not_executable(failure: Failure) -> str:
    plan = failure.report.plan
    command = plan.process.command or plan.process.argv[0]
    outside = failure.outside(command) if command.startswith("/") else None
    if outside is not None and os.path.isdir(outside):
        return f"{command} is a directory."
    if outside is not None and os.path.isfile(outside) and not os.stat(outside).st_mode & 0o111:
        failure.path = outside
        return f"{outside} has no x permission: chmod +x {outside}."
    for operation in reversed(plan.operations):
        if _below(command, operation.target) and "noexec" in operation.__dict__.get(
            "attributes_set", ()
        ):
            return (
                f"{operation.target} is mounted noexec in the sandbox. Put the command elsewhere."
            )
    return (
        f"It must be a file that the user inside may execute (mode x), on a mount without noexec,"
        f" in directories that they may search: {command}."
    )


def _not_a_program(failure: Failure) -> str:
    machine = failure.facts.architecture
    return (
        f"It is no program for this machine ({machine}), or a script without a #! line. Name the"
        " interpreter: sh FILE."
    )


def _directory(_: Failure) -> str:
    return (
        "Name a directory that exists inside, with --workdir; it is looked up in the new root, as"
        " the user inside."
    )


def _limits(_: Failure) -> str:
    return (
        "A hard limit can be lowered by anyone and raised only with CAP_SYS_RESOURCE: ulimit -Ha"
        " shows those in force."
    )


def _credentials(failure: Failure) -> str | None:
    plan = failure.report.plan
    if "user" in plan.namespaces and plan.user_namespace.setgroups == "deny":
        return (
            "Supplementary groups cannot be changed where only the own group is mapped: --ids full"
            " allows it."
        )
    return None


def _killed(failure: Failure) -> str | None:
    if failure.report.signal is None:
        return None
    return "By hand, or for lack of memory: the kernel's log may know (dmesg)."


def _self_check(failure: Failure) -> str | None:
    if failure.report.phase == "start":
        return (
            "sublet-exec refuses to run setuid or setgid, and with slots that the plan does not"
            " name. Remove such a bit: chmod u-s,g-s sublet-exec."
        )
    return None


def _sysctl(failure: Failure) -> str | None:
    operation = failure.operation
    if operation is None or operation.kind != "sysctl":
        return None
    if failure.report.errno == errno.ENOENT:
        return "This kernel has no sysctl of that name, or not for this namespace (sysctl -a)."
    return (
        "Only the sysctls of the sandbox's own namespaces can be set from inside: net.* with a"
        " network, kernel.msg*, kernel.sem and kernel.shm* with an IPC namespace."
    )


def _device(failure: Failure) -> str | None:
    operation = failure.operation
    if operation is None or operation.kind != "device":
        return None
    given = operation.__dict__
    return (
        f"{failure.source} is not the character device {given['device_major']}:"
        f"{given['device_minor']} that was asked for. See it with ls -l."
    )


def _cgroup2(failure: Failure) -> str | None:
    if failure.operation is None or failure.operation.kind != "cgroup2":
        return None
    return "It needs a cgroup namespace of the sandbox's own."


def _filter(_: Failure) -> str:
    return "The kernel found the program malformed or too long; compile it from its profile again."


def _any(*names: str) -> frozenset[str]:
    return frozenset(names)


def _of(*numbers: int) -> frozenset[int]:
    return frozenset(numbers)


_DENIED = _of(errno.EPERM, errno.EACCES)
_CREATION = _any("mkdirat", "mknodat", "symlinkat", "openat2", "rename", "open")

# (steps or phases; errnos; advice). Empty: any. The first advice that is not None is taken.
_RULES: tuple[Rule, ...] = (
    (_any("none"), _of(), _killed),
    (_any("start"), _of(), _self_check),
    (_any("clone3", "unshare"), _of(errno.ENOSPC, errno.EUSERS), _too_many),
    (_any("clone", "maps", "mounts", "root", "identity", "network"), _DENIED, _user_namespaces),
    (_any("setns"), _of(), _joining),
    (_any(), _of(errno.ENOSYS), _old_kernel),
    (_any("openat2", "open", "write", "readback"), _of(), _sysctl),
    (_any("check"), _of(errno.ENODEV), _device),
    (_any("fsconfig", "fsmount"), _DENIED, _cgroup2),
    (_any("seccomp"), _of(errno.EINVAL), _filter),
    (SOURCE_STEPS, _of(errno.ENOENT, errno.ENOTDIR, errno.ELOOP), _source_missing),
    (SOURCE_STEPS, _of(errno.EACCES), _source_denied),
    (_any("open_tree"), _of(errno.EINVAL), _locked),
    (_any("fsmount", "fsconfig", "move_mount", "fsopen"), _DENIED, _proc_masked),
    (_any("mount_setattr", "readback", "open_tree"), _of(), _idmapped),
    (_any("outside", "mounts"), _of(errno.EINVAL, errno.EPERM, errno.EBUSY), _overlay),
    (_CREATION, _of(errno.EROFS), _read_only),
    (_CREATION | _any("move_mount"), _of(errno.ENOTDIR, errno.EISDIR), _wrong_kind),
    (_CREATION, _of(errno.ELOOP, errno.EEXIST), _target_link),
    (_CREATION, _of(errno.ENOENT), _target_missing),
    (_CREATION, _of(errno.EACCES), _target_denied),
    (_any("fchown", "mkdirat", "mknodat", "openat2"), _of(errno.EOVERFLOW), _unmapped),
    (_any("fchown", "setresuid", "setresgid", "setgroups"), _of(errno.EINVAL), _unmapped),
    (_any("setgroups"), _of(errno.EPERM), _credentials),
    (_any("search"), _of(), _not_found),
    (_any("exec"), _of(errno.ENOENT), _interpreter_missing),
    (_any("exec"), _of(errno.ENOENT, errno.ENOTDIR), _not_found),
    (_any("exec"), _DENIED, _not_executable),
    (_any("exec"), _of(errno.ENOEXEC, errno.EINVAL), _not_a_program),
    (_any("directory"), _of(), _directory),
    (_any("limits"), _of(), _limits),
)
