"""A command line: its own flags and no others, errors as one line, exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage (one line, nothing written).
"""

import sys
from collections.abc import Callable
from collections.abc import Sequence

from absl import flags

from experiments.harness.text import UsageError

Define = Callable[[flags.FlagValues], None]


def parse(argv: Sequence[str], define: Define, text: str | None) -> flags.FlagValues:
    """The flags of a command; what is not understood is a UsageError.

    They live in an object of their own, not in absl's global one: importing a command
    defines no flag, and no library's flag is taken for one of the command's.

    Args:
        argv: as `sys.argv`; `--flagfile=FILE` reads more flags from a file.
        define: adds the command's flags.
        text: what `--help` says before it lists the flags.

    Raises:
        UsageError: an unknown flag, a value of the wrong type, or an argument.
    """
    values = flags.FlagValues()
    define(values)
    flags.DEFINE_bool("help", False, "show this help", flag_values=values)
    try:
        words = values.read_flags_from_files(list(argv[1:]), force_gnu=True)
        if any(word.startswith(("--undefok", "-undefok")) for word in words):
            raise UsageError("--undefok: no flag is passed over here")
        rest = values([argv[0], *words])[1:]
    except flags.Error as error:
        raise UsageError(str(error)) from None
    if values.help:
        print(text, values.get_help(), sep="\n")
        raise SystemExit(0)
    if rest:
        raise UsageError(f"expected flags only, got {rest[0]!r}")
    return values


def guarded(main: Callable[[Sequence[str]], int | None], argv: Sequence[str]) -> int:
    """Runs a command; what its user can mend is one line, not a traceback."""
    from headwise import training  # late: a plan is made without JAX

    try:
        return main(argv) or 0
    except (UsageError, training.WorkdirError, ModuleNotFoundError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except FloatingPointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def run(main: Callable[[Sequence[str]], int | None]) -> None:
    """The entry point of a command."""
    flags.FLAGS.mark_as_parsed()  # some libraries read their own flags there
    raise SystemExit(guarded(main, sys.argv))
