"""The parser of options: a table for each verb. ``argparse`` alone would take longer than all else.

A table maps an option's spelling to what is done with it: its destination, and one of

    flag    no value; true once it is given
    value   one value; the last one counts
    list    a value each time; all are kept, in order, as (spelling, value)
"""

from __future__ import annotations

from sublet.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Literal

    Kind = Literal["flag", "value", "list"]
    Table = Mapping[str, tuple[str, Kind]]

HELP: Table = {"-h": ("help", "flag"), "--help": ("help", "flag")}


class Given:
    """What was given: ``flags``, ``values`` and ``lists`` by destination, and the ``rest``."""

    def __init__(self) -> None:
        self.flags: set[str] = set()
        self.values: dict[str, str] = {}
        self.lists: dict[str, list[tuple[str, str]]] = {}
        self.rest: list[str] = []

    def all(self, destination: str) -> list[str]:
        """Return the values of a list, without the spellings."""
        return [value for _, value in self.lists.get(destination, ())]


def parse(verb: str, table: Table, argv: Sequence[str], *, mixed: bool = False) -> Given:
    """Return what *argv* gives of the *table*'s options.

    Options end at ``--`` and, unless *mixed*, at the first word that is none. Values follow as the
    next word or after ``=``; short options without values can be joined (-it). InputError for
    everything else.
    """
    given = Given()
    words = list(argv)
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word == "--":
            given.rest += words[at:]
            break
        if len(word) < 2 or word[0] != "-":
            given.rest.append(word)
            if mixed:
                continue
            given.rest += words[at:]
            break
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        known = table.get(name) or HELP.get(name)
        if known is None:
            if _is_joined(word, table):
                given.flags.update(table[f"-{letter}"][0] for letter in word[1:])
                continue
            raise _unknown(verb, name, table)
        destination, kind = known
        if kind == "flag":
            if equals:
                raise InputError(f"{name} takes no value, and {value!r} is given")
            given.flags.add(destination)
            continue
        if not equals:
            if at == len(words):
                raise InputError(f"{name} needs a value", hint=_see(verb))
            value = words[at]
            at += 1
        if kind == "value":
            given.values[destination] = value
        else:
            given.lists.setdefault(destination, []).append((name, value))
    return given


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Return a question for who misspelt *word*; None where nothing is near."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), 1, 0.6)
    return f"Did you mean {near[0]}?" if near else None


def _is_joined(word: str, table: Table) -> bool:
    if word[1] == "-":
        return False
    known = [table.get(f"-{letter}") for letter in word[1:]]
    return all(one is not None and one[1] == "flag" for one in known)


def _unknown(verb: str, name: str, table: Table) -> InputError:
    question = did_you_mean(name, table)
    see = _see(verb)
    return InputError(
        f"sublet {verb} has no option {name}", hint=f"{question} {see}" if question else see
    )


def _see(verb: str) -> str:
    return f"`sublet {verb} --help` lists the options."
