"""The reporter, run as the executor runs it: by the argv that stands in the plan."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sublet.launch import reporter
from sublet.launch.executor import in_memory, reporter_command
from sublet.launch.report import report_of
from sublet.plan.codec import encode
from sublet.plan.message import Message
from sublet.plan.model import Plan, Process, Supervision

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]

FAILED = Message("failed", phase="exec", step="search", error=2)
EXITED = Message("exited", phase="supervise", value=3, wall_ns=1, user_us=2, max_rss_kib=4)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the reporter with a message, from a directory without meaning."""

    def runner(
        message: Message | bytes, report: str | None = None, pass_fds: tuple[int, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        plan = Plan(
            Process(("no-such-tool",), search_path="/bin"),
            supervision=Supervision(timeout_ms=1500, reporter=reporter_command(report)),
        )
        record = in_memory(message if isinstance(message, bytes) else message.encode())
        wire = in_memory(encode(plan))
        # Whatever file position was left: reading starts at 0.
        os.lseek(wire, 5, os.SEEK_SET)
        try:
            return subprocess.run(
                [*plan.supervision.reporter, "--record", str(record), "--plan", str(wire)],
                pass_fds=(record, wire, *pass_fds),
                cwd=tmp_path,
                env={"PYTHONPATH": "/nonexistent", "PATH": ""},
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            os.close(record)
            os.close(wire)

    return runner


def test_failures_are_said_with_their_remedy(run: Run) -> None:
    done = run(FAILED)
    assert done.returncode == 127
    sentence, hint = done.stderr.splitlines()
    assert sentence == "sublet: no-such-tool was not found: it is in no directory of PATH (/bin)"
    assert hint.startswith("  Check the spelling")
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("message", "status", "said"),
    [
        (EXITED, 3, ""),
        (Message("exited", ending="signal", value=11), 139, ""),
        (Message("exited", ending="timeout"), 124, "the time given (1.5 s) was over"),
        (Message("exited", ending="lost", value=9), 137, "killed from outside (signal 9)"),
        (Message("failed", phase="directory", step="openat2", error=2), 125, "directory"),
        (Message("failed", phase="exec", step="execve", error=8), 126, "Exec format error"),
    ],
)
def test_statuses(run: Run, message: Message, status: int, said: str) -> None:
    done = run(message)
    assert done.returncode == status
    assert said in done.stderr
    assert bool(said) == bool(done.stderr)


def test_the_report_of_a_success(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "reports"
    target.mkdir()
    done = run(EXITED, str(target / "report.json"))
    assert (done.returncode, done.stderr) == (3, "")
    report = json.loads((target / "report.json").read_text())
    assert report["version"] == 1
    assert (report["ending"], report["status"], report["exit_code"]) == ("exit", 3, 3)
    assert report["used"] == {"wall_ns": 1, "user_us": 2, "system_us": 0, "max_rss_kib": 4}
    assert report["enforced"]["timeout_ms"] == 1500
    assert os.listdir(target) == ["report.json"]


def test_the_report_of_a_failure(run: Run, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("old")
    done = run(FAILED, str(tmp_path / "report.json"))
    assert done.returncode == 127
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["ending"] == "setup"
    assert (report["phase"], report["step"], report["errno"]) == ("exec", "search", 2)
    assert report["error"]["what"] in done.stderr
    assert report["exit_code"] == 127
    assert "used" not in report


def test_a_report_into_a_descriptor(run: Run) -> None:
    reading, writing = os.pipe()
    try:
        done = run(EXITED, str(writing), pass_fds=(writing,))
        assert done.returncode == 3
        assert json.loads(os.read(reading, 65536))["status"] == 3
    finally:
        os.close(reading)
        os.close(writing)


def test_a_report_that_cannot_be_written_is_a_failure(run: Run, tmp_path: Path) -> None:
    done = run(EXITED, str(tmp_path / "missing" / "report.json"))
    assert done.returncode == 125
    assert "cannot be written to" in done.stderr
    assert "No such file" in done.stderr


def test_a_report_stays_in_the_directory_that_was_opened(run: Run, tmp_path: Path) -> None:
    place, elsewhere = tmp_path / "place", tmp_path / "elsewhere"
    place.mkdir()
    elsewhere.mkdir()
    opened = os.open(place, os.O_PATH | os.O_DIRECTORY)
    try:
        place.rename(tmp_path / "moved")
        place.symlink_to(elsewhere)
        assert run(EXITED, f"{opened}/report.json", (opened,)).returncode == 3
    finally:
        os.close(opened)
    assert not list(elsewhere.iterdir())
    assert json.loads((tmp_path / "moved" / "report.json").read_text())["status"] == 3


def test_a_report_to_what_is_no_file(run: Run) -> None:
    assert run(EXITED, "/dev/null").returncode == 3
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("record", [b"", b"x" * 79, b"\xff" * 80])
def test_records_that_are_none(run: Run, record: bytes) -> None:
    done = run(record)
    assert done.returncode == 125
    assert done.stderr.startswith("sublet: ")
    assert "Traceback" not in done.stderr


def test_it_is_not_for_people(capfd: pytest.CaptureFixture[str]) -> None:
    for argv in (
        ["--what"],
        [],
        ["--record", "x", "--plan", "1"],
        ["--plan", "²", "--record", "1"],
    ):
        assert reporter.main(argv) == 125
    assert capfd.readouterr().err.count("sublet: the reporter") == 4


def test_a_report_says_what_was_in_force() -> None:
    plan = Plan(Process(("/x",)), seccomp=b"\0" * 16)
    report = report_of(EXITED, plan).to_dict()
    assert report["enforced"]["seccomp_instructions"] == 2
    assert "uid_map" not in report["enforced"]
