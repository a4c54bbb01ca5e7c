"""What fit shows: a bar on a terminal, a line a record in a file, nothing raw."""

import io
import re

import jax.numpy as jnp
import optax
import rich
import rich.console

import headwise as hw

HOSTILE = ("[/x]", "[bold]", "b\x1b[31m\n")


def fit_hostile(**options):
    sgd, balancer = optax.sgd(0.1), hw.balancers.equal()
    state = hw.training.init_state(HOSTILE, {"w": jnp.ones(3)}, sgd, balancer)
    step = hw.training.make_step(
        lambda p, b: dict.fromkeys(HOSTILE, jnp.sum(p["w"] * b)), sgd, balancer
    )
    hw.training.fit(
        step, state, lambda t: 1.0, 6, log_every=3, label="[red]\x1b[2J", **options
    )


class Unbuffered(io.StringIO):
    """Knows what could be read after each flush."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def flush(self):
        self.seen.append(self.getvalue().count("\n"))


def test_a_file_gets_a_line_a_record_at_once(monkeypatch):
    file = Unbuffered()
    monkeypatch.setattr("sys.stdout", file)
    fit_hostile(progress=False)
    assert file.getvalue() == ""
    fit_hostile(validate=lambda params, rest: {"iou": {"left": 0.25}})
    one, two = file.getvalue().splitlines()
    number = r"-?[0-9.e-]+"
    names = (r"\[/x\]", r"\[bold\]", r"b\\x1b\[31m\\n")
    values = " ".join(f"{name} {number}" for name in names)
    times = r"\(0:00:\d\d, 0:00:\d\d left\)"
    label = r"\[red\]\\x1b\[2J"
    assert re.fullmatch(f"{label} 3/6 {times} {values}", one), one
    checked = rf"{values} \| validation iou/left 0.25"
    assert re.fullmatch(f"{label} 6/6 {times} {checked}", two), two
    assert {1, 2} <= set(file.seen)


def test_a_terminal_gets_a_bar_and_no_markup(monkeypatch):
    file = io.StringIO()
    console = rich.console.Console(
        file=file, force_terminal=True, force_interactive=True, width=200
    )
    monkeypatch.setattr(rich, "get_console", lambda: console)
    fit_hostile()
    text = re.sub(r"\x1b\[[0-9;?]*[mKAhlG]", "", file.getvalue())
    assert r"[red]\x1b[2J" in text
    for name in (r"[/x]", r"[bold]", r"b\x1b[31m\n"):
        assert name in text
    assert "6/6" in text
    assert "\x1b[2J" not in file.getvalue()
