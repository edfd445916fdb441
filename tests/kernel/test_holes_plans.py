"""Plans as an attack: whatever the bytes are, one line and status 125, or what they say.

The executor is started on them as it is, so the plans here name only a harmless command.
"""

from __future__ import annotations

import os
import random
import struct
import time
from typing import TYPE_CHECKING

import pytest

from kernel.sublet_run import Sublet
from sublet._value import replace
from sublet.mounts.operations import Bind, Proc, Tmpfs
from sublet.plan.codec import decode, encode
from sublet.plan.model import Credentials, Plan, Process

if TYPE_CHECKING:
    from pathlib import Path

    from support.users import User

pytestmark = [pytest.mark.requires("userns"), pytest.mark.usefixtures("leaving_nothing")]

ROUNDS = int(os.environ.get("SUBLET_TEST_MUTATIONS", "300"))
"""Damaged plans that are started."""

HARMLESS = Plan(
    process=Process(("/bin/true",), environment=("A=b",), directory="/"),
    namespaces=frozenset({"mount", "pid"}),
    operations=(
        Tmpfs("/", mode=0o755),
        Bind("/usr", frozenset({"recursive"}), source="/usr"),
        Bind("/bin", frozenset({"recursive"}), source="/bin"),
        Bind("/lib", frozenset({"recursive"}), source="/lib"),
        Proc("/proc"),
    ),
    root_propagation="private",
    pivot=True,
    credentials=Credentials(uid=0, gid=0),
)

MANY = r"""
import os, re, resource, subprocess, sys
executor, folder = sys.argv[1:]
bad = []
counts = {}
for name in sorted(os.listdir(folder)):
    try:
        done = subprocess.run([executor, os.path.join(folder, name)], stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=20)
    except subprocess.TimeoutExpired:
        bad.append(f"{name}: hangs")
        continue
    status, said = done.returncode, done.stderr
    counts[status] = counts.get(status, 0) + 1
    line = re.fullmatch(rb"sublet-exec: [^\n]+\n", said)
    fine = status in (0, 1) and not said or status in (124, 125, 126, 127) and line
    # Limits, filters and times of the plan may well end the harmless command itself.
    fine = fine or status in (124, 137, 152, 153, 159) and not said
    # "/bin/true" that was cut short is another program, and complains itself.
    fine = fine or status == 1 and said.startswith(b"/bin/")
    if not fine:
        bad.append(f"{name}: {status} {said[:200]!r}")
print(counts)
print("\n".join(bad))
"""


@pytest.fixture
def run(sublet_command: list[str], anyone: User) -> Sublet:
    """As root and as alice."""
    return Sublet(sublet_command, anyone)


@pytest.fixture
def good(run: Sublet) -> bytes:
    """A plan that works for this user, in the executor's form."""
    shown = run("run", "-w", "/", "--plan", "--json", "--", "/bin/true")
    run.user.write("good.json", shown.stdout)
    assert run("plan", "convert", "good.json", "good.plan").returncode == 0
    return (run.user.home / "good.plan").read_bytes()


def plain(wire: bytes) -> bytes:
    """Return the plan without reporter: the executor's own line is what is looked at.

    And without a filter, which would make the command end in too many ways when it is damaged.
    """
    plan = decode(wire)
    return encode(replace(plan, seccomp=b"", supervision=replace(plan.supervision, reporter=())))


def refused(user: User, executor: Path, *words: str | Path) -> str:
    done = user.run([executor, *words], timeout=20)
    assert done.returncode == 125, (words, done.returncode, done.stderr)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("sublet-exec: "), done.stderr
    return done.stderr


# ---------------------------------------------------------------- one kind of damage each


def test_the_good_one_works(run: Sublet, sublet_exec: Path, good: bytes) -> None:
    run.user.home.joinpath("x.plan").write_bytes(plain(good))
    assert run.user.run([sublet_exec, "x.plan"]).returncode == 0


def test_cut_off_anywhere(run: Sublet, sublet_exec: Path, good: bytes) -> None:
    wire = plain(good)
    folder = run.user.mkdir("cut")
    for length in (*range(0, 300, 7), *range(300, len(wire), 97), len(wire) - 1):
        (folder / f"{length:05}").write_bytes(wire[:length])
    done = run.user.run(["python3", "-c", MANY, str(sublet_exec), str(folder)])
    counts, _, bad = done.stdout.partition("\n")
    assert not bad.strip(), bad
    assert counts.startswith("{125: "), counts
    assert counts.count(":") == 1, counts


@pytest.mark.parametrize("value", [0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x10000, 1])
def test_every_word_of_the_header(run: Sublet, sublet_exec: Path, good: bytes, value: int) -> None:
    """Counts and offsets: huge, negative, past the end, overlapping."""
    wire = plain(good)
    folder = run.user.mkdir("header")
    for at in range(0, 128, 4):
        changed = bytearray(wire)
        changed[at : at + 4] = struct.pack("<I", value)
        if changed != wire:
            (folder / f"{at:05}").write_bytes(changed)
    done = run.user.run(["python3", "-c", MANY, str(sublet_exec), str(folder)])
    counts, _, bad = done.stdout.partition("\n")
    assert not bad.strip(), bad
    assert "125: " in counts, counts
    assert sum(int(part.split(":")[1]) for part in counts.strip("{}").split(",")) >= 25


def test_bytes_at_random(run: Sublet, sublet_exec: Path, good: bytes) -> None:
    wire = plain(good)
    seed = time.time_ns() % 1_000_000 if "CI" not in os.environ else 7
    chance = random.Random(seed)  # noqa: S311 - no secret
    folder = run.user.mkdir("random")
    for number in range(ROUNDS):
        changed = bytearray(wire)
        for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
            at = chance.randrange(len(changed))
            changed[at] = chance.choice((changed[at] ^ 1 << chance.randrange(8), 0, 255, 1))
        (folder / f"{number:05}").write_bytes(changed)
    script = ["python3", "-c", MANY, str(sublet_exec), str(folder)]
    done = run.user.run(script, timeout=200)
    assert done.returncode == 0, done.stderr
    counts, _, bad = done.stdout.partition("\n")
    assert not bad.strip(), (f"seed {seed}", bad)
    assert "125: " in counts, counts


# ---------------------------------------------------------------- where it comes from


def test_a_plan_that_is_no_file(run: Sublet, sublet_exec: Path) -> None:
    user = run.user
    os.mkfifo(user.home / "fifo")
    user.own(user.home / "fifo")
    (user.home / "loop").symlink_to("loop")
    big = user.home / "big"
    with big.open("wb") as file:
        file.truncate(1 << 40)
    user.own(big)
    user.write("empty", "")
    for name in (
        "fifo",
        "loop",
        "big",
        "empty",
        ".",
        "missing",
        "/dev/zero",
        "/dev/tty",
        "/proc/kmsg",
    ):
        refused(user, sublet_exec, name)
    for text in ("-1", "99", "3x", "", "0x3", "4294967296", "2147483647", "99999999999"):
        refused(user, sublet_exec, "--plan", text)


ODD_WORDS = (
    (),
    ("--plan",),
    ("--slot",),
    ("--slot", "x"),
    ("--slot", "x=0", "good.plan"),
    ("--slot", "=0", "good.plan"),
    ("--channel", "0", "--channel", "99", "good.plan"),
    ("--bogus", "good.plan"),
    ("good.plan", "good.plan"),
    ("good.plan", "--plan", "0"),
    ("-", "good.plan"),
    ("--channel", "good.plan"),
)


@pytest.mark.usefixtures("good")
@pytest.mark.parametrize("words", ODD_WORDS)
def test_odd_words(run: Sublet, sublet_exec: Path, words: tuple[str, ...]) -> None:
    done = run.user.run([sublet_exec, *words], timeout=20)
    assert done.returncode == 125, done
    assert done.stderr.startswith(("sublet-exec: ", "sublet: ")), done.stderr
    assert done.stdout == ""


WRITER = r"""
import os, subprocess, sys
executor, path, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
good = open(path, "rb").read()
child = os.fork()
if child == 0:
    fd = os.open(path, os.O_RDWR)
    while True:
        for at in range(0, len(good), 13):
            os.pwrite(fd, b"\xff\xff\xff\xff", at)
        os.ftruncate(fd, 100)
        os.pwrite(fd, good, 0)
counts = {}
try:
    for _ in range(times):
        done = subprocess.run([executor, path], capture_output=True, stdin=subprocess.DEVNULL)
        counts[done.returncode] = counts.get(done.returncode, 0) + 1
finally:
    os.kill(child, 9)
    os.waitpid(child, 0)
print(*sorted(counts), sum(counts.values()))
"""


def test_a_plan_that_changes_while_it_is_read(run: Sublet, sublet_exec: Path, good: bytes) -> None:
    """It is copied once, and what was checked is what is done."""
    path = run.user.home / "changing.plan"
    path.write_bytes(plain(good))
    run.user.own(path)
    done = run.user.run(["python3", "-c", WRITER, str(sublet_exec), str(path), "150"])
    statuses = [int(word) for word in done.stdout.split()]
    assert set(statuses[:-1]) <= {0, 125, 126, 127}, done
    assert 125 in statuses, "the control: it was changed"


def test_a_plan_of_somebody_else_is_not_more_than_one_may(alice: User, sublet_exec: Path) -> None:
    """A plan that takes what only root may is refused by the kernel, in a phase with a name."""
    wire = encode(HARMLESS)
    (alice.home / "root.plan").write_bytes(wire)
    said = refused(alice, sublet_exec, "root.plan")
    assert "clone" in said, said
