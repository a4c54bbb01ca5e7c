"""The former name of `launch.local`, for one release."""

import sys
from collections.abc import Sequence

from experiments.harness import command
from launch import local


def main(argv: Sequence[str]) -> int:
    """Says the new name, then does what it did."""
    print("launch.sweep is launch.local by now: use that name", file=sys.stderr)
    return local.main(argv)


if __name__ == "__main__":
    command.run(main)
