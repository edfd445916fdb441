"""What bad input gets: a sentence with the path, the IDs and a remedy; nothing is left behind."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from typing import TYPE_CHECKING

import pytest

from kernel.sublet_run import PROGRAMS, Sublet, make_tree
from support import probes

if TYPE_CHECKING:
    from pathlib import Path

    from support.leaks import Leaks
    from support.users import User

pytestmark = pytest.mark.requires("userns")


@pytest.fixture
def run(sublet_command: list[str], anyone: User) -> Sublet:
    return Sublet(sublet_command, anyone)


@pytest.fixture
def alice_run(sublet_command: list[str], alice: User) -> Sublet:
    return Sublet(sublet_command, alice)


def refused(
    run: Sublet, nothing: Leaks, *words: str, verb: tuple[str, ...] = ("run",)
) -> tuple[int, str, str]:
    """Return status, sentence and remedy of a command that fails; the home stays as it was."""
    nothing.watch(run.user.home)
    done = run(*verb, *words)
    assert done.stdout == ""
    sentence, *hints = done.stderr.splitlines()
    assert sentence.startswith("sublet: "), done.stderr
    assert all(line.startswith("  ") for line in hints), done.stderr
    assert hints, f"no remedy: {done.stderr}"
    return done.returncode, sentence, " ".join(line.strip() for line in hints)


# ---------------------------------------------------------------- the request


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--view", "nonsense"), "no view 'nonsense'"),
        (("--net", "bridge"), "no network 'bridge'"),
        (("--ids", "nonsense"), "--ids nonsense"),
        (("--view", "host", "--rootfs", "/"), "--view and --rootfs exclude"),
        (("--writable",), "--writable is about a root file system"),
        (("--rootfs", "/", "--writable", "--read-only"), "exclude one another"),
        (("--rootfs", "/", "--name", "x", "--writable"), "exclude one another"),
        (("--rootfs", "/nonexistent"), "/nonexistent does not exist"),
        (("--name", "nobody"), "no layer named nobody"),
        (("--name", "../x", "--rootfs", "/"), "'../x' is not a usable name"),
        (("-v", "/srv:/data:idmap=1:2:3"), "idmap=1:2:3"),
        (("--timeout", "soon"), "--timeout 'soon'"),
        (("--ulimit", "files=1"), "no limit 'files'"),
        (("--cap-add", "FLY"), "no capability 'FLY'"),
        (("--seccomp", "/nonexistent"), "/nonexistent"),
        (("--report", "fd:99"), "fd:99"),
        (("--json",), "--json goes with --plan"),
        (("--hostnam", "x"), "no option --hostnam"),
        (("--user",), "--user needs a value"),
    ],
)
def test_what_cannot_be_meant(
    run: Sublet, leaving_nothing: Leaks, words: tuple[str, ...], sentence: str
) -> None:
    # the option without a value is the last word
    rest = () if words == ("--user",) else ("--", "true")
    status, said, _ = refused(run, leaving_nothing, *words, *rest)
    assert status == 125
    assert sentence in said


@pytest.mark.requires("newuidmap")
def test_an_unknown_id(run: Sublet, leaving_nothing: Leaks) -> None:
    words = ("--ids", "full", "--user", "70000:0", "--", "true")
    status, said, hint = refused(run, leaving_nothing, *words)
    assert status == 125
    assert "UID 70000 has no mapping" in said
    assert "--ids" in hint


@pytest.mark.parametrize(
    "text", ["4294967295", "4294967296", "-1", "1:4294967295", "99999999999999"]
)
def test_an_id_that_is_none_is_no_name_either(
    run: Sublet, leaving_nothing: Leaks, text: str
) -> None:
    status, said, _ = refused(run, leaving_nothing, "--user", text, "--", "true")
    assert status == 125
    assert text.rpartition(":")[2] in said


def test_a_map_that_asks_for_more_than_is_delegated(
    alice_run: Sublet, leaving_nothing: Leaks
) -> None:
    start, count = alice_run.user.sub_ids.start, len(alice_run.user.sub_ids)
    words = ("--ids", f"b:0:{start}:{count + 1}", "--", "true")
    status, said, hint = refused(alice_run, leaving_nothing, *words)
    assert status == 125
    assert str(start + count) in said
    assert alice_run.user.name in said
    assert "/etc/subuid" in hint


# ---------------------------------------------------------------- the machine


@pytest.mark.requires("root", "newuidmap")
def test_a_missing_newuidmap(
    alice_run: Sublet, leaving_nothing: Leaks, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide = 'mount --bind /dev/null "$(command -v newuidmap)" && exec "$@"'
    private = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", hide, "-"]
    monkeypatch.setattr(alice_run.user, "_prefix", [*private, *alice_run.user._prefix])
    status, said, hint = refused(alice_run, leaving_nothing, "--ids", "full", "--", "true")
    assert status == 125
    assert "newuidmap" in said
    assert "uidmap" in hint
    assert "--ids keep" in hint
    assert alice_run.says("--", "id", "-u").strip() == str(alice_run.user.uid)


@pytest.mark.requires("newuidmap", "command:setpriv")
def test_a_newuidmap_that_may_not_gain_its_privilege(
    alice_run: Sublet, leaving_nothing: Leaks
) -> None:
    bound = Sublet(["setpriv", "--no-new-privs", *alice_run.command], alice_run.user)
    status, said, _ = refused(bound, leaving_nothing, "--ids", "full", "--", "true")
    assert status == 125
    assert "no_new_privs" in said
    assert bound.says("--ids", "root", "--", "id", "-u") == "0\n"


def test_user_namespaces_that_are_disabled(run: Sublet, leaving_nothing: Leaks) -> None:
    disable = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    inside = ["unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-c", disable, "-"]
    status, said, hint = refused(
        Sublet([*inside, *run.command], run.user), leaving_nothing, "--", "true"
    )
    assert status == 125
    assert "user.max_user_namespaces is 0" in said
    assert "sysctl user.max_user_namespaces=" in hint


# ---------------------------------------------------------------- paths


def test_a_missing_source(run: Sublet, leaving_nothing: Leaks) -> None:
    missing = f"{run.user.home}/missing"
    status, said, hint = refused(run, leaving_nothing, "-v", f"{missing}:/data", "--", "true")
    assert status == 125
    assert f"{missing} to /data" in said
    assert "does not exist" in hint


@pytest.mark.requires("root")
def test_a_source_behind_a_closed_directory(alice_run: Sublet, leaving_nothing: Leaks) -> None:
    closed = alice_run.user.mkdir("closed")
    (closed / "inner").mkdir()
    os.chown(closed, 0, 0)
    closed.chmod(0o700)
    words = ("-v", f"{closed}/inner:/data", "--", "true")
    status, said, hint = refused(alice_run, leaving_nothing, *words)
    assert status == 125
    assert f"{closed}/inner" in said
    assert str(closed) in hint


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (("--tmpfs", "/etc/hostname"), "/etc/hostname"),
        (("-v", "/usr:/etc/hostname"), "/etc/hostname"),
        (("-v", "/etc/hostname:/etc"), "/etc"),
        (("-w", "/etc/hostname"), "/etc/hostname"),
        (("-v", "/usr:/etc/hostname/x"), "/etc/hostname"),
        (("-v", "/usr:/usr/new"), "/usr/new"),
        (("-w", "/nonexistent"), "/nonexistent"),
    ],
)
def test_places_that_are_not_what_is_needed(
    run: Sublet, leaving_nothing: Leaks, words: tuple[str, ...], path: str
) -> None:
    status, said, _ = refused(run, leaving_nothing, *words, "--", "true")
    assert status == 125
    assert path in said


# ---------------------------------------------------------------- the command


def test_a_command_that_is_not_there(run: Sublet, leaving_nothing: Leaks) -> None:
    for command in ("no-such-command", "/usr/bin/no-such-command"):
        status, said, _ = refused(run, leaving_nothing, "--", command)
        assert status == 127
        assert command in said


@pytest.mark.requires("newuidmap", "overlay_userns")
def test_a_root_file_system_without_the_command(run: Sublet, leaving_nothing: Leaks) -> None:
    tree = make_tree(run.user)
    status, said, _ = refused(run, leaving_nothing, "--ids", "full", "--rootfs", str(tree))
    assert status == 127
    assert "/bin/sh" in said


def test_a_command_that_cannot_be_executed(run: Sublet, leaving_nothing: Leaks) -> None:
    script = run.user.write("script", "#!/bin/sh\n", mode=0o644)
    noformat = run.user.write("noformat", "nothing that any kernel runs\n", mode=0o755)
    for command in (str(script), str(noformat), "/etc"):
        status, said, _ = refused(run, leaving_nothing, "--", command)
        assert status == 126, said
        assert command in said


def test_a_command_whose_interpreter_is_missing(run: Sublet, leaving_nothing: Leaks) -> None:
    script = run.user.write("script", "#!/no/such/interpreter\n", mode=0o755)
    status, said, _ = refused(run, leaving_nothing, "--", str(script))
    assert status in {126, 127}
    assert str(script) in said


# ---------------------------------------------------------------- archives


def archive_of(user: User, *members: tuple[str, bytes, str]) -> Path:
    """Make a tar of (name, type, link or content) members."""
    path = user.home / "root.tar"
    with tarfile.open(path, "w") as file:
        for name, kind, rest in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            member.mode = 0o755
            if kind in {tarfile.SYMTYPE, tarfile.LNKTYPE}:
                member.linkname = rest
            elif kind == tarfile.REGTYPE:
                member.size = len(rest)
            file.addfile(member, io.BytesIO(rest.encode()))
    user.own(path)
    return path


HOSTILE = {
    "dots": [("../../evil", tarfile.REGTYPE, "x")],
    "link": [("a", tarfile.SYMTYPE, "../../.."), ("a/evil", tarfile.REGTYPE, "x")],
    "hardlink": [("a", tarfile.SYMTYPE, "/etc"), ("b", tarfile.LNKTYPE, "a/passwd")],
}


@pytest.mark.requires("newuidmap")
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive(run: Sublet, kind: str) -> None:
    archive = archive_of(run.user, *HOSTILE[kind])
    done = run("run", "--ids", "full", "--rootfs", str(archive), *PROGRAMS, "--", "true")
    assert done.returncode != 0
    for folder in (run.user.home, *run.user.home.parents):
        assert not (folder / "evil").exists()


@pytest.mark.requires("newuidmap")
def test_a_truncated_archive(run: Sublet) -> None:
    archive = archive_of(run.user, *((f"f{n}", tarfile.REGTYPE, "x" * 5000) for n in range(50)))
    os.truncate(archive, 100_000)
    status, said = run.fails("--ids", "full", "--rootfs", str(archive), "--", "true")
    assert status == 125
    assert str(archive) in said
    trees = run.user.home / ".cache/sublet/trees"
    assert [entry.name for entry in trees.iterdir() if entry.is_dir()] == []


def test_what_is_no_archive(run: Sublet) -> None:
    path = run.user.write("notes.txt", "no archive at all\n" * 100)
    status, said = run.fails("--ids", "root", "--rootfs", str(path), "--", "true")
    assert status == 125
    assert str(path) in said


# ---------------------------------------------------------------- plans


@pytest.mark.parametrize("content", ["", "{", "[]", '{"sublet-plan": 99}', "SUBLPLAN", "\0" * 500])
@pytest.mark.parametrize("action", ["explain", "convert", "run"])
def test_a_corrupt_plan(run: Sublet, leaving_nothing: Leaks, content: str, action: str) -> None:
    plan = run.user.write("plan", content)
    leaving_nothing.watch(run.user.home)
    done = run("plan", action, str(plan))
    assert done.returncode == 125
    assert done.stdout == ""
    assert str(plan) in done.stderr


def test_a_damaged_plan_in_the_executors_form(run: Sublet) -> None:
    saved = run.says("--plan", "--json", "--", "true")
    run.user.write("plan.json", saved)
    assert run("plan", "convert", "plan.json", "plan.wire").returncode == 0
    wire = run.user.home / "plan.wire"
    whole = wire.read_bytes()
    for at in range(8, len(whole), len(whole) // 20):
        wire.write_bytes(whole[:at])
        assert run("plan", "run", "plan.wire").returncode == 125


def test_nothing_is_setuid(sublet_exec: Path) -> None:
    assert not sublet_exec.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)
    assert probes.missing("userns") is None
