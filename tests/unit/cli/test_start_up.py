"""The way from the command line to the executor: what is imported on it, counted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[3] / "src"
PROGRAM = f"""\
import os, sys
sys.path.insert(0, {str(SOURCE)!r})
before = set(sys.modules)
def arrive(*_):
    print(*sorted(set(sys.modules) - before))
    sys.stdout.flush()
    os._exit(0)
os.execv = arrive
from sublet.cli import main
sys.exit(main(sys.argv[1:]))
"""
DEAR = "argparse collections ctypes dataclasses enum functools inspect json re subprocess typing"
MODULES = 42
"""Each module costs 60 microseconds at least; with the first 42 `sublet run` takes about as long as
the interpreter's own start."""


def imported(*words: str) -> set[str]:
    """Return the modules that `sublet WORDS` has imported when the executor takes over."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM, *words],
        env={"SUBLET_EXEC": "/bin/true", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("words", [(), ("--view", "host"), ("--ids", "root"), ("--net", "host")])
def test_an_ordinary_run_imports_little(words: tuple[str, ...]) -> None:
    modules = imported("run", *words, "--", "true")
    assert "sublet.launch.become" in modules
    assert len(modules) <= MODULES, sorted(modules)
    assert not modules & set(DEAR.split())


def test_options_bring_what_they_need_and_no_more() -> None:
    plain = imported("run", "--", "true")
    bound = imported("run", "--rw", ".", "--tmpfs", "/x", "--", "true")
    limited = imported("run", "--timeout", "5", "--ulimit", "core=0", "--", "true")
    assert bound - plain == {"sublet.planners.binds"}
    assert limited - plain == {"sublet.planners.limits", "sublet.plan.rlimits"}


def test_no_verb_imports_another() -> None:
    assert not [
        name
        for name in imported("run", "--", "true")
        if name.startswith("sublet.cli.") and name.split(".")[2] not in {"run", "_options"}
    ]


def test_the_command_itself_imports_no_more_than_it_must() -> None:
    program = PROGRAM.replace("sys.exit(main(sys.argv[1:]))", "arrive()")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    rooms = {"sublet", "sublet._version", "sublet.cli", "sublet.errors"}
    assert set(done.stdout.split()) == {"__future__", *rooms}
