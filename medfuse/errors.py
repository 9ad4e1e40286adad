"""Errors that a user can act on: one sentence that names the thing, what is wrong and what to do."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend. The message is the whole message: no traceback follows it."""

    exit_code = 1


class WrongUse(UserError):
    """The command was asked for something that does not exist or does not fit together."""

    exit_code = 2


class OutputError(UserError):
    """A result cannot be written: no space, no permission. Not the case's fault; it can be tried again."""


class UnreadableError(UserError):
    """A file or series that cannot be read as it stands. ``path`` names it, ``reason`` says why."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = str(path), reason

    def __reduce__(self) -> tuple:  # so that it comes back whole from a worker's process
        return type(self), (self.path, self.reason)


class UnsupportedError(UnreadableError):
    """Readable, but without one true geometry or meaning: ``measured`` and ``allowed`` say what was compared."""

    def __init__(self, path: object, reason: str, measured: str = "", allowed: str = "") -> None:
        super().__init__(path, reason)
        self.measured, self.allowed = measured or reason, allowed

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.reason, self.measured, self.allowed)
