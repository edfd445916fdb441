"""The launcher's end of the channel against peers that keep to the protocol, break it, and die."""

from __future__ import annotations

import errno
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sublet.errors import (
    CommandNotFoundError,
    ExecutorDiedError,
    HostError,
    PlanError,
    ProtocolError,
    SetupError,
)
from sublet.launch.spawn import Launched, spawn
from sublet.plan.model import Plan, Process, Supervision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., Launched]

FAKE = Path(__file__).with_name("fake_executor.py")
SOURCE = Path(__file__).resolve().parents[2] / "src"
PROCESS = Process(("/bin/true",), directory="/nowhere")


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a fake executor that says the given words."""
    wrapper = tmp_path / "sublet-exec"
    wrapper.write_text(f'#!/bin/sh\nPYTHONPATH={SOURCE} exec {sys.executable} -S {FAKE} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("SUBLET_EXEC", str(wrapper))
    before = set(os.listdir("/proc/self/fd"))
    started: list[Launched] = []

    def starter(says: str, *, sync_start: bool = False, stdout: int | None = None) -> Launched:
        monkeypatch.setenv("FAKE_SAYS", says)
        plan = Plan(PROCESS, supervision=Supervision(sync_start=sync_start))
        started.append(spawn(plan, stdout=stdout))
        return started[-1]

    yield starter
    for launched in started:
        launched.close()
        with pytest.raises(ChildProcessError):
            os.waitpid(launched.pid, os.WNOHANG)
    assert set(os.listdir("/proc/self/fd")) == before, "a descriptor was left open"


def test_a_whole_dialogue(start: Start) -> None:
    launched = start("started ready running exited")
    launched.wait_ready()
    assert launched.first_pid == launched.pid
    assert launched.first_pidfd is not None
    report = launched.wait()
    assert (report.ending, report.status, report.exit_code, report.wall_ns) == ("exit", 7, 7, 5)
    assert launched.report is report
    assert launched.wait() is report


def test_a_whole_dialogue_in_step(start: Start) -> None:
    launched = start("started ready wait running signalled", sync_start=True)
    launched.wait_ready()
    assert launched.state == "ready"
    with pytest.raises(ProtocolError, match="waits for go"):
        launched.wait()
    launched.go()
    with pytest.raises(ProtocolError, match="may not say 'go'"):
        launched.go()
    report = launched.wait()
    assert (report.ending, report.signal, report.exit_code) == ("signal", 9, 137)


def test_go_is_for_plans_that_wait(start: Start) -> None:
    launched = start("started ready sleep")
    launched.wait_ready()
    with pytest.raises(ProtocolError, match="may not say 'go'"):
        launched.go()


@pytest.mark.parametrize("says", ["started late", "started ready late"])
def test_the_time_can_be_over_before_the_command_runs(start: Start, says: str) -> None:
    launched = start(says)
    launched.wait_ready()
    assert launched.wait().ending == "timeout"


@pytest.mark.parametrize("says", ["failed", "started failed", "started ready failed"])
def test_failures_are_explained(start: Start, says: str) -> None:
    launched = start(says)
    with pytest.raises(SetupError, match="working directory /nowhere") as caught:
        launched.wait()
    assert (caught.value.phase, caught.value.errno) == ("directory", 2)
    assert caught.value.hint
    assert launched.report is not None
    assert launched.report.ending == "setup"
    with pytest.raises(SetupError, match="working directory /nowhere"):
        launched.wait()


def test_a_failure_before_ready_is_raised_by_whoever_waits_for_that(start: Start) -> None:
    with pytest.raises(SetupError, match="working directory"):
        start("started failed").wait_ready()


def test_a_command_that_is_not_there_has_its_own_error(start: Start) -> None:
    launched = start("started ready notfound")
    launched.wait_ready()
    with pytest.raises(CommandNotFoundError) as caught:
        launched.wait()
    assert caught.value.exit_code == 127


@pytest.mark.parametrize(
    ("says", "place"),
    [
        ("", "before it had started"),
        ("started", "while it set the sandbox up .last phase named: clone."),
        ("started ready", "before the command was executed"),
        ("started ready running", "while the command ran"),
    ],
)
@pytest.mark.parametrize("end", ["", "die", "heir die"])
def test_an_executor_that_dies_is_an_answer(start: Start, says: str, place: str, end: str) -> None:
    launched = start(f"{says} {end}")
    with pytest.raises(ExecutorDiedError, match=place) as caught:
        launched.wait(10)
    assert ("signal 9" in caught.value.what) == ("die" in end)
    assert caught.value.phase is not None
    assert launched.state == "ended"
    lost = launched.report is not None and launched.report.ending == "lost"
    assert lost == ("running" in says)


def test_an_executor_that_dies_before_go(start: Start) -> None:
    launched = start("started ready", sync_start=True)
    launched.wait_ready()
    os.waitid(os.P_PIDFD, launched.pidfd, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ExecutorDiedError):
        launched.go()


@pytest.mark.parametrize(
    ("says", "sentence"),
    [
        ("short", "a message has .* bytes, and"),
        ("long", "a message has .* bytes, and"),
        ("version", "version 99"),
        ("kind", "99 is no message"),
        ("inner", "may not say 'maps_wanted'"),
        ("ready", "may not say 'ready'"),
        ("exited", "may not say 'exited'"),
        ("started started", "may not say 'started'"),
        ("started running", "may not say 'running'"),
        ("started ready ready", "may not say 'ready'"),
        ("started ready running failed", "may not say 'failed'"),
        ("started ready running running", "may not say 'running'"),
        ("bare", "0 descriptors came"),
        ("crowd", "3 descriptors came"),
        ("throng", "descriptors came"),
        ("started smuggled", "1 descriptors came"),
    ],
)
def test_breaches_are_refused_and_leave_nothing(start: Start, says: str, sentence: str) -> None:
    launched = start(f"{says} sleep")
    with pytest.raises(ProtocolError, match=sentence):
        launched.wait(10)
    assert launched.state == "ended"
    with pytest.raises(ProtocolError, match=sentence):
        launched.wait()


def test_what_must_wait_for_go_may_not_run_before(start: Start) -> None:
    launched = start("started ready running sleep", sync_start=True)
    launched.wait_ready()
    with pytest.raises(ProtocolError, match="waits for go"):
        launched.wait()
    launched.go()
    launched_state = launched.state
    assert launched_state == "released"


def test_waiting_has_an_end_and_can_go_on(start: Start) -> None:
    launched = start("started sleep")
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        launched.wait_ready(0.3)
    assert 0.25 < time.monotonic() - begun < 5
    assert launched.state in {"starting", "preparing"}
    launched.kill()
    with pytest.raises(ExecutorDiedError, match="signal 9"):
        launched.wait_ready(10)


def test_killing_before_anything_was_heard(start: Start) -> None:
    launched = start("sleep")
    launched.kill()
    with pytest.raises(ExecutorDiedError):
        launched.wait(10)
    launched.kill()


def test_killing_from_another_thread(start: Start) -> None:
    launched = start("started ready running sleep")
    launched.wait_ready()
    timer = threading.Timer(0.2, launched.kill)
    timer.start()
    with pytest.raises(ExecutorDiedError, match="while the command ran"):
        launched.wait(10)
    timer.join()


def test_leaving_the_block_ends_it(start: Start) -> None:
    with start("started ready running sleep") as launched:
        launched.wait_ready()
        pid = launched.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_only_what_is_given_is_inherited(start: Start, tmp_path: Path) -> None:
    extra = os.open("/", os.O_PATH)
    os.set_inheritable(extra, True)
    reading, writing = os.pipe()
    try:
        launched = start("shout started ready running exited", stdout=writing)
        launched.wait()
        said = os.read(reading, 4096).decode()
    finally:
        for fd in (extra, reading, writing):
            os.close(fd)
    numbers = said.removeprefix("out [").strip().rstrip("]").split(", ")
    # 0, 1, 2, the plan, the channel, and the descriptor with which the fake lists them
    assert len(numbers) == 6, said
    del tmp_path


def test_many_threads_at_once(start: Start) -> None:
    launches = [start("started ready running exited") for _ in range(6)]
    statuses: list[int | None] = []
    threads = [
        threading.Thread(target=lambda one=one: statuses.append(one.wait().status))
        for one in launches
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert statuses == [7] * 6


def test_an_executor_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    missing = tmp_path / "sublet-exec"
    monkeypatch.setenv("SUBLET_EXEC", str(missing))
    with pytest.raises(HostError, match="missing") as caught:
        spawn(Plan(PROCESS))
    assert "SUBLET_EXEC" in str(caught.value.hint)
    missing.write_text("no program")
    with pytest.raises(HostError, match="not executable"):
        spawn(Plan(PROCESS))
    missing.chmod(0o755)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(HostError, match="Exec format error"):
        spawn(Plan(PROCESS))
    assert set(os.listdir("/proc/self/fd")) == before


def test_too_few_descriptors_are_an_error_and_not_a_leak(start: Start) -> None:
    del start
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = set(os.listdir("/proc/self/fd"))
    lowest = os.open("/", os.O_PATH)
    os.close(lowest)
    refused: list[HostError] = []
    try:
        for room in range(12):
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + room, hard))
            try:
                spawn(Plan(PROCESS)).close()
            except HostError as error:
                refused.append(error)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert {error.errno for error in refused} == {errno.EMFILE}
    assert 3 < len(refused) < 12
    assert "ulimit -n" in str(refused[0].hint)
    refused.clear()
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_plan_that_is_not_valid_starts_nothing(start: Start) -> None:
    del start
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(PlanError):
        spawn(Plan(Process(())))
    assert set(os.listdir("/proc/self/fd")) == before


def test_the_plan_travels_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Become an executor that looks at what it got."""
    fake = tmp_path / "sublet-exec"
    fake.write_text(
        f"#!{sys.executable}\n"
        "import os, sys\n"
        "fd = int(sys.argv[sys.argv.index('--plan') + 1])\n"
        "print(sys.argv[1:-1], os.readlink(f'/proc/self/fd/{fd}'), len(os.pread(fd, 99999, 0)))\n"
        "slot = int(sys.argv[2].partition('=')[2])\n"
        "print(os.readlink(f'/proc/self/fd/{slot}'))\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("SUBLET_EXEC", str(fake))
    script = (
        "import os\nfrom sublet.launch.become import become\n"
        "from sublet.plan.model import *\n"
        "print('before')\n"
        "plan = Plan(Process(('/bin/true',)), slots=('root',))\n"
        "become(plan, {'root': os.open('/', os.O_PATH)})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, got, slot = done.stdout.splitlines()
    assert before == "before"
    assert got.startswith("['--slot', 'root=")
    assert "'--plan'] /memfd:sublet-plan (deleted) " in got
    assert slot == "/"


def test_signals_are_handed_on_as_they_were(
    sublet_exec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python ignores some from its start on, which the executor undoes."""
    monkeypatch.setenv("SUBLET_EXEC", str(sublet_exec))
    script = (
        "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from sublet.launch.become import become\nfrom sublet.plan.model import *\n"
        "become(Plan(Process(('grep', 'SigIgn', '/proc/self/status'), search_path='/bin')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    ignored = int(done.stdout.split()[1], 16)
    assert not ignored >> (signal.SIGPIPE - 1) & 1
    assert not ignored >> (signal.SIGXFSZ - 1) & 1
    assert ignored >> (signal.SIGHUP - 1) & 1, "what was ignored on purpose stays so"
