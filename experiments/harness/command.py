"""A command line: its own flags and no others, errors as one line, exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage (one line, nothing written), 75 interrupted
(SIGINT, SIGTERM, SIGHUP, SIGUSR1; the same command goes on with what is kept).
"""

import contextlib
import gc
import io
import os
import sys
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from absl import flags
from absl import logging

from experiments.harness import signals
from experiments.harness.text import UsageError

Define = Callable[[flags.FlagValues], None]
Main = Callable[[Sequence[str]], int | None]


_DEFINE: dict[type, Callable[..., Any]] = {
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    bool: flags.DEFINE_bool,
    float: flags.DEFINE_float,
}


def define(
    values: flags.FlagValues,
    kind: type,
    meanings: Mapping[str, str],
    default: Any = None,
) -> None:
    """Adds flags of one kind: str, int, float, or bool, which is no if not given.

    Example:
        >>> values = flags.FlagValues()
        >>> define(values, int, {"steps": "of training", "size": "of a cohort"})
        >>> _ = values(["", "--steps=3"])
        >>> values.steps, values.size
        (3, None)
    """
    default = False if kind is bool and default is None else default
    for name, meaning in meanings.items():
        _DEFINE[kind](name, default, meaning, flag_values=values)


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
        words = _from_files(values, list(argv[1:]))
        for word in words:
            _check(values, word)
        rest = values([argv[0], *words])[1:]
    except flags.Error as error:
        raise UsageError(str(error)) from None
    if values.help:
        print(text, values.get_help(), sep="\n")
        raise SystemExit(0)
    if rest:
        raise UsageError(f"expected flags only, got {rest[0]!r}")
    return values


def asks(argv: Sequence[str], name: str) -> bool:
    """Whether a command line, or a flagfile that it names, sets a flag of yes or no.

    Raises:
        UsageError: a flagfile that cannot be read.
    """
    values = flags.FlagValues()
    flags.DEFINE_bool(name, False, "", flag_values=values)
    names = name, f"no{name}"
    try:
        words = _from_files(values, list(argv[1:]))
        mine = [w for w in words if w.lstrip("-").partition("=")[0] in names]
        values([argv[0], *mine])
    except flags.Error as error:
        raise UsageError(str(error)) from None
    return bool(values[name].value)


def gives(argv: Sequence[str], name: str) -> bool:
    """Whether a command line, or a flagfile that it names, has a flag.

    Raises:
        UsageError: a flagfile that cannot be read.
    """
    values = flags.FlagValues()
    flags.DEFINE_bool(name, False, "", flag_values=values)  # as in `--noNAME`
    words = _from_files(values, list(argv[1:]))
    given = {w.lstrip("-").partition("=")[0] for w in words if w.startswith("-")}
    return bool(given & {name, f"no{name}"})


def _check(values: flags.FlagValues, word: str) -> None:
    """A UsageError for what absl takes without a word."""
    name, equals, _ = word.lstrip("-").partition("=")
    if word.startswith("-") and name == "undefok":
        raise UsageError("--undefok: no flag is passed over here")
    if equals and name not in values and name.removeprefix("no") in values:
        raise UsageError(f"--{name}: expected no value, got {word}")


def _from_files(values: flags.FlagValues, words: list[str]) -> list[str]:
    """The words, with those of flagfiles in the place of `--flagfile`."""
    if "--flagfile=" in words:
        raise UsageError("--flagfile: expected a file, got none")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):  # absl goes round a circle with a word
            words = values.read_flags_from_files(words, force_gnu=True)
        "".join(words).encode()
    except UnicodeEncodeError:
        raise UsageError("expected flags in UTF-8") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"--flagfile: expected a text in UTF-8; {error}") from None
    if said.getvalue():
        raise UsageError(f"--flagfile: {said.getvalue()}")
    return words


def guarded(main: Main, argv: Sequence[str]) -> int:
    """Runs a command; what its user can mend is one line, not a traceback."""
    import headwise as hw  # late: a plan is made without JAX

    # JAX tells every backend, orbax every file, and a page for each thread that a full
    # disk stops; what went wrong is raised.
    logging.set_verbosity(logging.FATAL)
    usage = (UsageError, hw.training.WorkdirError, hw.sweeps.StudyError)
    try:
        return main(argv) or 0
    except (*usage, ModuleNotFoundError) as error:
        return _end(2, f"error: {error}")
    except (FloatingPointError, OSError) as error:
        return _end(1, f"error: {error}")
    except KeyboardInterrupt as error:
        return _end(signals.CODE, signals.line(error))
    except Exception as error:
        if hw.sweeps.out_of_memory(error):
            return _end(1, f"error: out of memory: {error}")
        raise


def _end(code: int, text: str) -> int:
    print(" ".join(text.split()), file=sys.stderr)
    return code


def run(main: Main) -> None:
    """The entry point of a command."""
    flags.FLAGS.mark_as_parsed()  # some libraries read their own flags there
    signals.catch()
    gc.freeze()  # imports are looked at for garbage no more: a seventh of a small run
    code = guarded(main, sys.argv)
    if code == signals.CODE:  # a program may still run, and Python would crash beside
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise SystemExit(code)
