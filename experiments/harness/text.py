"""The text of flags as values. Plain Python: planning a study needs no JAX."""

import difflib
import math
import pathlib
import re
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

STATIC = "constant"
"""The balancer of static weights, the only one that `--weights` goes with."""
RETRY = "try trials again that ended without a result (out of memory, diverged)"
"""What `--retry` does."""
DTYPES = ("float32", "bfloat16", "float16")
"""What a model may compute in; parameters are float32 in any case."""
DTYPE = f"the model computes in {', '.join(DTYPES)}; parameters stay in float32"
"""What `--dtype` does."""
MOST = 2**31 - 1
"""Seeds and steps are int32 in the program."""
MANY = 100_000
"""More trials, or seeds, than this are a slip of the hand."""
SMALLEST, LARGEST = 2.0**-126, (2 - 2.0**-23) * 2.0**127
"""The normal numbers of float32: what is smaller counts as 0 in a program."""


class UsageError(ValueError):
    """A flag says something that cannot be done."""


def pieces(text: str, separator: str = ",") -> list[str]:
    """Splits where the separator stands outside parentheses.

    Example:
        >>> pieces("k=5,balancer=(cagrad:c=0.4,rescale=square)")
        ['k=5', 'balancer=(cagrad:c=0.4,rescale=square)']
    """
    parts, depth, start = [], 0, 0
    for mark in re.finditer(f"[(){re.escape(separator)}]", text):
        depth += (mark[0] == "(") - (mark[0] == ")")
        if mark[0] == separator and depth <= 0:
            parts.append(text[start : mark.start()])
            start = mark.end()
    parts.append(text[start:])
    return [part.strip() for part in parts]


def pairs(flag: str, text: str, mark: str = "=", separator: str = ",") -> dict:
    """`left=1,right=0.3` as {"left": "1", "right": "0.3"}; no name comes twice."""
    read: dict[str, str] = {}
    for part in pieces(text, separator):
        name, equals, value = (piece.strip() for piece in part.partition(mark))
        if not equals or not name:
            example = f"NAME{mark}VALUE{separator}..."
            raise UsageError(f"{flag}: expected {example}, got {part!r}")
        if name in read:
            raise UsageError(f"{flag}: {name!r} is given twice")
        read[name] = value
    return read


def typed(flag: str, name: str, text: str, default: Any) -> Any:
    """The text as a value of the default's type: bool, int, float or str."""
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise UsageError(f"{flag}: expected true or false for {name!r}, got {text}")
        return text.lower() == "true"
    kind = type(default)
    try:
        value = kind(text)
    except ValueError:
        expected = "a whole number" if kind is int else "a number"
        raise UsageError(
            f"{flag}: expected {expected} for {name!r}, got {text!r}"
        ) from None
    if kind is float and not math.isfinite(value):
        raise UsageError(f"{flag}: expected a finite number for {name!r}, got {text}")
    return value


def settings(text: str | None, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of an experiment: its defaults, and what `--set` says instead."""
    given = {} if text is None else pairs("--set", text)
    known_names("--set", given, defaults)
    changed = {n: typed("--set", n, given[n], defaults[n]) for n in given}
    return dict(defaults) | changed


def weights(text: str, heads: Sequence[str]) -> dict[str, float]:
    """`left=1,right=0.3` as {"left": 1.0, "right": 0.3}; a weight for every head."""
    given = pairs("--weights", text)
    read = {name: _weight(name, number) for name, number in given.items()}
    same_heads("--weights", read, heads)
    return read


def same_heads(flag: str, given: Iterable[str], heads: Iterable[str]) -> None:
    """A UsageError unless these are the heads, all of them and no others."""
    if sorted(given) != sorted(heads):
        raise UsageError(
            f"{flag}: expected the heads {', '.join(sorted(heads))}; got "
            f"{', '.join(sorted(given))}"
        )


def grid(text: str) -> dict[str, list[float]]:
    """`left=1,right=0.1:0.3:1` as {"left": [1.0], "right": [0.1, 0.3, 1.0]}."""
    given = pairs("--weights", text)
    return {
        name: [_weight(name, number) for number in levels.split(":")]
        for name, levels in given.items()
    }


def whole(flag: str, number: int | None, least: int) -> int | None:
    """A number of a flag, if it was given: `least` to the largest int32."""
    if number is not None and number < least:
        raise UsageError(f"{flag}: expected {least} or more, got {number}")
    if number is not None and number > MOST:
        raise UsageError(f"{flag}: expected at most {MOST}, got {number}")
    return number


def steps(flag: str, text: str | None) -> int | tuple[int, int] | None:
    """`20` as 20, so many steps; `100:120` as (100, 120), whose end is left out."""
    if text is None:
        return None
    first, colon, end = text.partition(":")
    try:
        numbers = [int(first), int(end)] if colon else [int(first)]
    except ValueError:
        raise UsageError(f"{flag}: expected N or START:STOP, got {text!r}") from None
    for number in numbers:
        whole(flag, number, 0 if colon else 1)
    if not colon:
        return numbers[0]
    if numbers[0] >= numbers[1]:
        raise UsageError(f"{flag}: the range {text} is empty")
    return numbers[0], numbers[1]


def folder(flag: str, text: str | None, default: str = "") -> pathlib.Path:
    """A folder of this machine; `~` is the user's, which shells leave after a `=`."""
    if text is None:
        return pathlib.Path(default)
    if not text.strip() or "\0" in text:
        raise UsageError(f"{flag}: expected a folder, got {text!r}")
    if re.match(r"[a-zA-Z][\w+.-]*://", text):
        raise UsageError(f"{flag}: expected a folder of this machine, got {text}")
    try:
        return pathlib.Path(text).expanduser()
    except RuntimeError:
        raise UsageError(f"{flag}: there is no such user: {text}") from None


def mesh(text: str | None) -> dict[str, int] | None:
    """`data:2,model:2` as {"data": 2, "model": 2}; `data` is there, `model` may be."""
    if text is None:
        return None
    read = pairs("--mesh", text, ":")
    if set(read) not in ({"data"}, {"data", "model"}):
        raise UsageError(f"--mesh: expected data:N or data:N,model:M, got {text}")
    axes = {name: typed("--mesh", name, n, 1) for name, n in sorted(read.items())}
    for name, number in axes.items():
        whole(f"--mesh: {name}", number, 1)
    return axes


def mesh_text(axes: Mapping[str, int] | None) -> str:
    """The text of a mesh, for the eye and to compare."""
    if axes is None:
        return "one device"
    return ",".join(f"{name}:{number}" for name, number in axes.items())


def dtype(text: str | None) -> str | None:
    """One of `DTYPES`; float32 is what None says."""
    name = DTYPES[0] if text is None else choice("--dtype", DTYPES, text)
    return None if name == DTYPES[0] else name


def seeds(text: str) -> list[int]:
    """`0:3,7` as [0, 1, 2, 7]: numbers and ranges, whose end is left out."""
    read: list[int] = []
    for part in pieces(text):
        first, colon, end = part.partition(":")
        try:
            numbers = range(int(first), int(end) if colon else int(first) + 1)
        except ValueError:
            raise UsageError(f"--seeds: expected numbers, got {text}") from None
        if not numbers:
            raise UsageError(f"--seeds: the range {part} is empty")
        for number in (numbers[0], numbers[-1]):
            whole("--seeds", number, 0)
        if len(numbers) > MANY:
            raise UsageError(f"--seeds: expected at most {MANY}, got {len(numbers)}")
        read.extend(numbers)
    if len(set(read)) != len(read):
        raise UsageError(f"--seeds: a seed is given twice in {text}")
    return read


def balancers(text: str) -> list[str]:
    """A list of balancers: a piece that begins with NAME= belongs to the one before.

    Example:
        >>> balancers("mgda,cagrad:c=0.4,rescale=square,famo")
        ['mgda', 'cagrad:c=0.4,rescale=square', 'famo']
    """
    read: list[str] = []
    for part in pieces(text):
        argument = "=" in part and ":" not in part.partition("=")[0]
        if argument and read:
            read[-1] += f",{part}"
        else:
            read.append(part)
    if len(set(read)) != len(read):
        raise UsageError(f"--balancers: one is given twice in {text}")
    return read


def known_names(flag: str, given: Iterable[str], known: Iterable[str]) -> None:
    """A UsageError for a name that is not among the known ones, which it lists."""
    unknown = [name for name in given if name not in known]
    if unknown:
        options = ", ".join(known) or "none"
        meant = _meant(unknown[0], known)
        raise UsageError(f"{flag}: expected some of {options}; got {unknown[0]}{meant}")


def choice(
    flag: str, options: Sequence[str], name: str | None, listed: str | None = None
) -> str:
    """The name, or a UsageError that lists the options, or says where they are."""
    if name is not None and name in options:
        return name
    expected = f"one of {', '.join(options)}"
    if listed is not None:
        expected = f"one of the {len(options)} that {listed} lists"
    meant = "" if name is None else _meant(name, options)
    raise UsageError(f"{flag}: expected {expected}; got {name}{meant}")


def _meant(name: str, options: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.lower(), list(options), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _weight(name: str, number: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        raise UsageError(
            f"--weights: expected a number for {name!r}, got {number!r}"
        ) from None
    if weight != 0 and not SMALLEST <= weight <= LARGEST:
        raise UsageError(
            f"--weights: expected 0, or a number from 1.2e-38 to 3.4e38 (float32), for "
            f"{name!r}; got {number}"
        )
    return weight + 0.0  # -0 is 0
