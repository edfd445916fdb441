"""The main job: a distribution's root file system, with its package manager working inside."""

from __future__ import annotations

import fcntl
import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernel.sublet_run import Sublet
from support import probes

if TYPE_CHECKING:
    from support.users import User

pytestmark = [
    pytest.mark.requires("userns", "newuidmap", "overlay_userns", "command:mmdebstrap"),
    pytest.mark.usefixtures("leaving_nothing"),
    pytest.mark.xdist_group("debian"),
]

SUITE = "bookworm"
OPTIONS = ("proxy", "cainfo", "check-valid-until", "check-date")
"""Settings of the machine's apt that its mirror may need inside too."""


def apt_options() -> list[str]:
    """Return options for mmdebstrap that carry the machine's way to its mirror along."""
    said = subprocess.run(
        ["apt-config", "dump"], capture_output=True, text=True, check=False
    ).stdout
    lines = (line for line in said.splitlines() if line.startswith("Acquire::"))
    wanted = (line for line in lines if line.split(" ")[0].lower().endswith(OPTIONS))
    return [f"--aptopt={line.removesuffix(';')}" for line in wanted]


@pytest.fixture(scope="module")
def debian() -> Path:
    """A tar archive of a small Debian with apt, made once and kept for later runs of the tests."""
    folder = Path(f"/var/tmp/sublet-tests-{os.geteuid()}")
    folder.mkdir(mode=0o755, exist_ok=True)
    assert folder.stat().st_uid == os.geteuid(), f"{folder} is somebody else's"
    folder.chmod(0o755)
    archive = folder / f"{SUITE}-{platform.machine()}.tar"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            partial = archive.with_suffix(".partial.tar")
            command = ["mmdebstrap", "--variant=apt", *apt_options(), SUITE, str(partial)]
            made = subprocess.run(command, capture_output=True, text=True, check=False)
            if made.returncode != 0:
                last = "\n".join(made.stderr.splitlines()[-5:])
                probes.absent(probes.Absence(f"mmdebstrap failed: {last}", mendable=False))
            partial.rename(archive)
    archive.chmod(0o644)
    return archive


INSTALL = "apt-get update && apt-get install -y hello && hello"


def test_apt_works_without_a_workaround(
    sublet_command: list[str], anyone: User, debian: Path
) -> None:
    run = Sublet(sublet_command, anyone)
    words = ("--ids", "full", "--rootfs", str(debian))
    done = run("run", *words, "--net", "host", "--", "sh", "-c", INSTALL, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Hello, world!" in done.stdout
    assert "sandbox" not in done.stderr.lower()  # apt says so when it cannot become _apt
    # it vanished, and what apt needs for that is there
    assert run.fails(*words, "--", "hello")[0] == 127
    owner = "/var/cache/apt/archives/partial"
    assert run.says(*words, "--", "stat", "-c", "%U:%G", owner) == "_apt:root\n"


def test_what_apt_installs_stays_under_a_name(
    sublet_command: list[str], alice: User, debian: Path
) -> None:
    run = Sublet(sublet_command, alice)
    words = ("--ids", "full", "--net", "host", "--rootfs", str(debian), "--name", "apps", "--")
    done = run("run", *words, "sh", "-c", INSTALL, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert run.says("--name", "apps", "--", "hello") == "Hello, world!\n"
    assert run.says("--name", "apps", "--user", "nobody", "--", "id", "-un") == "nobody\n"
    assert run("rm", "apps").returncode == 0


def test_setuid_programs_work_inside_the_map(
    sublet_command: list[str], anyone: User, debian: Path
) -> None:
    run = Sublet(sublet_command, anyone)
    words = ("--ids", "full", "--rootfs", str(debian))
    shown = run.says(*words, "--user", "nobody", "--", "sh", "-c", "stat -c %A /bin/su; id -u")
    assert shown == "-rwsr-xr-x\n65534\n"
    script = (
        "cp /usr/bin/id /usr/bin/id-of-root && chmod u+s /usr/bin/id-of-root &&"
        " {} su nobody -s /bin/sh -c id-of-root"
    )
    assert "euid=0(root)" in run.says(*words, "--", "sh", "-c", script.format(""))
    without = script.format("setpriv --no-new-privs")
    assert "euid=0(root)" not in run.says(*words, "--", "sh", "-c", without)
