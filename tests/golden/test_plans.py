"""The example plans in all their forms, against the files of tests/golden/plan/."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from golden.plans import PLANS
from sublet.mounts.operations import OPERATIONS
from sublet.plan.codec import encode
from sublet.plan.explain import explain
from sublet.plan.jsonform import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    Golden = Callable[[str, str], None]

FOLDER = Path(__file__).resolve().parent / "plan"
CORPUS = FOLDER.parents[2] / "csrc" / "fuzz" / "corpus"
each_plan = pytest.mark.parametrize("name", PLANS)


@each_plan
def test_the_json_twin(name: str, golden: Golden) -> None:
    plan = PLANS[name]()
    text = to_json(plan)
    assert from_json(text) == plan
    golden(f"plan/{name}.json", text)


@each_plan
def test_the_explanation(name: str, golden: Golden) -> None:
    golden(f"plan/{name}.txt", "".join(f"{line}\n" for line in explain(PLANS[name]())))


@each_plan
def test_the_wire_form(name: str, golden: Golden) -> None:
    wire = encode(PLANS[name]())
    golden(f"plan/{name}.wire", f"{len(wire)} bytes, SHA-256 {hashlib.sha256(wire).hexdigest()}\n")


@each_plan
def test_the_fuzzer_starts_from_it(name: str) -> None:
    seed = (CORPUS / f"{name}.plan").read_bytes()
    assert seed == encode(PLANS[name]()), "stale: run csrc/fuzz/seeds.py"


def test_no_file_is_left_over() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {
        f"{name}.{form}" for name in PLANS for form in ("json", "txt", "wire")
    }


def test_every_kind_of_operation_is_in_one_of_them() -> None:
    kinds = {operation.kind for plan in PLANS.values() for operation in plan().operations}
    assert kinds == set(OPERATIONS)
