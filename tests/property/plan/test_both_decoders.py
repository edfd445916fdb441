"""The executor's decoder and Python's take the same plans, and refuse the same damage.

The executor's is compiled alone, with the sanitizers where the compiler has them, and is given
plans that were damaged one number at a time.
"""

from __future__ import annotations

import random
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings

from property.plan.strategies import plans
from sublet.errors import PlanError
from sublet.plan.codec import decode, encode

if TYPE_CHECKING:
    from sublet.plan.model import Plan

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[2] / "csrc"
SOURCES = [HERE / "decoder.c", *(CSRC / name for name in ("decode.c", "check.c", "wire_tables.c"))]
COMPILE = ["cc", "-std=gnu17", "-D_GNU_SOURCE", "-g", "-O1", f"-I{CSRC}"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

# What only Python refuses: the kernel or the executor's own steps find it in time.
PYTHONS_OWN = (
    "has no mapping in the new user namespace",
    "is not absolute",  # a helper's path, where no helper is used
    "deny it is, where a process maps itself",
    "the map's text has",
    "is no multiple of 8",
    "half of a surrogate pair",
    "setgroups is denied in the new user namespace",
)
NUMBERS = (0, 1, 2, 7, 8, 0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF, 0x80000000)

pytestmark = pytest.mark.requires("command:cc")


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The executor's decoder as a program."""
    program = tmp_path_factory.mktemp("decoder") / "decoder"
    command = [*COMPILE, *map(str, SOURCES), "-o", str(program)]
    if subprocess.run([*command, *SANITIZE], capture_output=True, check=False).returncode:
        subprocess.run(command, check=True)
    return program


def verdicts(decoder: Path, wires: list[bytes]) -> list[bool]:
    """Return for each whether the executor takes it."""
    stream = b"".join(struct.pack("<I", len(wire)) + wire for wire in wires)
    done = subprocess.run([decoder], input=stream, capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")
    return [line == b"taken" for line in done.stdout.split()]


def damaged(wire: bytes, rng: random.Random) -> bytes:
    """Return the plan with one of its 32-bit numbers changed."""
    copy = bytearray(wire)
    place = 4 * rng.randrange(len(wire) // 4)
    (old,) = struct.unpack_from("<I", copy, place)
    near = (old + 1, old - 1, old ^ 1 << rng.randrange(32), rng.randrange(40), rng.getrandbits(32))
    struct.pack_into("<I", copy, place, rng.choice(NUMBERS + near) & 0xFFFFFFFF)
    return bytes(copy)


def python_refusal(wire: bytes) -> str:
    """Return Python's sentence, or "" where it takes the plan."""
    try:
        decode(wire)
    except PlanError as error:
        return str(error)
    return ""


def test_they_agree(decoder: Path) -> None:
    good: list[bytes] = []

    @settings(
        max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(plans())
    def collect(plan: Plan) -> None:
        good.append(encode(plan))

    collect()
    assert all(verdicts(decoder, good))

    rng = random.Random(len(good))  # noqa: S311 - nothing is to be kept secret
    bad = [damaged(wire, rng) for wire in good for _ in range(20)]
    refused = 0
    for wire, taken in zip(bad, verdicts(decoder, bad), strict=True):
        sentence = python_refusal(wire)
        refused += bool(sentence)
        if taken:
            assert not sentence or any(known in sentence for known in PYTHONS_OWN)
        else:
            assert sentence, "only the executor refuses it"
    assert refused > len(bad) // 10, "the damage must matter"


def test_a_plan_that_was_cut_off_is_refused_by_both(decoder: Path) -> None:
    seeds = sorted((CSRC / "fuzz" / "corpus").glob("*.plan"))
    wires = [
        wire[:size] for wire in (s.read_bytes() for s in seeds) for size in range(0, len(wire), 7)
    ]
    assert len(wires) > 100
    assert not any(verdicts(decoder, wires))
    assert all(python_refusal(wire) for wire in wires)
