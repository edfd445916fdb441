#!/usr/bin/env python3
"""Unpack a root file system with ours, and with tar inside unshare: medians and their ratio.

    bench/unpack.py ARCHIVE...

Both run in a user namespace with a map of all sub-IDs (or, for a root that has none, with the
machine's own IDs), in turn, each into a fresh directory beside the others; ours is the program that
`sublet run --rootfs ARCHIVE` starts.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCES = Path(__file__).resolve().parent.parent / "src"
NAMESPACE = ["unshare", "--user", "--map-auto", "--map-root-user", "--"]
ROUNDS = 9


def entrance() -> list[str]:
    """Return what both are started with."""
    tried = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True, check=False)
    if tried.returncode and os.geteuid():
        raise RuntimeError(tried.stderr.strip())
    return NAMESPACE if tried.returncode == 0 else []


def compare(archives: dict[str, Path], rounds: int = ROUNDS) -> dict[str, tuple[float, float]]:
    """Return the median seconds of ours and of tar, for each archive by its name."""
    place = Path(tempfile.mkdtemp(prefix="sublet-bench-", dir="/var/tmp"))  # not in memory
    place.chmod(0o755)
    enter = entrance()
    try:
        return {name: medians(path, place, rounds, enter) for name, path in archives.items()}
    finally:
        subprocess.run([*enter, "rm", "-rf", "--", str(place)], capture_output=True, check=False)
        shutil.rmtree(place, ignore_errors=True)


def medians(archive: Path, place: Path, rounds: int, enter: list[str]) -> tuple[float, float]:
    """Return the median seconds of ours and of tar for one archive."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for which, command in enumerate((ours(), theirs(archive))):
            target = place / f"{number}-{which}"
            target.mkdir()
            times[which].append(seconds([*enter, *command], archive, target))
            subprocess.run([*enter, "rm", "-rf", "--", str(target)], check=True)
    return statistics.median(times[0]), statistics.median(times[1])


def ours() -> list[str]:
    """Return the command of the unpacker, started as state/inside.py starts it."""
    paths = [str(SOURCES), *(path for path in sys.path if Path(path, "zstandard").is_dir())]
    bootstrap = (
        f"import sys, runpy; sys.path[:0] = {paths!r}; "
        "runpy.run_module('sublet.archive.unpack', run_name='__main__', alter_sys=True)"
    )
    everybody = [[0, 65536]]
    options = {
        "uids": everybody,
        "gids": everybody,
        "squash": False,
        "max_bytes": 1 << 40,
        "max_members": 5_000_000,
    }
    interpreter = str(Path(sys.executable).resolve())
    return [interpreter, "-I", "-S", "-B", "-c", bootstrap, json.dumps(options)]


def theirs(archive: Path) -> list[str]:
    """Return tar's command; it cannot make devices there either, and is told not to try."""
    return ["tar", "--exclude=./dev/*", "-xf", str(archive)]


def seconds(command: list[str], archive: Path, target: Path) -> float:
    """Run *command* inside, in *target* and with *archive* as standard input; time it."""
    with open(archive, "rb") as source:
        start = time.perf_counter()
        done = subprocess.run(
            command,
            stdin=source,
            cwd=target,
            capture_output=True,
            text=True,
            check=False,
        )
        taken = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    return taken


def main(paths: list[str]) -> int:
    """Print a line for each archive."""
    for name, (mine, tars) in compare({path: Path(path) for path in paths}).items():
        print(f"{name}: ours {mine:.2f} s, tar {tars:.2f} s, ratio {mine / tars:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
