"""Nothing of a copyleft licence comes with a plain install, and every package says what it is under."""

from __future__ import annotations

from licences import COPYLEFT, PAGE, closure, licence_of


def test_a_plain_install_holds_nothing_copyleft():
    plain = closure("medfuse")
    assert len(plain) > 60  # the walk found the packages
    assert {"torch", "pydicom", "numpy"} <= set(plain)
    assert {n: licence_of(p) for n, p in plain.items() if COPYLEFT.search(licence_of(p))} == {}


def test_the_page_names_every_package_of_a_plain_install():
    page = PAGE.read_text()
    assert [n for n in closure("medfuse") if f"| {n} |" not in page] == []
