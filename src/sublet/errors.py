"""Every error that Sublet raises, in one tree.

    SubletError              anything that Sublet can explain; exit status 125
    ├── InputError           the request itself is wrong: an option, a value, a combination
    │   ├── NotationError    a text in one of the notations (uid_map, subuid, ...) does not parse
    │   └── MapError         an ID map that the kernel would not take: overlap, too many extents
    ├── NotDelegatedError    the request asks for IDs that are not delegated to the caller
    ├── HostError            this machine cannot do it: a missing helper, a sysctl, a kernel feature
    ├── PlanError            a plan, in JSON or in its wire form, that is malformed or inconsistent
    ├── StateError           something kept on disk (cache, names) is missing, locked or damaged
    ├── ArchiveError         a root file system archive that is truncated, malformed or hostile
    └── SetupError           the executor failed: which phase, which operation, which errno
        ├── CannotExecuteError   the command is there but cannot be executed; exit status 126
        ├── CommandNotFoundError the command is not there; exit status 127
        ├── ExecutorDiedError    the executor ended without saying why; in which phase
        └── ProtocolError        what came on the channel is no message, or not its turn

Each error knows *what* was attempted, and where it applies the *phase*, the *path*, the *errno* and
a *hint*: what the person can do about it.
"""

from __future__ import annotations


class SubletError(Exception):
    """The root of the tree.

    ``what``: one sentence, lower case, no full stop. ``phase``: the executor's or launcher's phase.
    ``path``: the path concerned. ``errno``: the kernel's answer, a positive number. ``hint``: the
    remedy, one or more sentences.
    """

    exit_code = 125

    def __init__(
        self,
        what: str,
        *,
        phase: str | None = None,
        path: str | None = None,
        errno: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.phase = phase
        self.path = path
        self.errno = errno
        self.hint = hint

    def __str__(self) -> str:
        return self.what


class InputError(SubletError, ValueError):
    """The request itself is wrong."""


class NotationError(InputError):
    """A text in one of the notations does not parse."""


class MapError(InputError):
    """An ID map that the kernel would not take."""


class NotDelegatedError(SubletError):
    """The request asks for IDs that are not delegated to the caller."""


class HostError(SubletError):
    """What was asked cannot be done on this machine."""


class PlanError(SubletError, ValueError):
    """A plan that is malformed or inconsistent."""


class StateError(SubletError):
    """Something kept on disk is missing, locked or damaged."""


class ArchiveError(SubletError):
    """A root file system archive that is truncated, malformed or hostile."""


class SetupError(SubletError):
    """The executor could not set the sandbox up."""


class CannotExecuteError(SetupError):
    """The command is there but cannot be executed."""

    exit_code = 126


class CommandNotFoundError(SetupError):
    """The command is not there."""

    exit_code = 127


class ExecutorDiedError(SetupError):
    """The executor ended without saying why."""


class ProtocolError(SetupError):
    """What came on the channel is no message, or not its turn."""
