"""A small Debian with apt, as a tar archive, made once and kept for later runs of the tests."""

from __future__ import annotations

import fcntl
import os
import platform
import subprocess
from pathlib import Path

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


def archive() -> Path:
    """Return the path of the archive, which everybody can read.

    Raises RuntimeError with mmdebstrap's last words where it cannot be made.
    """
    folder = Path(f"/var/tmp/sublet-tests-{os.geteuid()}")
    folder.mkdir(mode=0o755, exist_ok=True)
    assert folder.stat().st_uid == os.geteuid(), f"{folder} is somebody else's"
    folder.chmod(0o755)
    kept = folder / f"{SUITE}-{platform.machine()}.tar"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            partial = kept.with_suffix(".partial.tar")
            command = ["mmdebstrap", "--variant=apt", *apt_options(), SUITE, str(partial)]
            made = subprocess.run(command, capture_output=True, text=True, check=False)
            if made.returncode != 0:
                last = "\n".join(made.stderr.splitlines()[-5:])
                raise RuntimeError(f"mmdebstrap failed: {last}")
            # Once only: a change of any kind makes an archive another one to who unpacks it.
            partial.chmod(0o644)
            partial.rename(kept)
    return kept
