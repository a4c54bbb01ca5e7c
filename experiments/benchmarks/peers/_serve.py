"""The peers' side of the conversation that `peers/__init__.py` describes."""

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from collections.abc import Iterable


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def serve(
    measure: Callable[..., list[float]], names: Iterable[str], packages: Iterable[str]
) -> None:
    """Answers by `measure(**request)` until the input ends."""
    versions = {package: importlib.metadata.version(package) for package in packages}
    print(json.dumps({"versions": versions, "names": list(names)}), flush=True)
    for line in sys.stdin:
        try:
            answer: dict = {"seconds": measure(**json.loads(line))}
        except Exception as error:
            answer = {"error": repr(error)[:200]}
        print(json.dumps(answer), flush=True)
