"""What a command hands back: data, text and exit code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class CommandResult:
    data: dict
    text: str
    exit_code: int
