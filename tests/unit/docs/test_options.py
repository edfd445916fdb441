"""Every option stands wherever options are listed."""

from __future__ import annotations

import re
import subprocess

import pytest

from sublet.cli import VERBS, _help, rm, run
from sublet.cli import list as list_
from support.installed import CHECKOUT

DOCS = CHECKOUT / "docs"
TABLES = {"run": run.OPTIONS, "rm": rm.OPTIONS, "list": list_.OPTIONS}
OPTIONS = [(verb, option) for verb, table in TABLES.items() for option in table]


def mentioned(text: str) -> set[str]:
    """Return the options that a text names."""
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text.replace("\\", "")))


@pytest.mark.parametrize(("verb", "option"), OPTIONS)
def test_an_option_is_documented(verb: str, option: str) -> None:
    assert option in mentioned(_help.TEXTS[verb])
    assert option in mentioned((DOCS / "reference" / "run.md").read_text())
    assert option in mentioned((DOCS / "man" / f"sublet-{verb}.1").read_text())
    assert option in mentioned((DOCS / "completion" / "sublet.bash").read_text())
    letters = option.lstrip("-")
    fish = (DOCS / "completion" / "sublet.fish").read_text().splitlines()
    wanted = f"from {verb}' -{'s' if len(letters) == 1 else 'l'} {letters}"
    assert [line for line in fish if f"{wanted} " in f"{line} "]


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"help"}))
def test_no_page_names_an_option_that_is_none(verb: str) -> None:
    known = {*TABLES.get(verb, ()), "--help", "-h"}
    # What a verb's help says of another verb
    abroad = {"--plan", "--json"} if verb == "plan" else set()
    text = _help.TEXTS[verb]
    assert mentioned(text) <= known | abroad
    assert mentioned((DOCS / "man" / f"sublet-{verb}.1").read_text()) <= known | abroad


def test_the_reference_has_a_part_for_each_verb() -> None:
    text = (DOCS / "reference" / "run.md").read_text()
    assert [verb for verb in VERBS if f"\n## sublet {verb}\n" not in text] == []


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("sublet ", {"run", "rm", "list", "plan", "help", "--version"}),
        ("sublet run --wo", {"--workdir"}),
        ("sublet run --ids ", {"keep", "root", "full"}),
        ("sublet run --ids=f", {"full"}),
        ("sublet run --rw /tmp --net h", {"host"}),
        ("sublet run --ids full -- fal", {"false"}),
        ("sublet run --ids full fal", {"false"}),
        ("sublet run --rootfs /et", {"/etc"}),
        ("sublet run -- ls --ids /et", {"/etc"}),
        ("sublet plan co", {"convert"}),
        ("sublet list --j", {"--json"}),
    ],
)
def test_bash_completes(line: str, offered: set[str]) -> None:
    script = 'source "$1"; COMP_LINE=$2 COMP_POINT=${#2}; _sublet; printf "%s\\n" "${COMPREPLY[@]}"'
    command = ["bash", "-c", script, "bash", str(DOCS / "completion" / "sublet.bash"), line]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert offered <= set(done.stdout.split())
    assert not line.endswith(("wo", "=f", "h", "co", "j")) or offered == set(done.stdout.split())
