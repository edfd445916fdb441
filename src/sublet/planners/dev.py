"""The minimal /dev: what programs expect to find there, and nothing that is hardware."""

from __future__ import annotations

from sublet.mounts.operations import Console, Device, Devpts, Mqueue, Operation, Symlink, Tmpfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sublet.mounts.operations import Attribute
    from sublet.plan.model import Maps

# name, major and minor number: Documentation/admin-guide/devices.txt
DEVICES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
LINKS = (
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
)
TTY_GROUP = 5
"""The group of terminals: 5 on every distribution, and in the engines' own defaults."""

NOEXEC: frozenset[Attribute] = frozenset({"nosuid", "nodev", "noexec"})
NO_DEVICES: frozenset[Attribute] = frozenset({"nosuid", "nodev"})


def minimal_dev(maps: Maps | None, *, mqueue: bool) -> list[Operation]:
    """Return the operations that make /dev.

    Without a user namespace the nodes are made; in one, where none can be made, the machine's are
    bound. *mqueue*: with POSIX message queues, as root file systems have it.
    """
    nodes = frozenset({"mknod"}) if maps is None else frozenset[str]()
    operations: list[Operation] = [
        Tmpfs(
            "/dev",
            frozenset({"parents"}),
            mode=0o755,
            attributes_set=frozenset({"nosuid", "noexec"}),
        )
    ]
    operations += [
        Device(
            f"/dev/{name}",
            nodes,
            source=f"/dev/{name}",
            device_major=major,
            device_minor=minor,
            mode=0o666 if nodes else None,
        )
        for name, major, minor in DEVICES
    ]
    tty = TTY_GROUP if maps is None or _maps_group(maps, TTY_GROUP) else None
    operations += [
        Devpts(
            "/dev/pts",
            mode=0o620,
            gid=tty,
            attributes_set=frozenset({"nosuid", "noexec"}),
            options=("ptmxmode=0666",),
        ),
        Tmpfs("/dev/shm", mode=0o1777, attributes_set=NOEXEC),
    ]
    if mqueue:
        operations.append(Mqueue("/dev/mqueue", attributes_set=NOEXEC))
    operations += [Symlink(f"/dev/{name}", text=text) for name, text in LINKS]
    operations.append(Console("/dev/console"))
    return operations


def _maps_group(maps: Maps, gid: int) -> bool:
    return any(extent.inside <= gid < extent.inside_end for extent in maps.gid.extents)
