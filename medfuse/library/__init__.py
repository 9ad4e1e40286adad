"""What a workstation keeps of its patients: cases, predictions, reports, accounts, and who did what.

`Library` opens one; the modules here read and write it, each taking the library as first argument.
"""

from __future__ import annotations

from .library import Library

__all__ = ["Library"]
