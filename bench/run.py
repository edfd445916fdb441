#!/usr/bin/env python3
"""Sublet beside its peers, in one run on one machine: ratios to read, never asserted in a test.

    make bench                          everything, and docs/benchmarks.md is written anew
    bench/run.py [SECTION...]           start, run, memory, unpack; printed only

As root it moves into a private mount namespace of its own first, where a hybrid cgroup2 hierarchy
is unmounted (crun, and with it podman, refuses hybrid layouts). Nothing outside of it is touched.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "src"), str(HERE)]

from peers import Peers, executor_plan  # noqa: E402

ROUNDS = int(os.environ.get("SUBLET_BENCH_ROUNDS", "200"))
COUNTS = (1, 100, 500)
PAUSE_MS = 20
SECTIONS = ("start", "run", "memory", "unpack")


def compiled(name: str, directory: Path) -> str:
    """Compile one of the C programs here, statically."""
    out = directory / name
    subprocess.run(["cc", "-O2", "-static", "-w", "-o", out, HERE / f"{name}.c"], check=True)
    return str(out)


def timed(
    timer: str, commands: dict[str, list[str]], rounds: int, pause_ms: int = 0
) -> dict[str, list[float]]:
    """Run all *commands* in turn, *rounds* times; return milliseconds of each."""
    line: list[str] = []
    for command in commands.values():
        line += [*command, ":::"]
    done = subprocess.run(
        [timer, str(rounds), str(pause_ms), *line[:-1]], check=True, capture_output=True, text=True
    )
    rows = [[int(word) / 1e6 for word in row.split()] for row in done.stdout.splitlines()]
    return dict(zip(commands, map(list, zip(*rows, strict=True)), strict=True))


def table(figures: dict[str, list[float]], base: str, unit: str = "ms") -> list[str]:
    """Lay out medians, minima and ratios to the median of *base*."""
    reference = statistics.median(figures[base])
    rows = [f"| what | median {unit} | minimum | of {base} |", "|---|---:|---:|---:|"]
    for name, values in figures.items():
        median = statistics.median(values)
        rows.append(f"| {name} | {median:.2f} | {min(values):.2f} | {median / reference:.2f} |")
    return rows


def start(tools: dict[str, str], peers: Peers) -> list[str]:
    """Time the executor with a ready plan beside bubblewrap and the kernel's floor."""
    plan = peers.directory / "executor.plan"
    plan.write_bytes(executor_plan(["/bin/true"]))
    commands = {
        "fork and exec": ["/bin/true"],
        "floor (clone3, pivot, /proc, exec in C)": [tools["floor"], "/bin/true"],
        "unshare": ["unshare", "-Urmpfnui", "--mount-proc", "/bin/true"],
        "bwrap": peers.bwrap(["/bin/true"]),
        "sublet-exec, ready plan": [tools["sublet-exec"], str(plan)],
    }
    head = ["## A ready plan: all namespaces, /proc, /dev, read-only root, `/bin/true`", ""]
    return head + table(timed(tools["timer"], commands, ROUNDS), "bwrap")


def run(tools: dict[str, str], peers: Peers) -> list[str]:
    """Time the command line beside the command lines of the OCI runtimes and of podman."""
    commands = {
        "python3 -I -c pass": [peers.python, "-I", "-c", "pass"],
        "sublet run -- true": [tools["sublet"], "run", "--", "true"],
        "sublet run --rootfs DIR -- true": [
            tools["sublet"],
            "run",
            "--rootfs",
            str(peers.rootfs),
            "--",
            "true",
        ],
        "bwrap": peers.bwrap(["true"]),
        **peers.runtimes(),
    }
    rows = [
        "## The command line, from nothing to the end of `true`",
        "",
        f"With {PAUSE_MS} ms between two commands: the OCI runtimes leave cgroups and",
        "namespaces that the kernel still takes down when the next command runs.",
        "",
    ]
    figures = timed(tools["timer"], commands, max(ROUNDS // 2, 10), PAUSE_MS)
    podman = peers.podman()
    if podman:
        figures |= timed(tools["timer"], {"podman run": podman}, max(ROUNDS // 20, 5))
    base = "runc run" if "runc run" in figures else "bwrap"
    rows += table(figures, base)
    if podman:
        ratio = statistics.median(figures["sublet run -- true"]) / statistics.median(
            figures["podman run"]
        )
        rows += ["", f"`sublet run -- true` takes {ratio:.3f} of `podman run`."]
    return rows


def descendants(pid: int) -> list[int]:
    """Return *pid* and all processes below it."""
    found = [pid]
    for current in found:
        children = Path(f"/proc/{current}/task/{current}/children")
        if children.exists():
            found += [int(word) for word in children.read_text().split()]
    return found


def resident(pids: list[int], but: str) -> int:
    """Return the KiB of PSS of all *pids* whose command is not *but*."""
    total = 0
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/comm").read_text().strip() == but:
                continue
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next(
            int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")
        )
    return total


def memory(tools: dict[str, str], peers: Peers) -> list[str]:
    """Weigh what stays resident beside sleeping payloads: 1, 100 and 500 at once."""
    sleep = ["sleep", "1000"]
    plan = peers.directory / "sleep.plan"
    plan.write_bytes(executor_plan(["/bin/sleep", "1000"]))
    commands = {
        "bwrap": peers.bwrap(sleep),
        "sublet-exec": [tools["sublet-exec"], str(plan)],
        "sublet run": [tools["sublet"], "run", "--", *sleep],
    }
    rows = ["## Resident beside a sleeping payload (PSS of all processes but the payload)", ""]
    rows += ["| what | at once | KiB each | seconds until all sleep |", "|---|---:|---:|---:|"]
    for name, command in commands.items():
        for count in COUNTS:
            began = time.monotonic()
            started = [
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
                for _ in range(count)
            ]
            try:
                while sum(is_sleeping(process.pid) for process in started) < count:
                    time.sleep(0.02)
                took = time.monotonic() - began
                weight = sum(resident(descendants(process.pid), "sleep") for process in started)
            finally:
                for process in started:
                    process.kill()
                for process in started:
                    process.wait()
            rows.append(f"| {name} | {count} | {weight / count:.0f} | {took:.2f} |")
    return rows


def is_sleeping(pid: int) -> bool:
    """Whether the payload below *pid* was executed."""
    for child in descendants(pid):
        try:
            if Path(f"/proc/{child}/comm").read_text() == "sleep\n":
                return True
        except OSError:
            continue
    return False


def unpack(_tools: dict[str, str], peers: Peers) -> list[str]:
    """Time the unpacking of a distribution's root file system beside tar inside unshare."""
    from unpack import compare

    rows = [
        "## Unpacking a root file system",
        "",
        "| archive | sublet s | tar in unshare s | ratio |",
        "|---|---:|---:|---:|",
    ]
    for name, (ours, theirs) in compare(peers.archives()).items():
        rows.append(f"| {name} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} |")
    return rows


def machine() -> list[str]:
    """Name the machine and the peers' versions."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    lines = [
        (
            f"{os.cpu_count()} cores ({model}), Linux {platform.release()}, "
            f"Python {platform.python_version()}, UID {os.getuid()}."
        )
    ]
    for tool in ("bwrap", "runc", "crun", "podman"):
        if path := shutil.which(tool):
            first = subprocess.run(
                [path, "--version"], capture_output=True, text=True, check=False
            ).stdout.split("\n")[0]
            lines.append(f"{first}.")
    return [" ".join(lines)]


def private_mounts() -> None:
    """As root: go on in a mount namespace of our own, without a hybrid cgroup2 hierarchy."""
    if os.getuid() or "SUBLET_BENCH_PRIVATE" in os.environ:
        return
    script = 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"'
    inner = [
        "unshare",
        "-m",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        "sh",
        sys.executable,
        *sys.argv,
    ]
    os.execvpe(inner[0], inner, {**os.environ, "SUBLET_BENCH_PRIVATE": "1"})


def main(arguments: list[str]) -> int:
    """Run the sections asked for; all of them, written to the docs, without arguments or with
    --write.
    """
    private_mounts()
    write = "--write" in arguments
    chosen = [word for word in arguments if word != "--write"] or list(SECTIONS)
    with tempfile.TemporaryDirectory(prefix="sublet-bench-") as scratch:
        directory = Path(scratch)
        peers = Peers(directory)
        tools = {
            "timer": compiled("timer", directory),
            "floor": compiled("floor", directory),
            "sublet-exec": str(HERE.parent / "src/sublet/sublet-exec"),
            "sublet": peers.sublet(),
        }
        rows = [
            "# Benchmarks",
            "",
            "Made by `make bench`: medians of one run, all commands in turn. Read the ratios;",
            "the milliseconds are this machine's.",
            "",
        ]
        rows += machine()
        for name in chosen:
            rows += ["", *globals()[name](tools, peers)]
            print("\n".join(rows[-12:]), file=sys.stderr)
    text = "\n".join(rows) + "\n"
    if write:
        (HERE.parent / "docs/benchmarks.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
