"""Every command: parse, call one function, print. stdout is data, stderr is talk. Heavy imports wait for their command.

Exit codes: 0 all done, 1 nothing could be done, 2 wrong use, 3 partly done (each refusal named).
"""

from __future__ import annotations

from .commands import account, batch, case, find, library, model, network, registration, start, text
from .commands.app import app

__all__ = ["account", "app", "batch", "case", "find", "library", "model", "network", "registration", "start", "text"]
