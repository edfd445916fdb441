"""What this machine offers, for `@pytest.mark.requires(...)`.

Each probe tries the thing itself and answers with None, or with an Absence: the reason, and
whether the machine could be brought to offer it (a package to install). Where SUBLET_MUST_WORK=1
is set, an absence that could be mended fails the test instead of skipping it.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

MUST_WORK = os.environ.get("SUBLET_MUST_WORK") == "1"

# Some user without privileges, for probes run by root; no file belongs to it.
STRANGER = ["setpriv", "--reuid", "65533", "--regid", "65533", "--clear-groups", "--"]

# How a skip says that it is the machine's nature and no neglect; see beyond().
BEYOND = "beyond this machine: "


class Absence(NamedTuple):
    """Why something is not to be had, and whether installing something would change that."""

    reason: str
    mendable: bool


def beyond(reason: str) -> NoReturn:
    """Skip the running test for a reason that no set-up could remove, SUBLET_MUST_WORK or not."""
    pytest.skip(BEYOND + reason)


def absent(absence: Absence) -> NoReturn:
    """Skip the running test, or fail it where the absence has no excuse."""
    if not absence.mendable:
        beyond(absence.reason)
    if MUST_WORK:
        pytest.fail(f"{absence.reason} (SUBLET_MUST_WORK=1 forbids to skip this)", pytrace=False)
    pytest.skip(absence.reason)


@functools.cache
def missing(capability: str) -> Absence | None:
    """Probe one capability by its name; None means that it is there.

    Raises LookupError for a name that no probe knows.
    """
    if capability.startswith("command:"):
        return probe_command(capability.removeprefix("command:"))
    if capability.startswith("kernel>="):
        return probe_kernel(capability.removeprefix("kernel>="))
    if capability not in PROBES:
        raise LookupError(f"no probe for {capability!r}; there are {', '.join(sorted(PROBES))}")
    return PROBES[capability]()


def first_missing(capabilities: tuple[str, ...]) -> Absence | None:
    """Return the first absence among *capabilities*, in their order."""
    return next(filter(None, map(missing, capabilities)), None)


def succeeds(*command: str, unprivileged: bool = False) -> str | None:
    """Run a command, as nobody in particular if *unprivileged*; return None or what it said."""
    prefix = STRANGER if unprivileged and os.geteuid() == 0 else []
    try:
        done = subprocess.run(
            [*prefix, *command],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    return done.stderr.strip() or f"{command[0]} exited with {done.returncode}"


def probe_command(name: str) -> Absence | None:
    """Look for a program on PATH, and in the administrator's directories."""
    if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
        return None
    return Absence(f"{name} is not installed", mendable=True)


def probe_kernel(version: str) -> Absence | None:
    """Compare the running kernel's version with "MAJOR.MINOR"."""
    running = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if running is None:
        return Absence(f"kernel {os.uname().release} tells no version", mendable=False)
    wanted = tuple(int(part) for part in version.split("."))
    if tuple(int(part) for part in running.groups()) >= wanted:
        return None
    return Absence(f"kernel {os.uname().release} is older than {version}", mendable=False)


def probe_root() -> Absence | None:
    """Ask for root in the initial user namespace, with the right to mount."""
    if os.geteuid() != 0:
        return Absence("not run as root", mendable=False)
    if absence := probe_command("mount"):
        return absence
    said = succeeds("unshare", "--mount", "--propagation", "private", "true")
    return Absence(f"root may not mount here: {said}", mendable=False) if said else None


def probe_userns() -> Absence | None:
    """Let a user without privileges make a user namespace and become its root."""
    said = succeeds("unshare", "--user", "--map-root-user", "true", unprivileged=True)
    return Absence(f"no unprivileged user namespaces: {said}", mendable=False) if said else None


def probe_newuidmap() -> Absence | None:
    """Look for both helpers, with the privilege that makes them useful."""
    for name in ("newuidmap", "newgidmap"):
        path = shutil.which(name)
        if path is None:
            return Absence(f"{name} is not installed (package uidmap)", mendable=True)
        setuid = os.stat(path).st_mode & stat.S_ISUID
        if not setuid and b"security.capability" not in map(os.fsencode, os.listxattr(path)):
            return Absence(f"{path} is neither setuid root nor has a capability", mendable=True)
    return None


def probe_overlay_userns() -> Absence | None:
    """Mount an overlay, its layers on a tmpfs, in an unprivileged user namespace."""
    if absence := probe_userns() or probe_command("mount"):
        return absence
    script = (
        "mount -t tmpfs probe /tmp && mkdir /tmp/l /tmp/u /tmp/w /tmp/m && mount -t overlay "
        "-o lowerdir=/tmp/l,upperdir=/tmp/u,workdir=/tmp/w,userxattr probe /tmp/m"
    )
    enter = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script)
    said = succeeds(*enter, unprivileged=True)
    return Absence(f"no overlay in a user namespace: {said}", mendable=False) if said else None


def probe_cgroup2() -> Absence | None:
    """Look for the unified cgroup hierarchy."""
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        return None
    return Absence("no unified cgroup hierarchy at /sys/fs/cgroup", mendable=False)


def probe_compiler() -> Absence | None:
    """Look for a C compiler; whether it serves is the build's business."""
    if any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        return None
    return Absence("no C compiler", mendable=True)


def probe_network() -> Absence | None:
    """Fetch a small package from the package index that pip is set up to use."""
    with tempfile.TemporaryDirectory(prefix="sublet-probe-") as folder:
        pip = (sys.executable, "-m", "pip", "-q", "--retries", "0", "--timeout", "20")
        fetch = ("download", "--no-cache-dir", "--no-deps", "-d", folder, "iniconfig")
        said = succeeds(*pip, *fetch)
    return Absence("the package index cannot be reached", mendable=False) if said else None


PROBES: dict[str, Callable[[], Absence | None]] = {
    "cgroup2": probe_cgroup2,
    "compiler": probe_compiler,
    "network": probe_network,
    "newuidmap": probe_newuidmap,
    "overlay_userns": probe_overlay_userns,
    "root": probe_root,
    "userns": probe_userns,
}
