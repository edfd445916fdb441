from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sublet.cli import _help
from sublet.cli._options import parse
from sublet.cli.run import OPTIONS
from sublet.errors import InputError

if TYPE_CHECKING:
    from sublet.cli._options import Table

TABLE: Table = {
    "-v": ("mounts", "list"),
    "--rw": ("mounts", "list"),
    "--net": ("net", "value"),
    "-t": ("tty", "flag"),
    "-i": ("interactive", "flag"),
    "--plan": ("plan", "flag"),
}


def test_options_end_where_the_command_begins() -> None:
    given = parse("run", TABLE, ["--plan", "sh", "--net", "host", "-t"])
    assert given.flags == {"plan"}
    assert given.values == {}
    assert given.rest == ["sh", "--net", "host", "-t"]


def test_two_dashes_end_options() -> None:
    assert parse("run", TABLE, ["--plan", "--", "--plan", "--"]).rest == ["--plan", "--"]


def test_a_single_dash_is_no_option() -> None:
    assert parse("run", TABLE, ["-", "x"]).rest == ["-", "x"]


def test_values_follow_or_are_joined() -> None:
    for argv in (["--net", "host"], ["--net=host"]):
        assert parse("run", TABLE, argv).values == {"net": "host"}
    assert parse("run", TABLE, ["--net="]).values == {"net": ""}
    assert parse("run", TABLE, ["--net", "--plan"]).values == {"net": "--plan"}


def test_the_last_value_counts() -> None:
    assert parse("run", TABLE, ["--net", "host", "--net", "none"]).values == {"net": "none"}


def test_lists_keep_order_and_spelling() -> None:
    given = parse("run", TABLE, ["-v", "a", "--rw=b", "-v", "c"])
    assert given.lists == {"mounts": [("-v", "a"), ("--rw", "b"), ("-v", "c")]}
    assert given.all("mounts") == ["a", "b", "c"]
    assert given.all("other") == []


def test_short_flags_can_be_joined() -> None:
    assert parse("run", TABLE, ["-it", "sh"]).flags == {"interactive", "tty"}
    with pytest.raises(InputError, match="-itv"):
        parse("run", TABLE, ["-itv", "sh"])


def test_mixed_options_may_follow_words() -> None:
    given = parse("list", TABLE, ["a", "--plan", "b"], mixed=True)
    assert (given.flags, given.rest) == ({"plan"}, ["a", "b"])


def test_help_is_everywhere() -> None:
    assert parse("rm", {}, ["--help"]).flags == {"help"}
    assert parse("rm", {}, ["-h"]).flags == {"help"}


@pytest.mark.parametrize(
    ("argv", "what", "hint"),
    [
        (["--nte", "host"], "has no option --nte", "Did you mean --net?"),
        (["--plna=x"], "has no option --plna", "Did you mean --plan?"),
        (["--xyzzy"], "has no option --xyzzy", "`sublet run --help`"),
        (["-x"], "has no option -x", "`sublet run --help`"),
        (["--net"], "--net needs a value", "`sublet run --help`"),
        (["--plan=yes"], "--plan takes no value", ""),
    ],
)
def test_what_is_wrong_is_named_and_the_next_best_offered(
    argv: list[str], what: str, hint: str
) -> None:
    with pytest.raises(InputError, match=what) as caught:
        parse("run", TABLE, argv)
    assert hint in (caught.value.hint or "")


def test_every_option_of_run_has_help() -> None:
    words = _help.RUN.replace(",", " ").split()
    assert not [option for option in OPTIONS if option not in words]


def test_help_mentions_no_option_that_is_not_there() -> None:
    words = _help.RUN.replace(",", " ").replace(";", " ").split()
    said = {word for word in words if word.startswith("-") and len(word) > 1 and word != "--"}
    assert said <= OPTIONS.keys()


def test_help_fits_a_terminal() -> None:
    for text in _help.TEXTS.values():
        assert max(len(line) for line in text.splitlines()) <= 100
        assert text.endswith("\n")
