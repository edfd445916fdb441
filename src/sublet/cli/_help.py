"""The texts of --help."""

from __future__ import annotations

import sys

from sublet.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

OVERVIEW = """\
usage: sublet VERB [OPTIONS] ...

Run commands, sandboxes and root file systems as an ordinary user, in borrowed IDs.

  run       a command in a sandbox or a root file system
  list      the named layers that runs have left, and the archives that were unpacked
  rm        drop them
  plan      explain, convert or run a plan that was saved
  help      this text, or that of a verb: sublet help run

  --version

`sublet VERB --help` lists the options of a verb.
"""

RUN = """\
usage: sublet run [OPTIONS] [--] [COMMAND [ARG...]]

Run COMMAND (default: a shell) in a sandbox. Without options it runs as you, sees the machine's
programs read-only and the working directory read-only, and has no network.

Who one is inside
  --ids IDS             keep: you stay you (default)
                        root: you are root, and nobody else is there
                        full: you are root, and 1, 2, ... are your subordinate IDs
                        keep:UID[:GID]: you are UID, and the others your subordinate IDs
                        nomap: all are your subordinate IDs, and you are not there
                        host: no user namespace; for root
                        u:INSIDE:OUTSIDE:COUNT,g:...,b:...: a map spelt out; repeatable
  --user USER[:GROUP]   run as this user: numbers, or names of the root's own /etc/passwd

What one sees
  --view VIEW           system: the machine's programs and /etc read-only, a private /tmp, /run,
                        /home (default); host: all of the machine read-only
  --rootfs PATH         a root file system: a directory, or a tar archive (plain, gz, xz, zst).
                        What is written vanishes at the end, unless
    --name NAME         ... it is kept in a layer of that name, for later runs with --name NAME
    --writable          ... it goes to the directory itself
    --read-only         ... nothing may be written
  -v, --bind SRC[:DST][:ro|rw]
                        a file or directory of the machine, writable unless ro
  --rw PATH             the same path, writable
  --tmpfs DST[:size=SIZE]
                        an empty directory in memory; SIZE in bytes, or with k, m, g
  --dev-bind SRC[:DST]  as -v, with device nodes that work
  -w, --workdir DIR     working directory inside

The process
  -e, --env NAME[=VALUE]
                        set a variable, or hand yours on
  --clearenv            hand nothing on
  -t, --tty             a terminal of its own (default where no command is given)
  -i, --interactive     accepted; standard input is always passed on
  --ulimit NAME=SOFT[:HARD]
                        a resource limit, e.g. nofile=1024; numbers, or unlimited
  --timeout SECONDS     kill everything after so long (exit status 124); fractions are fine
  --die-with-parent     kill everything when the caller dies

Isolation
  --net none|host       a network of its own with only lo (default), or the machine's
  --hostname NAME
  --cap-add CAP, --cap-drop CAP
                        capabilities by name, or all; repeatable
  --new-privs           setuid programs and file capabilities work (default but for --ids keep)
  --no-new-privs        they do not
  --seccomp none|FILE   no filter, or one in Docker's JSON form, in place of the default

Sublet itself
  --plan                print what would be done, and do nothing; with --json as JSON
  --report FILE|fd:N    write how it ended, as JSON

Exit status: the command's own; 128+N when signal N ended it; 124 after a timeout; 127 when the
command was not found, 126 when it cannot be executed; 125 when Sublet failed.
"""

RM = """\
usage: sublet rm NAME...
       sublet rm --trees

Drop the named layers, and all that was written to them.

  --trees               drop the unpacked archives; the next run of one unpacks it again
"""

LIST = """\
usage: sublet list [--json]

List the named layers, with the root file system and the IDs that each was made with, and the
archives that were unpacked.

  --json                as JSON
"""

PLAN = """\
usage: sublet plan explain FILE
       sublet plan convert FILE [OUTPUT]
       sublet plan run FILE

Work with a plan that was saved, as JSON (sublet run --plan --json) or in the executor's form.

  explain               say in plain sentences what it does
  convert               turn JSON into the executor's form, or that into JSON
  run                   carry it out again

FILE may be - for standard input. OUTPUT defaults to standard output.
"""

TEXTS = {"run": RUN, "rm": RM, "list": LIST, "plan": PLAN, "help": OVERVIEW}


def main(argv: Sequence[str]) -> int:
    """Print the text for a verb, or the overview."""
    verb = argv[0] if argv else "help"
    if verb not in TEXTS:
        from sublet.cli._options import did_you_mean

        raise InputError(
            f"there is no verb {verb!r}",
            hint=did_you_mean(verb, TEXTS) or "`sublet help` lists them.",
        )
    sys.stdout.write(TEXTS[verb])
    return 0
