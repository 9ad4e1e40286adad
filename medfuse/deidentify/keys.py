"""Keyed pseudonyms: the same key gives the same new UIDs, names and day shift, so references still
resolve."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from datetime import timedelta
from pathlib import Path

from ..errors import UserError, os_fault
from ..io.cases import parse_date

MAX_SHIFT_DAYS = 3650


class Pseudonyms:
    """HMAC-SHA256 of the old value under a secret key; nobody without the key can go back or check a
    guess."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def _digest(self, purpose: str, value: str) -> bytes:
        return hmac.new(
            self._key, f"{purpose}:{value}".encode("utf-8", "surrogatepass"), hashlib.sha256
        ).digest()

    def uid(self, value: str) -> str:
        """A UID under 2.25 (PS3.5 B.2)."""
        return f"2.25.{int.from_bytes(self._digest('uid', value)[:16], 'big')}"

    def patient(self, value: str) -> str:
        """The new patient id of an old one."""
        return "P" + self._digest("patient", value).hex()[:12].upper()

    def accession(self, value: str) -> str:
        """The new accession number of an old one, the same in images, tables and reports; "" of none."""
        number = value.strip()
        return "A" + self._digest("accession", number).hex()[:14].upper() if number else ""

    def case(self, value: str) -> str:
        """The new name of a case, or of a group of cases."""
        return "C" + self._digest("case", value).hex()[:12].upper()

    def site(self, value: str) -> str:
        """The new name of a place; "" of none."""
        return "S" + self._digest("site", value).hex()[:8].upper() if value else ""

    def message(self, value: str) -> str:
        """The new id of a report message."""
        return "R" + self._digest("report", value).hex()[:12].upper()

    def file(self, name: str) -> str:
        """The name of a file that has no other, from its path below what was given."""
        return "F" + self._digest("file", name).hex()[:16]

    def days(self, patient: str) -> int:
        """Days to go back, 1 to MAX_SHIFT_DAYS: intervals within one patient stay true."""
        return 1 + int.from_bytes(self._digest("days", patient)[:8], "big") % MAX_SHIFT_DAYS

    @staticmethod
    def shift(value: str, days: int) -> str:
        """A DICOM date, so many days earlier; "" for what is no date."""
        day = parse_date(value)
        return "" if day is None else (day - timedelta(days=days)).strftime("%Y%m%d")


def load_key(path: Path) -> bytes:
    """The secret of this workstation, made once with mode 600. Keep it apart from the de-identified
    images."""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as f:
                f.write(secrets.token_bytes(32))
        key = path.read_bytes()
    except OSError as e:
        raise UserError(f"{path}: the key cannot be read or made ({os_fault(e)}); give another --key") from e
    if len(key) < 16:
        raise UserError(f"{path}: holds {len(key)} bytes; a key needs at least 16")
    return key
