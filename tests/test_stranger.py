"""Who was let in once, or never, and goes on: signed out, behind a proxy, with another's address, with a
reader's rights."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from slices import write_stack
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from apps.viewer import desk, people, pixels
from apps.viewer.browsers import browsers
from apps.viewer.guard import Guard
from apps.viewer.pixels import Shelf
from apps.viewer.seats import cookie_name, seats
from medfuse.batch.ledger import Ledger
from medfuse.errors import WrongUse
from medfuse.io.names import sent_name
from medfuse.library import Library, accounts, projects, store
from medfuse.library.batches import batch_rows, batch_runs
from medfuse.library.ingest import ingest

pytestmark = pytest.mark.attack
PASSWORD = "correct horse battery"


@pytest.fixture
def library(home, tmp_path):
    """Two cases, one of them of a project of its own."""
    library = Library(home)
    for n, name in enumerate(("open", "secret")):
        of = {"patient": f"P{n}", "study": f"1.2.{n + 1}", "series": f"1.2.{n + 1}.1"}
        write_stack(tmp_path / name, [(0, 0, 2.5 * k) for k in range(3)], **of)
        ingest(library, tmp_path / name)
    projects.move_case(library, case_of(library, "P1"), "trial")
    return library


def case_of(library: Library, patient: str) -> str:
    return next(c.case_id for c in store.list_cases(library) if c.patient_id == patient)


@pytest.mark.parametrize("at_this_machine", [False, True])
def test_a_part_of_a_page_shows_nothing_to_who_was_signed_out(library, monkeypatch, at_this_machine):
    """Streamlit runs a part of a page alone, without the frame that asks who is there."""
    monkeypatch.setattr(people, "session_id", lambda: "a session")
    monkeypatch.setattr(people, "account", lambda: None)
    monkeypatch.setattr(people, "at_this_machine", lambda: at_this_machine)
    monkeypatch.setattr(desk, "_told", None)
    shown = desk.library()
    open_case = case_of(library, "P0")
    assert [c.case_id for c in store.list_cases(shown)] == [open_case] * at_this_machine
    assert store.has_case(shown, open_case) == at_this_machine
    if not at_this_machine:
        with pytest.raises(WrongUse):
            store.load_case(shown, open_case)


def test_many_who_open_a_case_at_once_make_its_images_once(library, monkeypatch):
    """Fifty readers decoded and encoded it fifty times, side by side."""
    monkeypatch.setattr(desk, "_told", None)
    case = case_of(library, "P0")
    made = []
    write = pixels.write_case

    def counted(read, folder):
        made.append(folder)
        time.sleep(0.2)
        write(read, folder)

    monkeypatch.setattr(pixels, "write_case", counted)
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: pixels.case_pixels(case), range(8)))
    assert made == list(folders)


def signed_in(library: Library, name: str, role: str = "author") -> tuple[str, accounts.Account]:
    """The word of a browser where a new account is signed in."""
    who = accounts.add_account(library, name, PASSWORD, role)
    word = seats.new_browser()
    seats.take(word, who)
    return word, who


def ended(how: str, library: Library, word: str, who: accounts.Account) -> None:
    if how == "removed":
        accounts.remove_account(library, who.name)
    elif how == "signed out in another window":
        seats.leave(word)
    elif how == "signed in as another":
        seats.take(word, accounts.add_account(library, "bo", PASSWORD, "author"))
    elif how == "another password":
        accounts.change_password(library, who.name, PASSWORD + " staple")
    elif how == "other projects":
        accounts.set_projects(library, who.name, ("trial",))
    else:
        seat = seats.at(word)
        assert seat is not None
        seat.seen -= 1e6


HOWS = (
    "removed",
    "signed out in another window",
    "signed in as another",
    "another password",
    "other projects",
    "idle",
)


@pytest.mark.parametrize("how", HOWS)
def test_an_image_that_was_opened_closes_with_its_sign_in(library, tmp_path, monkeypatch, how):
    word, who = signed_in(library, "ann")
    monkeypatch.setattr(people, "browser", lambda: word)
    monkeypatch.setattr(people.st, "session_state", {})
    monkeypatch.setattr(desk, "_told", None)
    folder = tmp_path / "pixels"
    folder.mkdir()
    (folder / "0.0.gz").write_bytes(b"x")
    shelf = Shelf(lambda session: True)
    key = shelf.lay("a session", folder, people.still_looking())
    assert shelf.find(key, "0.0.gz") is not None
    ended(how, library, word, who)
    assert shelf.find(key, "0.0.gz") is None


def answers(word: str, path: str, *, method: str = "PUT", address: str = "127.0.0.1", **headers: str) -> int:
    """What a guarded app answers a browser that has a session, here or behind a proxy."""

    async def app(scope, receive, send):
        await PlainTextResponse("taken")(scope, receive, send)

    browsers.note("a-session-of-" + word, word)
    guarded = Guard(app, address, may_look=people.browser_may_look)
    client = TestClient(guarded, base_url="http://127.0.0.1")
    cookies = {"Cookie": f"{cookie_name('')}={word}"}
    return client.request(method, path.format(word=word), headers={**cookies, **headers}).status_code


PROXIED = {"X-Forwarded-For": "10.0.0.66"}


@pytest.mark.parametrize("path", ["/_stcore/upload_file/a-session-of-{word}/f", "/media/0123.pdf"])
@pytest.mark.parametrize("how", ["never", *HOWS])
def test_nothing_is_sent_or_fetched_without_a_sign_in(library, monkeypatch, path, how):
    """A page that asks for a password is a session too: it took files of 200 MB into memory."""
    monkeypatch.setattr(desk, "_told", None)
    word = seats.new_browser()
    if how != "never":
        word, who = signed_in(library, "ann")
        assert answers(word, path, **PROXIED) == 200
        ended(how, library, word, who)
    fetched = how == "signed in as another"  # somebody is signed in there
    assert answers(word, path, **PROXIED) == (200 if fetched else 404)
    assert answers(word, path, address="0.0.0.0") == (200 if fetched else 404)
    assert answers(word, path) == 200  # this machine's own guest


@pytest.mark.parametrize("path", ["interact", "mcp", "openapi.json"])
def test_no_program_drives_the_pages(path):
    assert answers("w", f"/_stcore/agent/{path}", method="POST") == 404


@pytest.mark.parametrize(
    ("peer", "header", "counted"),
    [
        (None, "10.0.0.5", "10.0.0.5"),
        (None, "1.1.1.1, 10.0.0.5", "10.0.0.5"),
        (None, "", ""),
        ("10.0.0.66", "10.0.0.5", "10.0.0.66"),
        ("10.0.0.66", "", "10.0.0.66"),
    ],
)
def test_nobody_tries_passwords_as_another_address(monkeypatch, peer, header, counted):
    there = SimpleNamespace(ip_address=peer, headers={"X-Forwarded-For": header})
    monkeypatch.setattr(people.st, "context", there)
    assert people.address() == counted


@pytest.mark.parametrize("verified", [False, "false", True, None])
def test_an_address_that_a_provider_has_not_verified_is_nobodys(library, monkeypatch, verified):
    accounts.add_account(library, "root@hospital.example", PASSWORD, "admin")
    said = {"email": "root@hospital.example", "sub": "stranger"}
    if verified is not None:
        said["email_verified"] = verified
    monkeypatch.setattr(people.st, "user", said)
    monkeypatch.setattr(desk, "_told", None)
    who = people._from_provider()
    assert who is not None
    assert (who.name, who.role) == (
        ("root@hospital.example", "admin") if verified in (True, None) else ("stranger", "reader")
    )


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "",
        "a/../../b.dcm",
        "x" * 400 + ".nii.gz",
        "C:\\x\\y.dcm",
        "\0.dcm",
        "..\\..\\y.zip",
        "é" * 300,
    ],
)
def test_what_a_browser_calls_a_file_stays_in_its_folder(tmp_path, name):
    kept = sent_name(name)
    path = tmp_path / kept
    path.write_bytes(b"x")  # one part, of a length that every file system takes
    assert path.resolve().parent == tmp_path.resolve()
    assert kept.endswith(name[-4:]) or not name.endswith((".dcm", ".zip", ".gz"))


ADMINS = {
    "make an account": lambda x: accounts.add_account(x, "bo", PASSWORD, "admin"),
    "another's password": lambda x: accounts.change_password(x, "root", PASSWORD + "s"),
    "remove": lambda x: accounts.remove_account(x, "root"),
    "own projects": lambda x: projects.allow(x, "ann", ("trial", "default")),
    "move a case": lambda x: projects.move_case(x, case_of(x, "P1"), "default"),
}


@pytest.mark.parametrize("act", ADMINS)
def test_what_takes_an_admin_takes_one_in_the_library(library, act):
    accounts.add_account(library, "root", PASSWORD, "admin")
    ann = accounts.add_account(library, "ann", PASSWORD, "author")
    with accounts.acting_as(ann), pytest.raises(WrongUse, match="admin"):
        ADMINS[act](library)
    with accounts.acting_as(ann):
        accounts.change_password(library, "ann", PASSWORD + " staple")


AUTHORS = {
    "role": lambda x: store.set_role(x, "1.2.1.1", "portal_venous"),
    "words": lambda x: store.set_words(x, case_of(x, "P0"), indication="pain"),
    "confirm": lambda x: store.confirm(x, case_of(x, "P0")),
}


@pytest.mark.parametrize("act", AUTHORS)
def test_a_reader_changes_no_case(library, act):
    reader = accounts.add_account(library, "ro", PASSWORD, "reader")
    with accounts.acting_as(reader), pytest.raises(WrongUse, match="may not"):
        AUTHORS[act](library)


def test_a_batch_names_the_cases_of_ones_projects_alone(library, tmp_path):
    hidden = case_of(library, "P1")
    ledger = Ledger(tmp_path / "out", library)
    hashes = ("a", "b", "c")
    ledger.plan([(case_of(library, "P0"), hashes, "done"), (hidden, hashes, "done")], forget=False)
    default = library.seen_by(frozenset({projects.DEFAULT}))
    assert [r.case_id for r in batch_rows(library, str(ledger.out))] == sorted(
        [case_of(library, "P0"), hidden]
    )
    assert [r.case_id for r in batch_rows(default, str(ledger.out))] == [case_of(library, "P0")]
    assert [r.done for r in batch_runs(default)] == [1]
    assert not batch_runs(library.seen_by(frozenset({"other"})))


def test_a_page_reads_no_folder_outside_the_home_for_who_is_elsewhere(library, tmp_path, monkeypatch):
    from test_viewer import page, texts

    (tmp_path / "evaluation.json").write_text('{"secret": 1}')
    monkeypatch.setattr(people, "at_this_machine", lambda: False)
    app = page("cohort", who=accounts.add_account(library, "ann", PASSWORD, "author"))
    app.text_input(key="evaluation").set_value(str(tmp_path)).run()
    assert not app.exception  # it was read, and its missing parts were a traceback
    assert "secret" not in texts(app)
