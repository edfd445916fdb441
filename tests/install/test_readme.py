"""What the documentation shows at a terminal is what happens there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from support import pages
from support.installed import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

    from support.users import User

SHOWN = [(page, who) for page in pages.pages() for who in pages.people(page)]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")


@pytest.fixture(params=SHOWN, ids=lambda shown: f"{shown[0].stem}-{shown[1]}")
def session(request: pytest.FixtureRequest) -> tuple[Path, str, User]:
    """A page, who types there, and the user who takes that part."""
    page, who = request.param
    fixture = {"alice": "alice", "bob": "nosub"}[who]
    return page, who, request.getfixturevalue(fixture)


@pytest.mark.requires("userns", "newuidmap", "overlay_userns", "command:mmdebstrap", "network")
@pytest.mark.usefixtures("leaving_nothing", "sublet_command")
@pytest.mark.xdist_group("debian")
def test_the_pages_show_what_happens(
    session: tuple[Path, str, User], debian: Path, place: Path
) -> None:
    page, who, user = session
    (user.home / "debian.tar").symlink_to(debian)
    names = {
        f"{place}/bin:": "",
        f"{place}/lib": "/usr/lib/sublet",
        str(user.home): f"/home/{who}",
        str(debian): f"/home/{who}/debian.tar",
        user.name: who,
        str(user.uid): "1001" if who == "alice" else "1002",
        str(user.gid): "1001" if who == "alice" else "1002",
    }
    if user.sub_ids:
        names[str(user.sub_ids.start)] = "100000"
        names[str(user.sub_ids.stop - 1)] = "165535"
    steps = pages.steps(page, who)
    printed = pages.run(user, steps, names)
    for step, text in zip(steps, printed, strict=True):
        assert pages.matches(step.output, text), (
            f"{page.relative_to(CHECKOUT)} shows\n\n$ {step.command}\n{step.output}\n"
            f"and what happens is\n\n{text}"
        )


def test_a_page_that_is_wrong_is_found() -> None:
    assert pages.matches("one ...\n...\nlast\n", "one two\nthree\nfour\nlast\n")
    assert pages.matches("one\n...\n", "one\n")
    assert not pages.matches("one ...\n", "one two\nthree\n")
    assert not pages.matches("one\n", "one\ntwo\n")
    assert not pages.matches("one\n", "")


@pytest.mark.parametrize(
    "page",
    sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md")]),
    ids=lambda page: str(page.relative_to(CHECKOUT)),
)
def test_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not broken
