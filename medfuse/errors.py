"""Errors that a user can act on: one sentence that names the thing, what is wrong and what to do."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend. The message is the whole message: no traceback follows it."""

    exit_code = 1


class WrongUse(UserError):
    """The command was asked for something that does not exist or does not fit together."""

    exit_code = 2


class MachineError(UserError):
    """The machine cannot go on. No file's fault and no case's: whoever works on many stops, and can go on
    later."""


class OutputError(MachineError):
    """A result cannot be written: no space, no permission. Not the case's fault; it can be tried again."""


class NotFiniteError(UserError):
    """A training whose loss or gradient is not finite step after step."""


class UnreadableError(UserError):
    """A file or series that cannot be read as it stands. ``path`` names it, ``reason`` says why."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple:  # so that it comes back whole from a worker's process
        return type(self), (self.path, self.reason)


class UnsupportedError(UnreadableError):
    """Readable, but without one true geometry or meaning: ``measured`` and ``allowed`` say what was
    compared."""

    def __init__(self, path: object, reason: str, measured: str = "", allowed: str = "") -> None:
        super().__init__(path, reason)
        self.measured = measured or reason
        self.allowed = allowed

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.reason, self.measured, self.allowed)


def fault_of(error: Exception) -> str:
    """What a parser or a model of pydantic found wrong, in one line: of several faults the first, with its
    place."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        words = first["msg"].removeprefix("Value error, ")
        return f"{place}: {words}" if place else words
    return (str(error).splitlines() or [type(error).__name__])[0]


def os_fault(error: OSError) -> str:
    """What the system said, in its own few words. Where a library put the error into a longer one (pydicom
    adds the element that it wrote, and a traceback), the words of the one inside."""
    inside: BaseException | None = error
    while inside is not None:
        if isinstance(inside, OSError) and inside.strerror:
            return inside.strerror
        inside = inside.__cause__ or inside.__context__
    return (str(error).splitlines() or [type(error).__name__])[0]
