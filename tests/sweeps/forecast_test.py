"""The plan's numbers in words: checked by hand."""

import pytest

from headwise.sweeps._cohort import _forecast


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "under 1 s"),
        (0.94, "under 1 s"),
        (0.96, "1 s"),
        (9.4, "9 s"),
        (9.6, "10 s"),
        (41.0, "40 s"),
        (88.0, "90 s"),
        (91.0, "2 min"),
        (88 * 60.0, "88 min"),
        (91 * 60.0, "1.5 h"),
        (35 * 3600.0, "35 h"),
        (37 * 3600.0, "1.5 days"),
        (99.9 * 86400, "100 days"),
    ],
)
def test_durations(seconds, text):
    assert _forecast.duration(seconds) == text


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_000, "1000 kB"),
        (1.5e6, "1.5 MB"),
        (123.4e6, "120 MB"),
        (23.1e9, "23 GB"),
        (4e12, "4.0 TB"),
    ],
)
def test_sizes(nbytes, text):
    assert _forecast.size(nbytes) == text


@pytest.mark.parametrize(
    ("chosen", "seconds", "text"),
    [
        (
            "vmap",
            {"vmap": 1.35e-4, "scan": 2.2e-4, "loop": 2.16e-3},
            "measured 0.135 ms a step a trial; scanned 0.22; looped 2.2",
        ),
        ("loop", {"loop": 2.5}, "measured 2.50 s a step a trial"),
        # The unit is that of the chosen one.
        (
            "threads",
            {"scan": 9e-5, "threads": 5.4321e-5},
            "measured 54.3 us a step a trial; scanned 90",
        ),
        ("scan", {"scan": 0.0}, "measured 0 ns a step a trial"),
    ],
)
def test_measured(chosen, seconds, text):
    assert _forecast.measured(chosen, seconds) == text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            (32, 32, "vmap", "measured 0.135 ms a step a trial", 40, 120e6),
            "32 trials, 1 cohort, vmapped (measured 0.135 ms a step a trial), about "
            "40 s, 120 MB",
        ),
        (
            (100, 34, "threads", "given", 0.3, None),
            "100 trials, 3 cohorts of 34 or fewer, in threads (given), under 1 s",
        ),
        ((64, 32, "shard", "", None, 2e9), "64 trials, 2 cohorts of 32, over devices"),
        ((1, 1, "loop", "", 100, 5), "1 trial, 1 cohort, looped, about 2 min, 5 B"),
    ],
)
def test_a_line(arguments, text):
    *_, nbytes = arguments
    assert _forecast.line(*arguments) == text + (", 2.0 GB" if nbytes == 2e9 else "")


@pytest.mark.parametrize(
    ("given", "options", "text"),
    [
        ((48, 4, 600, 3e8), {}, "in all 48 trials, 4 cohorts, about 10 min, 300 MB"),
        (
            (48, 3, 600, None),
            {"workers": 5, "done": 1},
            # three cohorts keep no more than three workers busy
            "in all 48 trials (1 more is done), 3 cohorts, 5 workers, about 3 min",
        ),
        (
            (0, 0, 0.0, None),
            {"done": 9},
            "in all 0 trials (9 more are done), 0 cohorts, under 1 s",
        ),
    ],
)
def test_the_sum(given, options, text):
    assert _forecast.total(*given, **options) == text
