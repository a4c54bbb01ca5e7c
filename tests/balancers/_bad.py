"""What an option refuses, and the words that it does so with."""

import dataclasses
import math
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Bad:
    """Values that an option refuses with "argument: expected ..., got ..."."""

    expected: str
    """Pattern of what the error says was expected."""
    got: tuple[Any, ...]
    others: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Other options that go with it."""

    def of(self, entry):
        """By name of head, with scalars of which some are refused too."""
        by_name = tuple({"a": value} for value in entry.got if value is not None)
        return dataclasses.replace(
            self,
            expected=f"({self.expected}|{entry.expected})",
            got=(*self.got, *by_name),
        )

    def given(self, **others):
        """Beside other options."""
        return dataclasses.replace(self, others=others)


NO_NUMBER = ("1", True, math.nan, 10**400, np.ones(2), np.array(math.nan))
POSITIVE = Bad("('heads' or )?a positive number", (0, -1.5, math.inf, *NO_NUMBER))
POSITIVE_OR_INF = Bad("a positive number", (0, -1.5, *NO_NUMBER))
NONNEGATIVE = Bad("a number >= 0", (-1e-9, math.inf, *NO_NUMBER))
FRACTION = Bad(r"a number in \[0, 1\]", (-0.1, 1.1, *NO_NUMBER))
FRACTION_NOT_ZERO = Bad(r"a number in \(0, 1\]", (0.0, 1.1, *NO_NUMBER))
BELOW_ONE = Bad(r"a number in \[0, 1\)", (-0.1, 1.0, *NO_NUMBER))
AT_LEAST_ONE = Bad("a number >= 1", (0.9, math.inf, *NO_NUMBER))
NUMBER = Bad("a finite number", (math.inf, *NO_NUMBER))
LOG_WEIGHT = Bad(r"a number in \[-14\.0, 14\.0\]", (14.1, math.inf, *NO_NUMBER))
NAN = Bad("a number", NO_NUMBER)
POSITIVE_INT = Bad("a positive int", (0, -1, 2.5, "2", None, True, 2**31))
NONNEGATIVE_INT = Bad("an int >= 0", (-1, 2.5, "2", None, True, 2**31))
BOOLEAN = Bad("True or False", (1, None, "yes"))
CHOICE = Bad("one of", ("no such", None, 17))
FUNCTION = Bad("a callable", (None, 3))
NAME = Bad("names of heads", (3, None, ""))
BY_NAME = Bad("a (dict|scalar)", ([1.0, 2.0, 3.0], 1.0, "abc", {"a": "x"}))
OPTIMIZER = Bad("an optax.GradientTransformation or None", (0.1, "adam"))
BALANCER = Bad("a Balancer", (3, "mgda", len))
ANYTHING = Bad("", ())
