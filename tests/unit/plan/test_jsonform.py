"""The JSON twin: how things are spelt, and how a mistake is named by its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sublet.errors import PlanError
from sublet.mounts.operations import File, Symlink
from sublet.plan import capabilities, rlimits
from sublet.plan.jsonform import from_json, to_json
from sublet.plan.model import Credentials, Plan, Process, Rlimit


def test_what_is_default_is_not_written() -> None:
    assert to_json(Plan(Process(("/bin/true",)))) == (
        '{\n  "sublet-plan": 1,\n  "process": {"argv": ["/bin/true"]}\n}\n'
    )


def test_values_are_spelt_for_people() -> None:
    plan = Plan(
        Process(("/x",), umask=0o22, rlimits=(Rlimit(7, 5, rlimits.UNLIMITED),)),
        credentials=Credentials(permitted=capabilities.ALL, effective=1 << 12, bounding=1 << 63),
        seccomp=bytes(16),
        operations=(File("/a", content=b"text\n", mode=0o4755), File("/b", content=b"\xff")),
    )
    tree = json.loads(to_json(plan))
    assert tree["process"]["umask"] == "0022"
    assert tree["process"]["rlimits"] == [{"resource": "NOFILE", "soft": 5, "hard": "unlimited"}]
    assert tree["credentials"] == {
        "permitted": ["all"],
        "effective": ["CAP_NET_ADMIN"],
        "bounding": ["63"],
    }
    assert tree["seccomp"] == {"instructions": 2, "base64": "AAAAAAAAAAAAAAAAAAAAAA=="}
    assert tree["operations"][0]["content"] == "text\n"
    assert tree["operations"][0]["mode"] == "4755"
    assert tree["operations"][1]["content"] == {"base64": "/w=="}


def test_what_cannot_be_printed_is_escaped() -> None:
    odd = "/\udcff\x1b[2J\u202eé\U000e0001"
    text = to_json(Plan(Process(("/x",)), operations=(Symlink("/l", text=odd),)))
    assert "é" in text
    assert all(char == "\n" or char.isprintable() for char in text)
    link = from_json(text).operations[0]
    assert isinstance(link, Symlink)
    assert link.text == odd


GOOD: dict[str, Any] = {"sublet-plan": 1, "process": {"argv": ["/x"]}}


def with_operation(**fields: Any) -> dict[str, Any]:
    return {**GOOD, "operations": [{"kind": "proc", "target": "/proc"}, fields]}


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ([], "$: an object is expected, not a list"),
        ({}, '$["sublet-plan"]: version None, not 1'),
        ({**GOOD, "sublet-plan": 2}, '$["sublet-plan"]: version 2, not 1'),
        ({**GOOD, "sublet-plan": True}, '$["sublet-plan"]: version True, not 1'),
        ({"sublet-plan": 1}, "$.process: it is missing"),
        ({**GOOD, "proces": {}}, "$.proces: there is no such field"),
        ({**GOOD, "process": {"argv": "x"}}, "$.process.argv: a list is expected, not 'x'"),
        ({**GOOD, "process": {"argv": ["x", 1]}}, "$.process.argv[1]: a string is expected, not 1"),
        ({**GOOD, "pivot": 1}, "$.pivot: true or false is expected, not 1"),
        ({**GOOD, "hostname": None}, "$.hostname: a string is expected, not null"),
        ({**GOOD, "namespaces": ["mnt"]}, "$.namespaces[0]: 'mnt' is no namespace"),
        ({**GOOD, "root_propagation": "x"}, "$.root_propagation: 'x' is no propagation"),
        ({**GOOD, "maps": [{"uid": []}]}, "$.maps[0]: uid and gid are expected"),
        (
            {**GOOD, "maps": [{"uid": ["0:1"], "gid": []}]},
            "$.maps[0].uid[0]: INSIDE:OUTSIDE:COUNT is expected, not '0:1'",
        ),
        ({**GOOD, "maps": [{"uid": ["0:1:0"], "gid": []}]}, "$.maps[0].uid: "),
        ({**GOOD, "credentials": {"uid": True}}, "$.credentials.uid: a number is expected"),
        ({**GOOD, "credentials": {"groups": ["0"]}}, "$.credentials.groups[0]: a number is expe"),
        (
            {**GOOD, "credentials": {"ambient": ["CAP_X"]}},
            "$.credentials.ambient[0]: there is no capability 'CAP_X'",
        ),
        ({**GOOD, "seccomp": "AA=="}, "$.seccomp: an object is expected"),
        ({**GOOD, "seccomp": {"base64": ""}}, "$.seccomp: instructions and base64 are expected"),
        (
            {**GOOD, "seccomp": {"instructions": 1, "base64": "AA=="}},
            "$.seccomp: 1 bytes are not 1 instructions",
        ),
        ({**GOOD, "seccomp": {"instructions": 0, "base64": "?"}}, "$.seccomp.base64: "),
        (
            {**GOOD, "process": {"argv": ["/x"], "rlimits": [{"resource": "X"}]}},
            "$.process.rlimits[0].resource: 'X' is no resource",
        ),
        (
            {**GOOD, "process": {"argv": ["/x"], "rlimits": [{"resource": "CPU", "soft": 1}]}},
            "$.process.rlimits[0].hard: it is missing",
        ),
        ({**GOOD, "process": {"argv": ["/x"], "umask": 18}}, "$.process.umask: a string is expec"),
        ({**GOOD, "process": {"argv": ["/x"], "umask": "8"}}, "$.process.umask: an octal number"),
        (with_operation(target="/x"), "$.operations[1].kind: null is no operation"),
        (with_operation(kind="mount", target="/x"), "$.operations[1].kind: 'mount' is no oper"),
        (with_operation(kind="mask"), "$.operations[1].target: it is missing"),
        (with_operation(kind="mask", target="/x", source="/"), "$.operations[1].source: there is"),
        (with_operation(kind="mask", target="/x", flags=["o"]), "$.operations[1].flags[0]: 'o'"),
        (with_operation(kind="tmpfs", target="/x", size=1.5), "$.operations[1].size: a number"),
        (with_operation(kind="mask", target="x"), "operation 1 (mask x): target: 'x' is not abso"),
    ],
)
def test_a_mistake_is_named_by_its_place(tree: Any, sentence: str) -> None:
    with pytest.raises(PlanError) as caught:
        from_json(json.dumps(tree))
    assert sentence in str(caught.value)


def test_a_key_that_is_there_twice_is_refused() -> None:
    with pytest.raises(PlanError, match="the key 'process' is there twice"):
        from_json('{"sublet-plan": 1, "process": {"argv": ["/x"]}, "process": {"argv": ["/y"]}}')


@pytest.mark.parametrize("text", ["", "{", "[" * 100000, "nan", "\0"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(PlanError):
        from_json(text)


def test_a_misspelt_field_is_answered_with_those_there_are() -> None:
    with pytest.raises(PlanError) as caught:
        from_json(json.dumps({**GOOD, "process": {"argv": ["/x"], "env": []}}))
    assert "environment" in (caught.value.hint or "")
