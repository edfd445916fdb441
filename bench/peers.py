"""The peers' command lines for the same job, and what they need: a root file system, a bundle,
archives.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

CACHE = Path(os.environ.get("SUBLET_BENCH_CACHE", "/var/tmp/sublet-bench"))
SUITE = "bookworm"


def executor_plan(argv: list[str]) -> bytes:
    """Return the wire form of what `bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev`
    does.
    """
    from sublet._value import replace
    from sublet.cli._options import parse
    from sublet.cli.run import OPTIONS, make_plan
    from sublet.plan.codec import encode

    given = parse(
        "run", OPTIONS, ["--view", "host", "--ids", "keep", "--seccomp", "none", "--", *argv]
    )
    plan = make_plan(given, {})
    # What covers parts of a root's /proc goes beyond what bubblewrap does.
    same = tuple(
        operation
        for operation in plan.operations
        if operation.kind != "mask" and not operation.target.startswith("/proc/")
    )
    plan = replace(plan, operations=same)
    return encode(replace(plan, supervision=replace(plan.supervision, reporter=())))


class Peers:
    """What stands beside us. ``directory``: for scratch files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.python = sys.executable

    @property
    def rootfs(self) -> Path:
        """A distribution's root file system as a directory."""
        path = CACHE / SUITE
        if not path.exists():
            archive = self.archives()["plain"]
            fresh = CACHE / f"{SUITE}.new"
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            subprocess.run(["tar", "-xf", archive, "-C", fresh, "--exclude=./dev/*"], check=True)
            fresh.rename(path)
        return path

    def archives(self) -> dict[str, Path]:
        """The same as archives: made once by mmdebstrap."""
        CACHE.mkdir(parents=True, exist_ok=True)
        plain = CACHE / f"{SUITE}.tar"
        if not plain.exists():
            fresh = CACHE / f"{SUITE}.new.tar"
            subprocess.run(["mmdebstrap", "--variant=apt", SUITE, fresh], check=True)
            fresh.rename(plain)
        packed = plain.with_suffix(".tar.gz")
        if not packed.exists():
            subprocess.run(["gzip", "-k", plain], check=True)
        return {"plain": plain, "gzip": packed}

    def sublet(self) -> str:
        """The installed command, else the checkout's."""
        beside = Path(sys.executable).parent / "sublet"
        return str(beside) if beside.exists() else "sublet"

    def bwrap(self, command: list[str]) -> list[str]:
        """Bubblewrap with all namespaces, /proc, /dev and a read-only root."""
        view = ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
        return ["bwrap", "--unshare-all", "--die-with-parent", *view, *command]

    def runtimes(self) -> dict[str, list[str]]:
        """The OCI runtimes that are here, with a bundle of their own making."""
        found = {}
        for name in ("crun", "runc"):
            if shutil.which(name) and os.getuid() == 0:
                bundle = self._bundle(name)
                found[f"{name} run"] = [
                    name,
                    "--root",
                    str(self.directory / f"{name}-state"),
                    "run",
                    "--bundle",
                    str(bundle),
                    f"bench-{os.getpid()}",
                ]
        return found

    def _bundle(self, runtime: str) -> Path:
        bundle = self.directory / f"bundle-{runtime}"
        bundle.mkdir()
        subprocess.run([runtime, "spec"], check=True, cwd=bundle)
        config = json.loads((bundle / "config.json").read_text())
        config["process"]["terminal"] = False
        config["process"]["args"] = ["/bin/true"]
        config["root"]["path"] = str(self.rootfs)
        (bundle / "config.json").write_text(json.dumps(config))
        return bundle

    def podman(self) -> list[str] | None:
        """Podman with the same root file system; None where it is not here or cannot run."""
        if not shutil.which("podman") or os.getuid():
            return None
        limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
        command = [
            "podman",
            "run",
            "--rm",
            "--network",
            "none",
            *limits,
            "--rootfs",
            str(self.rootfs),
            "/bin/true",
        ]
        works = subprocess.run(command, check=False, capture_output=True).returncode == 0
        return command if works else None
