"""The test support proves itself: who its users are, and that its checkers can fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import leaks, probes

if TYPE_CHECKING:
    from support.users import User

as_root = pytest.mark.skipif(os.geteuid() != 0, reason=probes.BEYOND + "not run as root")


def test_each_user_is_who_they_say(everyone: User) -> None:
    said = everyone.run(["sh", "-c", "id -u; id -g; id -G; id -un; pwd; echo $HOME"])
    numbers = [str(everyone.uid), str(everyone.gid), str(everyone.gid)]
    place = str(everyone.home)
    assert (said.stdout.split(), said.stderr) == ([*numbers, everyone.name, place, place], "")


@pytest.mark.requires("newuidmap", "userns")
def test_alice_can_map_her_sub_ids(alice: User) -> None:
    enter = ["unshare", "--user", "--map-root-user", "--map-auto"]
    said = alice.run([*enter, "cat", "/proc/self/uid_map"])
    assert said.stderr == ""
    own, subordinate = [[int(word) for word in line.split()] for line in said.stdout.splitlines()]
    assert own == [0, alice.uid, 1]
    assert subordinate[:2] == [1, alice.sub_ids.start]
    # unshare(1) of util-linux 2.38 leaves the last ID out
    assert subordinate[2] in (len(alice.sub_ids) - 1, len(alice.sub_ids))


@pytest.mark.requires("newuidmap", "userns")
def test_nosub_cannot(nosub: User) -> None:
    enter = ["unshare", "--user", "--map-root-user", "--map-auto"]
    assert nosub.run([*enter, "true"]).returncode != 0


@as_root
def test_the_machines_own_files_stay_as_they_are(alice: User) -> None:
    names = ("passwd", "group", "subuid", "subgid")
    before = [Path("/etc", name).read_text() for name in names if Path("/etc", name).exists()]
    seen = alice.run(["cat", "/etc/subuid"]).stdout
    assert "alice:100000:65536" in seen.splitlines()
    after = [Path("/etc", name).read_text() for name in names if Path("/etc", name).exists()]
    assert before == after


def test_users_own_what_they_make(anyone: User) -> None:
    made = anyone.write("file", "text\n")
    anyone.run(["touch", "other"], check=True)
    for path in (made, anyone.home / "other", anyone.mkdir("folder")):
        assert (path.stat().st_uid, path.stat().st_gid) == (anyone.uid, anyone.gid)


def test_the_environment_is_clean(anyone: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/elsewhere")
    seen = anyone.run(["env"], env={"EXTRA": "1"}).stdout
    names = {line.partition("=")[0] for line in seen.splitlines()}
    assert names >= {"HOME", "PATH", "EXTRA"}
    assert not {name for name in names if name.startswith(("XDG_", "PYTHON", "PYTEST"))}


def test_a_left_process_is_found(anyone: User, mark: str) -> None:
    checker = leaks.Leaks(mark)
    with anyone.popen(["sleep", "60"]) as sleeper:
        try:
            awaited = f"process {sleeper.pid}: sleep 60"  # before, it is the helper on its way
            waited = leaks.wait_until_empty(
                lambda: [] if awaited in checker.found() else ["not yet"], patience=5
            )
            assert not waited
            with pytest.raises(AssertionError, match=awaited):
                checker.check(patience=0)
        finally:
            sleeper.kill()
    checker.check()


def test_a_left_file_is_found(anyone: User, mark: str) -> None:
    checker = leaks.Leaks(mark)
    checker.watch(anyone.home)
    left = anyone.write("left", "")
    with pytest.raises(AssertionError, match=r"path .*/left"):
        checker.check(patience=0)
    left.unlink()
    checker.check()


def test_every_probe_answers() -> None:
    for name, probe in probes.PROBES.items():
        if name != "network":
            absence = probe()
            assert absence is None or absence.reason


def test_a_command_that_nobody_has_is_missing() -> None:
    absence = probes.missing("command:no-such-command-anywhere")
    assert absence is not None
    assert absence.mendable


def test_old_and_future_kernels_are_told_apart() -> None:
    assert probes.missing("kernel>=2.6") is None
    absence = probes.missing("kernel>=99.0")
    assert absence is not None
    assert not absence.mendable


WANTING = """
import pytest

@pytest.mark.requires("command:no-such-command-anywhere")
def test_mendable(): pass

@pytest.mark.requires("kernel>=99.0")
def test_beyond(): pass

def test_no_reason(): pytest.skip("too lazy")

@pytest.mark.xfail(reason="known")
def test_known(): assert False
"""


@pytest.mark.parametrize(
    ("must_work", "summary"),
    [("0", "3 skipped, 1 xfailed"), ("1", "1 failed, 1 skipped, 1 xfailed, 1 error")],
)
def test_what_must_work_is_not_skipped(tmp_path: Path, must_work: str, summary: str) -> None:
    (tmp_path / "test_wanting.py").write_text(WANTING)
    checkout = Path(__file__).resolve().parents[2]
    plain = ["-p", "conftest", "-p", "no:cacheprovider", "-c", str(checkout / "pyproject.toml")]
    inherited = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plain, "--rootdir", str(tmp_path), str(tmp_path)],
        env={
            **inherited,
            "SUBLET_MUST_WORK": must_work,
            "PYTHONPATH": str(checkout / "tests"),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert summary in done.stdout, done.stdout + done.stderr


def test_everyone_can_start_the_installed_command(
    everyone: User, sublet_command: list[str], sublet_exec: Path
) -> None:
    said = everyone.run([*sublet_command, "--version"])
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith("sublet ")
    assert everyone.run([sublet_exec, "--version"]).returncode == 0
