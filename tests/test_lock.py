"""The lock of a hashed install: whole, of the pinned versions, and of nothing else."""

from __future__ import annotations

import re

import pytest
from licences import closure
from lock import APART, EXTRAS, HEAD, LOCK, locked, normal, pinned, wanted
from packaging.requirements import Requirement

TEXT = LOCK.read_text()


def test_every_package_has_the_pinned_version_and_hashes():
    pins = pinned()
    assert len(locked(TEXT)) > 100
    for name, (version, files) in locked(TEXT).items():
        assert pins.get(name) == version, name
        assert files >= 1, name


def test_it_holds_packages_and_hashes_and_nothing_else():
    body = TEXT.removeprefix(HEAD)
    assert body != TEXT
    assert "://" not in TEXT
    lines = body.splitlines()
    assert all(
        re.fullmatch(r"\S+==\S+( ; [^\\]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?", x) for x in lines
    )
    assert sum("==" in x for x in lines) == len(locked(TEXT))


def test_what_medfuse_asks_for_is_in_it():
    asked = {normal(Requirement(r).name) for r in wanted()}
    assert asked - set(locked(TEXT)) == {APART}


@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_what_an_install_brings_is_in_it(extra):
    brought = set(closure("medfuse", frozenset({extra} - {""})))
    of_torch = {name for name in brought if name.startswith(("nvidia-", "triton", "cuda"))}
    assert brought - of_torch - {"medfuse", APART} <= set(locked(TEXT))
