"""The process that runs the benchmarks of these tests ends with them."""

import pytest

from tests.experiments.benchmarks import _runs


@pytest.fixture(scope="session", autouse=True)
def end_of_benchmarks():
    yield
    _runs.end()
