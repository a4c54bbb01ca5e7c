"""What is said, and done, when memory runs out."""

import jax

OUT = "out of memory"
SMALLER = "%d trials as one program are out of memory: on with %d"


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: of this machine or of a device.

    That is no fault of the program: `run` makes a record of such a trial and goes on.

    Args:
        error: anything that was raised.

    Returns:
        True for `MemoryError` and for RESOURCE_EXHAUSTED of JAX.

    Example:
        >>> out_of_memory(MemoryError()), out_of_memory(TypeError("x"))
        (True, False)
    """
    device = isinstance(error, jax.errors.JaxRuntimeError)
    return isinstance(error, MemoryError) or (
        device and "RESOURCE_EXHAUSTED" in str(error)
    )


def words(error: Exception) -> str:
    """The error of a record.

    Example:
        >>> words(MemoryError())
        'out of memory: MemoryError'
    """
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"{OUT}: {first[:300]}"


def told(records: list, folder: object) -> str | None:
    """What is said at the end of records of trials that ran out of memory."""
    count = sum((record["error"] or "").startswith(OUT) for record in records)
    if not count:
        return None
    kept = " and count as done: retry=True tries them again" if folder else ""
    return f"{count} of {len(records)} trials ran out of memory{kept}"
