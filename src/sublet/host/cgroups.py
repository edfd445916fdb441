"""The caller's place in the cgroup hierarchies, v1 and v2 (cgroups(7))."""

from __future__ import annotations

import os

from sublet.plan.facts import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sublet.host.machine import Host


def read_cgroups(host: Host) -> tuple[Cgroup, ...]:
    """Return the caller's group in each hierarchy: v1 in the kernel's order, then v2."""
    mounts = _mounts(host.read("/proc/self/mountinfo") or "")
    groups: list[Cgroup] = []
    for line in (host.read("/proc/self/cgroup") or "").split("\n"):
        number, _, rest = line.partition(":")
        listed, _, name = rest.partition(":")
        if not name.startswith("/"):
            continue
        if number == "0" and not listed:
            groups.append(_v2(host, name, mounts))
        else:
            names = tuple(part for part in listed.split(",") if part)
            path = _visible(name, mounts.get(names[0], ())) if names else None
            groups.append(Cgroup(1, names, name, path, _writable(host, path)))
    return tuple(sorted(groups, key=lambda group: group.version))


def _v2(host: Host, name: str, mounts: dict[str, tuple[tuple[str, str], ...]]) -> Cgroup:
    path = _visible(name, mounts.get("", ()))
    controllers = (host.read(f"{path}/cgroup.controllers") or "") if path else ""
    return Cgroup(2, tuple(controllers.split()), name, path, _writable(host, path))


def _writable(host: Host, path: str | None) -> bool:
    """Tell whether groups can be made below *path* and processes moved there.

    In v2 a process may be moved only by who may write cgroup.procs of the common ancestor.
    """
    return path is not None and all(
        host.access(file, os.W_OK) for file in (path, f"{path}/cgroup.procs")
    )


def _visible(name: str, mounts: tuple[tuple[str, str], ...]) -> str | None:
    """Return the directory of group *name*, given (root, mount point) of its hierarchy's mounts."""
    for root, point in mounts:
        if root == "/":
            return f"{point}{name}".rstrip("/")
        if name == root or name.startswith(f"{root}/"):
            return point + name[len(root) :]
    return None


def _mounts(text: str) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return controller ("" for v2) -> (root, mount point) of each of its mounts.

    Lines of /proc/PID/mountinfo: ID PARENT DEVICE ROOT POINT OPTIONS... - TYPE SOURCE SUPEROPTIONS.
    """
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for line in text.split("\n"):
        before, dash, after = line.partition(" - cgroup")
        if not dash:
            continue
        fields, about = before.split(" "), after.split(" ")
        if len(fields) < 6 or len(about) < 3:
            continue
        keys = [""] if about[0] == "2" else about[2].split(",")
        for key in keys:
            found[key] = (*found.get(key, ()), (_unescape(fields[3]), _unescape(fields[4])))
    return found


def _unescape(text: str) -> str:
    """Undo the kernel's octal escapes for space, tab, newline and backslash (proc(5))."""
    if "\\" not in text:
        return text
    head, *parts = text.split("\\")
    return head + "".join(chr(int(part[:3], 8)) + part[3:] for part in parts)
