"""The main job: a distribution's root file system, with its package manager working inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernel.sublet_run import Sublet

if TYPE_CHECKING:
    from pathlib import Path

    from support.users import User

pytestmark = [
    pytest.mark.requires("userns", "newuidmap", "overlay_userns", "command:mmdebstrap"),
    pytest.mark.usefixtures("leaving_nothing"),
    pytest.mark.xdist_group("debian"),
]

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
