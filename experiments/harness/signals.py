"""An interrupt as one line and one exit code, whatever the process is doing.

SIGINT (Ctrl-C), SIGTERM (a scheduler), SIGHUP (a closed terminal) and SIGUSR1 (a
scheduler's warning) raise `KeyboardInterrupt` once, so that files are closed and
children stopped; a second one ends the process at once, but for a warning: engines send
it twice, by two ways, and to a launcher as to its workers. Python raises between its own instructions only: a process
that is inside a compiled program for longer is ended from a thread. While `fit` holds
the signals it first ends its step and saves, for which it has longer; after a warning as
long as the scheduler lets it.
"""

import os
import select
import signal
import sys
import threading
from typing import Any

CODE = 75
"""EX_TEMPFAIL: the same command goes on with what is kept."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
WARNING = signal.SIGUSR1
PATIENCE = 2.0
"""Seconds that Python has to raise."""
SAVING = 20.0
"""Seconds for that while someone else, `hw.training.fit`, holds the signals."""


def catch() -> None:
    """Takes the signals over, but for those that are ignored (`nohup`)."""
    raised = threading.Event()

    def interrupt(number: int, frame: Any) -> None:
        del frame
        raised.set()
        for each in SIGNALS:
            again = signal.SIG_IGN if each == WARNING else signal.SIG_DFL
            signal.signal(each, again)
        raise KeyboardInterrupt(signal.Signals(number).name)

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)  # written to by the system's handler, at once
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    arguments = reader, raised, interrupt
    threading.Thread(target=_insist, args=arguments, daemon=True).start()


def line(interrupt: KeyboardInterrupt) -> str:
    """What is said of an interrupt."""
    return f"interrupted by {str(interrupt) or 'SIGINT'}: the same command goes on"


def _insist(reader: int, raised: threading.Event, ours: Any) -> None:
    """Ends a process that does not come to raising in time, or is asked twice."""
    number = _next(reader)
    held = signal.getsignal(number) is not ours
    while held and number == WARNING:
        number = _next(reader)
    select.select([reader], [], [], SAVING if held else PATIENCE)
    if not raised.is_set():
        interrupt = KeyboardInterrupt(signal.Signals(number).name)
        cursor = "\033[?25h" if sys.stderr.isatty() else ""  # a bar hid it
        print(f"{cursor}\n{line(interrupt)}", file=sys.stderr, flush=True)
        os._exit(CODE)


def _next(reader: int) -> int:
    """Waits for one of our signals; others have handlers, too."""
    number = 0
    while number not in SIGNALS:
        (number,) = os.read(reader, 1)
    return number
