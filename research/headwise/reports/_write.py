"""The report of a study or a run: one HTML file."""

import os
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence

from headwise import _checks
from headwise import _files
from headwise.reports._page import _contents
from headwise.reports._page import _html


def write_report(
    folder: str | os.PathLike | Sequence[str | os.PathLike],
    output: str | os.PathLike | None = None,
    higher: Mapping[str, bool] | None = None,
) -> pathlib.Path:
    """Writes a study or a run as one HTML file that needs neither server nor network.

    It shows the verdict in words, the trade-off between any two metrics, weights and
    metrics as parallel coordinates, what each weight buys, the curves, what heads do to
    modules over time, and every trial with what runs it again. What the folder lacks,
    or what cannot be read of it, is said on the page. Nothing else is written.

    Args:
        folder: of `hw.sweeps.run`, of `hw.training.fit(workdir=)`, or of an experiment;
            or several, which are compared: also at equal budget, as many first trials
            of each as the smallest has.
            A file `report.json` in it may say `{"metrics": {name: whether more is
            better}, "front": [two metrics], "question": text, "remark": text,
            "command": text}`; the command is one line with the fields `{weights}`,
            `{seed}`, `{folder}`, `{key}`, `{NAME}` of a setting, and `{set}` for all
            settings that it does not name.
        output: the file; None: `report.html` in the folder, `comparison.html` in the
            first of several.
        higher: {metric: whether more is better}: the metrics that are shown, and how.
            None: as `report.json` says; else all, taken by their names (less is better
            of a loss, an error), and the page says so.

    Returns:
        The path of the file.

    Raises:
        ModuleNotFoundError: plotly or itables is missing (`headwise[report]`).
        FileNotFoundError: no such folder.
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     record = hw.sweeps.record({"a": 1.0}, 0, {"dice": 0.5})
        ...     hw.sweeps.append(f"{folder}/trials.jsonl", record)
        ...     text = hw.reports.write_report(folder).read_text()
        >>> "dice" in text, "<script src" in text
        (True, False)
    """
    given = [folder] if isinstance(folder, str | os.PathLike) else folder
    paths = [pathlib.Path(one) for one in given]
    if not paths:
        raise ValueError("folder: expected one or more, got none")
    for path in paths:
        if not path.is_dir():
            raise FileNotFoundError(
                f"folder: expected that of a study or a run, got {path}"
            )
    for name, more in (higher or {}).items():
        _checks.boolean(f"higher[{name!r}]", more)
    name = "report.html" if len(paths) == 1 else "comparison.html"
    target = paths[0] / name if output is None else pathlib.Path(output)
    every = [_contents.read(path, higher) for path in paths]
    text = _html.page(_contents.together(every))
    with _files.writing(target):
        _files.write_atomically(target, text.encode("utf-8", "backslashreplace"))
    return target
