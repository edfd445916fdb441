"""The operations that build a root, as frozen values; one class for each kind in spec/wire.toml.

Every operation has a ``target``, a path in the new root (absolute, normalised). ``source`` is a
path on the machine (absolute), opened by the executor with the caller's own IDs; ``slot`` names a
descriptor that is given at launch. IDs are inside IDs. Attributes are those of mount_setattr(2).
The class attribute ``kind`` is the name in the wire form; fields have the names that the wire form
gives them. :func:`sublet.plan.validate.validate` checks what is said here.
"""

from __future__ import annotations

from sublet._value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar, Literal

    Attribute = Literal[
        "read_only",
        "nosuid",
        "nodev",
        "noexec",
        "noatime",
        "strictatime",
        "nodiratime",
        "nosymfollow",
    ]
    Propagation = Literal["keep", "unbindable", "private", "slave", "shared"]


class Operation(Value):
    """The root of all operations. ``flags`` are those of ``operation_flag`` in spec/wire.toml."""

    kind: ClassVar[str] = ""

    target: str
    flags: frozenset[str] = frozenset()


class Bind(Operation):
    """A part of the machine's tree appears at ``target``.

    Exactly one of ``source`` and ``slot``. ``map``: index into the plan's maps, of the mount's own
    ID map; the flag own_map stands for map 0, the sandbox's own.
    Flags: outside, recursive, optional, parents, existing, own_map.
    """

    kind: ClassVar[str] = "bind"

    source: str | None = None
    slot: str | None = None
    map: int | None = None
    attributes_set: frozenset[Attribute] = frozenset()
    attributes_clear: frozenset[Attribute] = frozenset()
    propagation: Propagation = "keep"


class Overlay(Operation):
    """An overlay of ``lower`` (topmost first), ``source`` as upper and ``work`` as work directory.

    With the flag ``scratch``, upper and work are made in a tmpfs of ``size`` bytes (0: the kernel's
    default) and vanish; with neither, the overlay is read-only. ``options``: further fsconfig keys.
    Flags: outside, parents, existing, userxattr, scratch, volatile.
    """

    kind: ClassVar[str] = "overlay"

    lower: tuple[str, ...] = ()
    source: str | None = None
    work: str | None = None
    size: int = 0
    attributes_set: frozenset[Attribute] = frozenset()
    options: tuple[str, ...] = ()


class Tmpfs(Operation):
    """An empty tmpfs; ``size`` in bytes, 0: the kernel's default.

    ``mode``, ``uid``, ``gid``: of its root. Flags: parents, existing.
    """

    kind: ClassVar[str] = "tmpfs"

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int = 0
    attributes_set: frozenset[Attribute] = frozenset()
    options: tuple[str, ...] = ()


class Proc(Operation):
    """A fresh procfs of the new pid namespace."""

    kind: ClassVar[str] = "proc"

    attributes_set: frozenset[Attribute] = frozenset()
    options: tuple[str, ...] = ()


class Sysfs(Operation):
    """A fresh sysfs; the network namespace must be owned by the new user namespace."""

    kind: ClassVar[str] = "sysfs"

    attributes_set: frozenset[Attribute] = frozenset()


class Devpts(Operation):
    """A new devpts instance; ``mode`` and ``gid`` (inside) of its terminals."""

    kind: ClassVar[str] = "devpts"

    mode: int | None = None
    gid: int | None = None
    attributes_set: frozenset[Attribute] = frozenset()
    options: tuple[str, ...] = ()


class Mqueue(Operation):
    """POSIX message queues of the new IPC namespace."""

    kind: ClassVar[str] = "mqueue"

    attributes_set: frozenset[Attribute] = frozenset()


class Cgroup2(Operation):
    """The cgroup v2 hierarchy, as the cgroup namespace shows it."""

    kind: ClassVar[str] = "cgroup2"

    attributes_set: frozenset[Attribute] = frozenset()
    options: tuple[str, ...] = ()


class Device(Operation):
    """A character device: ``source`` bound after type and numbers were verified, or made.

    Flags: parents, mknod (it is made), optional.
    """

    kind: ClassVar[str] = "device"

    source: str = ""
    device_major: int = 0
    device_minor: int = 0
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


class Directory(Operation):
    """A directory. One that exists is left as it is, unless the flag exclusive is given.

    Flags: parents, if_missing, exclusive.
    """

    kind: ClassVar[str] = "directory"

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


class File(Operation):
    """A regular file with ``content``, or copied from the descriptor in ``slot``.

    Flags: parents, if_missing, exclusive.
    """

    kind: ClassVar[str] = "file"

    content: bytes = b""
    slot: str | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


class BindFile(Operation):
    """A file that exists nowhere else, with ``content`` or what ``slot`` holds, over ``target``.

    Flags: parents, existing.
    """

    kind: ClassVar[str] = "bind_file"

    content: bytes = b""
    slot: str | None = None
    mode: int | None = None
    attributes_set: frozenset[Attribute] = frozenset()


class Symlink(Operation):
    """A symbolic link at ``target`` that reads ``text``; the same one already there is no failure.

    Flags: parents, if_missing, exclusive.
    """

    kind: ClassVar[str] = "symlink"

    text: str = ""


class Mask(Operation):
    """What is at ``target`` is hidden: a file shows /dev/null, a directory an empty tmpfs.

    Flags: optional.
    """

    kind: ClassVar[str] = "mask"


class Remount(Operation):
    """Attributes or propagation of the mount at ``target`` change.

    Flags: recursive, optional.
    """

    kind: ClassVar[str] = "remount"

    attributes_set: frozenset[Attribute] = frozenset()
    attributes_clear: frozenset[Attribute] = frozenset()
    propagation: Propagation = "keep"


class Chmod(Operation):
    """The mode of what is at ``target`` changes."""

    kind: ClassVar[str] = "chmod"

    mode: int | None = None


class Sysctl(Operation):
    """``text`` is written to the sysctl ``target``: a path below /proc/sys, ``kernel/hostname``."""

    kind: ClassVar[str] = "sysctl"

    text: str = ""


class Console(Operation):
    """The pty of the plan's terminal appears at ``target``; nothing happens without a terminal."""

    kind: ClassVar[str] = "console"


OPERATIONS: dict[str, type[Operation]] = {
    class_.kind: class_
    for class_ in (
        Bind,
        Overlay,
        Tmpfs,
        Proc,
        Sysfs,
        Devpts,
        Mqueue,
        Cgroup2,
        Device,
        Directory,
        File,
        BindFile,
        Symlink,
        Mask,
        Remount,
        Chmod,
        Sysctl,
        Console,
    )
}
"""The classes by their kind, in the order of spec/wire.toml."""
