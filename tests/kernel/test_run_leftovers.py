"""Nothing is left behind: whoever is killed, at whatever moment, no process or mount remains."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from kernel.sublet_run import PROGRAMS, Sublet, make_tree
from support import leaks

if TYPE_CHECKING:
    from pathlib import Path

    from support.users import User

pytestmark = [
    pytest.mark.requires("userns", "newuidmap", "overlay_userns"),
    pytest.mark.usefixtures("leaving_nothing"),
]

PATIENCE_SECONDS = 10.0
TREE = "sleep 60 & setsid sleep 60 & echo ready; wait"


@pytest.fixture
def run(sublet_command: list[str], anyone: User) -> Sublet:
    return Sublet(sublet_command, anyone)


@pytest.fixture
def tree(run: Sublet) -> Path:
    return make_tree(run.user)


def words_of(run: Sublet, tree: Path, *words: str) -> list[str]:
    hand_on = ("-e", leaks.VARIABLE)
    options = ("--ids", "full", "--rootfs", str(tree), *PROGRAMS, *hand_on)
    return [*run.command, "run", *options, *words, "--", "sh", "-c", TREE]


def wait_until_gone(mark: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while remaining := list(leaks.marked(mark)):
        assert time.monotonic() < deadline, [leaks.describe(pid) for pid in remaining]
        time.sleep(0.01)


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.mark.parametrize("victim", range(5))
def test_killing_any_of_the_processes_ends_all_that_hang_on_it(
    run: Sublet, tree: Path, mark: str, victim: int
) -> None:
    with run.user.popen(words_of(run, tree)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        # The supervisor, init, the shell and its two children. An ordinary user who runs the tests
        # cannot look into the first two, and knows the first only.
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(pids := sorted({process.pid, *leaks.marked(mark)})) < 4:
            # One that is just being executed has no environment for a moment.
            if time.monotonic() > deadline:
                break
        assert len(pids) >= 4, [leaks.describe(pid) for pid in pids]
        chosen = pids[min(victim, len(pids) - 1)]
        kill(chosen)
        if victim >= 3:  # one of the sleepers: the others go on, until the supervisor is told
            process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)
    wait_until_gone(mark)


def test_killing_at_any_moment_leaves_nothing(run: Sublet, tree: Path, mark: str) -> None:
    chance = random.Random(7)  # noqa: S311  (moments, not secrets)
    for _ in range(25):
        with run.user.popen(words_of(run, tree)) as process:
            time.sleep(chance.uniform(0.0, 0.12))
            for pid in chance.sample(pids := sorted(leaks.marked(mark)), min(1, len(pids))):
                kill(pid)
            kill(process.pid)
            process.wait(PATIENCE_SECONDS)
        wait_until_gone(mark)
    assert (
        run("run", "--ids", "full", "--rootfs", str(tree), *PROGRAMS, "--", "true").returncode == 0
    )


def test_who_holds_a_name_and_is_killed_lets_it_go(run: Sublet, tree: Path, mark: str) -> None:
    for _ in range(3):
        with run.user.popen(words_of(run, tree, "--name", "web")) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            kill(process.pid)
            process.wait(PATIENCE_SECONDS)
        wait_until_gone(mark)
    assert run("rm", "web").returncode == 0


def test_what_goes_on_in_the_background_ends_with_the_command(
    run: Sublet, tree: Path, mark: str
) -> None:
    done = run(
        *words_of(run, tree)[1:-1],
        "setsid sleep 60 & sleep 60 & exit 4",
    )
    assert done.returncode == 4
    wait_until_gone(mark)


def test_die_with_parent(run: Sublet, tree: Path, mark: str) -> None:
    argv = words_of(run, tree, "--die-with-parent")
    with run.user.popen(["sh", "-c", '"$@"; true', "-", *argv]) as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == "ready\n"
        kill(shell.pid)
        shell.wait(PATIENCE_SECONDS)
        wait_until_gone(mark)
