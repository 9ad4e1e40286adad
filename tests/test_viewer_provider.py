"""Signing in to the viewer with an identity provider: a real OpenID Connect server, Streamlit's own login and
a real browser."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest
from pacs import free_port
from viewers import CHROMIUM, browsing, serving, wait_for_answer

from medfuse.library import Library, accounts, audit

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]
PEOPLE = {
    "7": {"name": "Bo Chen", "email": "bo@hospital.example", "email_verified": True},
    "8": {"name": "Somebody", "email": "bo@hospital.example", "email_verified": False},  # says so
    "9": {"name": "Kim Lee", "email": "kim@hospital.example", "email_verified": True},  # has no account here
}
RESTING = "[data-testid=stApp][data-test-script-state=notRunning]"  # a click that meets a run is lost
SECRETS = """[auth]
redirect_uri = "{viewer}/oauth2callback"
cookie_secret = "a secret of tests that is long enough"
client_id = "medfuse"
client_secret = "told to nobody"
server_metadata_url = "{provider}/.well-known/openid-configuration"
"""


@contextmanager
def provider():
    """A small OpenID Connect provider that asks for no password; its address."""
    port = free_port()
    people = [f"--user-claims={json.dumps({'sub': sub, **claims})}" for sub, claims in PEOPLE.items()]
    process = subprocess.Popen(
        [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), *people],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for_answer(f"{url}/.well-known/openid-configuration")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture(scope="module")
def desk(viewer_library, tmp_path_factory):
    """A served copy of the library that knows one person by their e-mail; its home and address."""
    home = tmp_path_factory.mktemp("provider") / "home"
    shutil.copytree(viewer_library[0], home)
    accounts.add_account(Library(home), "bo@hospital.example", "long enough", "author", full_name="Bo Chen")
    port = free_port()
    with provider() as url:
        viewer = f"http://127.0.0.1:{port}"
        (home / "secrets.toml").write_text(SECRETS.format(viewer=viewer, provider=url))
        with serving(home, port):
            yield home, viewer


def sign_in_as(page, url: str, sub: str) -> None:
    page.goto(url)
    page.get_by_role("button", name="Sign in").click()
    page.locator(f"button[value='{sub}']").click()


def test_who_the_provider_knows_has_the_role_of_their_account(desk):
    home, url = desk
    before = len(audit.entries(Library(home)))
    with browsing(url) as page:
        sign_in_as(page, url, "7")
        page.get_by_text("Bo Chen (author)").wait_for()
        page.reload()
        page.get_by_text("Bo Chen (author)").wait_for()  # a page loaded anew is no new sign-in
        page.locator(RESTING).wait_for()
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("button", name="End").first.click()  # the provider asks too
        page.get_by_role("button", name="Sign in").wait_for()
        assert page.get_by_text("Bo Chen (author)").count() == 0
    events = [e.event for e in audit.entries(Library(home))[before:] if e.who == "bo@hospital.example"]
    assert events.count("signed in") == events.count("signed out") == 1


@pytest.mark.parametrize(("sub", "shown"), [("8", "Somebody (reader)"), ("9", "Kim Lee (reader)")])
def test_an_unverified_address_or_a_stranger_only_looks(desk, sub, shown):
    """Anybody may write somebody else's address into a profile."""
    _, url = desk
    with browsing(url) as page:
        sign_in_as(page, url, sub)
        page.get_by_text(shown).wait_for()
        assert page.get_by_text("(author)").count() == 0


def test_who_is_turned_away_is_still_nobody(desk):
    _, url = desk
    with browsing(url) as page:
        page.goto(url)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("button", name="Deny").click()
        page.get_by_role("button", name="Sign in").wait_for()
        assert page.get_by_text("Traceback").count() == 0
