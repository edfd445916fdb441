"""What the command sees at /: a view of the machine, or a root file system."""

from __future__ import annotations

from sublet.ids import OutsideId
from sublet.mounts.operations import (
    Bind,
    Directory,
    Mask,
    Operation,
    Overlay,
    Proc,
    Symlink,
    Sysfs,
    Tmpfs,
)
from sublet.planners.dev import NO_DEVICES, NOEXEC, minimal_dev

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sublet.mounts.operations import Attribute
    from sublet.plan.facts import Facts
    from sublet.plan.model import Credentials, Maps
    from sublet.planners.request import RootFs

SYSTEM = frozenset({"usr", "bin", "sbin", "etc", "opt", "nix", "gnu"})
"""What a system is made of, at the top; and all that begins with "lib" (lib64, libx32)."""

PRIVATE = ("/tmp", "/var/tmp", "/run", "/home", "/root")
"""What the system view has instead of the machine's: empty, and gone afterwards."""

OVER = ("/proc", "/dev")
"""Mounted afresh in every view."""

READ_ONLY: frozenset[Attribute] = frozenset({"read_only", "nosuid", "nodev"})

# What the OCI engines hide of a /proc and /sys that real root could use, and what they make
# read-only. It takes no capability: whoever is the machine's user 0 may write kernel.core_pattern,
# in a user namespace as well.
MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
UNCHANGEABLE = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def system_view(
    facts: Facts, outside: frozenset[str], maps: Maps | None, who: Credentials
) -> list[Operation]:
    """The machine's programs and configuration read-only, everything else private and empty.

    The working directory is there too, read-only, and the home directory as an empty one of *who*
    the command runs as.
    """
    operations: list[Operation] = [Tmpfs("/", mode=0o755, attributes_set=NO_DEVICES)]
    recursive = outside | {"recursive"}
    visible = [*OVER]
    for entry in facts.root_entries:
        name = entry.name
        if name not in SYSTEM and not name.startswith("lib"):
            continue
        path = f"/{name}"
        if entry.kind == "symlink":
            operations.append(Symlink(path, text=entry.link or ""))
            visible.append(path)
        elif entry.kind == "directory":
            operations.append(Bind(path, recursive, source=path, attributes_set=READ_ONLY))
            visible.append(path)
    parents = frozenset({"parents"})
    for path in PRIVATE:
        mode = 0o1777 if path.endswith("tmp") else 0o700 if path == "/root" else 0o755
        operations.append(Directory(path, parents, mode=mode))
    home = _normal(facts.home)
    if home not in {"/", *PRIVATE} and not _below(home, visible):
        operations.append(Directory(home, parents, mode=0o700, uid=who.uid, gid=who.gid))
    directory = facts.directory
    if directory and directory not in {"/", *PRIVATE[:-1]} and not _below(directory, visible):
        flags = recursive | parents
        operations.append(Bind(directory, flags, source=directory, attributes_set=READ_ONLY))
    operations.append(Proc("/proc", attributes_set=NOEXEC))
    operations += _kernel_files(outside, maps)
    operations += minimal_dev(maps, mqueue=False)
    return operations


def host_view(outside: frozenset[str], maps: Maps | None) -> list[Operation]:
    """All of the machine's tree, read-only, but for /proc and /dev."""
    # Inside a user namespace the executor changes its own copy of the tree in place.
    flags = frozenset({"recursive"}) if maps is not None else outside | {"recursive"}
    return [
        Bind("/", flags, source="/", attributes_set=READ_ONLY),
        Proc("/proc", attributes_set=NOEXEC),
        *_kernel_files(outside, maps),
        *minimal_dev(maps, mqueue=False),
    ]


def root_file_system(
    root: RootFs, outside: frozenset[str], maps: Maps | None, *, single: bool, new_net: bool
) -> list[Operation]:
    """A root file system with the mounts that programs expect in it.

    *single*: only one user is mapped, so that nobody needs setuid programs. *new_net*: the network
    namespace is the sandbox's own, which a fresh /sys takes.
    """
    attributes: frozenset[Attribute] = NO_DEVICES if single else frozenset({"nodev"})
    operations: list[Operation] = []
    if root.writes == "stay":
        operations.append(
            Bind("/", outside | {"recursive"}, source=root.path, attributes_set=attributes)
        )
    else:
        # An overlay made with the caller's own privileges keeps its marks in trusted.overlay.*.
        flags = outside or frozenset({"userxattr"})
        kept = root.writes == "kept"
        operations.append(
            Overlay(
                "/",
                flags if kept else flags | {"scratch"},
                lower=(root.path,),
                source=root.upper if kept else None,
                work=root.work if kept else None,
                attributes_set=attributes,
            )
        )
    parents = frozenset({"parents"})
    operations.append(Proc("/proc", parents, attributes_set=NOEXEC))
    if new_net or maps is None:
        operations.append(Sysfs("/sys", parents, attributes_set=NOEXEC | {"read_only"}))
    else:
        operations.append(
            Bind(
                "/sys",
                outside | {"recursive", "parents"},
                source="/sys",
                attributes_set=NOEXEC | {"read_only"},
            )
        )
    operations += minimal_dev(maps, mqueue=True)
    operations += _kernel_files(outside, maps, sysfs=True)
    return operations


def _kernel_files(
    outside: frozenset[str], maps: Maps | None, *, sysfs: bool = False
) -> list[Operation]:
    """Hide and make read-only what the machine's root could use, where that is somebody inside."""
    if maps is not None and maps.uid.to_inside(OutsideId(0)) is None:
        return []
    operations: list[Operation] = [
        Mask(path, frozenset({"optional"}))
        for path in MASKED
        if sysfs or not path.startswith("/sys/")
    ]
    # Bound from the machine's /proc: these parts are the same in every procfs. Inside a user
    # namespace, what is mounted below cannot be left out.
    flags = (outside or frozenset({"recursive"})) | {"optional", "existing"}
    operations += [
        Bind(path, flags, source=path, attributes_set=NOEXEC | {"read_only"})
        for path in UNCHANGEABLE
    ]
    return operations


def name_service(facts: Facts, outside: frozenset[str], *, view: str | None) -> list[Operation]:
    """Make the machine's resolv.conf the one inside, for a sandbox on the machine's network."""
    source = facts.resolv_conf
    if source is None or view == "host":
        return []
    target = "/etc/resolv.conf"
    if view == "system":
        # /etc is the machine's, and with it the link; what it leads to may lie in a private /run.
        target = source
        if _below(source, [f"/{name}" for name in SYSTEM]):
            return []
    return [
        Bind(
            target,
            outside | {"parents"},
            source=source,
            attributes_set=NOEXEC | {"read_only"},
        )
    ]


def _normal(path: str) -> str:
    from posixpath import normpath

    return normpath(path)


def _below(path: str, places: list[str]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)
