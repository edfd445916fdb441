"""Capabilities by name: the table, masks, and the set that containers usually start with.

A set of capabilities is a 64-bit mask; bit N is capability N of linux/capability.h
(capabilities(7)).
"""

from __future__ import annotations

from sublet.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NAMES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
)
"""The capabilities without their prefix; the index is the number."""

ALL = (1 << len(NAMES)) - 1
"""The mask of all capabilities that have a name."""

_PREFIX = "CAP_"


def parse(text: str) -> int:
    """Return the mask of one capability, or of "all" or "none".

    Case and the prefix do not matter: ``CAP_NET_RAW``, ``net_raw``. A bare number names a
    capability that is newer than the table. InputError where there is none of that name.
    """
    name = text.upper()
    if name == "ALL":
        return ALL
    if name == "NONE":
        return 0
    name = name.removeprefix(_PREFIX)
    if name in NAMES:
        return 1 << NAMES.index(name)
    if name.isascii() and name.isdigit() and len(name) < 3 and int(name) < 64:
        return 1 << int(name)
    raise InputError(
        f"there is no capability {text!r}",
        hint="Names are those of capabilities(7), with or without CAP_, or all, or none.",
    )


def mask(names: Iterable[str]) -> int:
    """Return the mask of several capabilities; InputError as for :func:`parse`."""
    bits = 0
    for name in names:
        bits |= parse(name)
    return bits


def names(bits: int) -> tuple[str, ...]:
    """Return the names in a mask, lowest first, as ``CAP_CHOWN``; a number where there is none."""
    return tuple(
        _PREFIX + NAMES[number] if number < len(NAMES) else str(number)
        for number in range(bits.bit_length())
        if bits >> number & 1
    )


CONTAINER = mask(
    (
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "SETFCAP",
    )
)
"""The mask of what root of a container is usually given: podman's list since 4.0.

It is what package managers and daemons need in a user namespace. The engines' older list has three
more, which are left out for podman's reasons and ours: with NET_RAW a container forges packets on a
network it shares, and ping does without (net.ipv4.ping_group_range); MKNOD makes no usable device
in a user namespace; AUDIT_WRITE writes to the machine's audit log.
"""
