"""Signals that end a process wait for the step that runs, and for its checkpoint."""

import logging
import os
import signal
import threading
from typing import Any

import jax

_LOG = logging.getLogger("headwise")
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
WARNING = getattr(signal, "SIGUSR1", None)
"""What a scheduler sends ahead, perhaps by two ways: once more, it is no second signal.
It is noted only where the program has a handler for it: else it may be another's, as
`faulthandler`'s."""


class Interrupts:
    """Notes a signal instead of letting it act; a second one acts at once.

    A context manager. A state that is given to a step for good (donated) is lost if
    Python raises before the new one has a name, so nothing may be raised in a step.
    What a signal does is not changed, only when: `act` has the handler that was there
    before do it, or the system. Signals that are ignored (`nohup`) stay so. Python
    gives handlers to the main thread alone, so in others nothing is put off; nor is
    it where several processes train, unless they agree on when to act.

    Args:
        on: whether to put anything off.
        agreed: whether all processes act at the same step (`hear`).
    """

    def __init__(self, on: bool, agreed: bool = False):
        self._on, self._agreed = on, agreed
        self._noted: tuple[int, Any] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        main = threading.current_thread() is threading.main_thread()
        if self._on and main and (self._agreed or jax.process_count() == 1):
            for number in SIGNALS:
                before = signal.getsignal(number)
                ends = before is signal.SIG_DFL and number != WARNING
                if callable(before) or ends:
                    self._before[number] = before
                    signal.signal(number, self._note)
        return self

    def __exit__(self, *error: Any) -> None:
        """A signal that came too late to be looked at acts now."""
        self._let_go()
        self.act()

    @property
    def noted(self) -> str | None:
        """The name of the signal that came, None if none did."""
        return None if self._noted is None else signal.Signals(self._noted[0]).name

    def hear(self, name: str) -> None:
        """Notes a signal that another process got, which acts here, too."""
        if self._noted is None:
            number = signal.Signals[name]
            self._noted = number, self._before.get(number, signal.getsignal(number))

    def act(self) -> None:
        """Does what the signal does: as a rule this raises, or ends the process.

        If it does neither, the run goes on.
        """
        noted, self._noted = self._noted, None
        if noted is not None:
            self._pass_on(*noted)

    def stop(self) -> None:
        """As `act`; what would end the process outright is a KeyboardInterrupt.

        So that folders and claims are left in order.
        """
        if self._noted is not None and not callable(self._noted[1]):
            name, self._noted = self.noted, None
            raise KeyboardInterrupt(name)
        self.act()

    def _note(self, number: int, frame: Any) -> None:
        del frame
        if self._noted is not None:
            if number == WARNING:
                return
            self._pass_on(number, self._before[number])
            return
        self._noted = number, self._before[number]
        name = signal.Signals(number).name
        _LOG.warning("%s: stops and saves after this step; again: at once", name)

    def _pass_on(self, number: int, handler: Any) -> None:
        if callable(handler):
            handler(number, None)
            return
        self._let_go()
        os.kill(os.getpid(), number)

    def _let_go(self) -> None:
        before, self._before = self._before, {}
        for number, handler in before.items():
            if signal.getsignal(number) == self._note:  # else it was changed since
                signal.signal(number, handler)
