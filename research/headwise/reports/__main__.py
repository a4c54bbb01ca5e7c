"""A study or a run as one HTML file: `python -m headwise.reports STUDY`.

Also `headwise-report STUDY`. Exit codes: 0 done, 1 it could not be written, 2 wrong
usage.
"""

import argparse
import sys
from collections.abc import Sequence

from headwise.reports import _write


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the report and prints its path."""
    parser = argparse.ArgumentParser(
        "headwise-report", description="a study or a run as one HTML file"
    )
    parser.add_argument("folder", nargs="+", help="of a study or a run; several")
    parser.add_argument("--output", help="the file; else report.html in the folder")
    parser.add_argument("--higher", default="", help="metrics of which more is better")
    parser.add_argument("--lower", default="", help="metrics of which less is better")
    given = parser.parse_args(argv)
    ways = {name: True for name in _names(given.higher)}
    ways |= {name: False for name in _names(given.lower)}
    try:
        path = _write.write_report(given.folder, given.output, ways or None)
    except (FileNotFoundError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


if __name__ == "__main__":
    sys.exit(main())
