"""DICOMweb servers and DICOM nodes that answer with ill will: what they lead to, what they say, how much."""

from __future__ import annotations

import gzip
import json
import struct
import threading
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pydicom
import pytest
from pacs import free_port
from pydicom.dataset import Dataset
from pynetdicom import AE, dsutils, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, UltrasoundImageStorage

from medfuse.errors import UserError
from medfuse.library import Library
from medfuse.network import client
from medfuse.network.archive import Archive
from medfuse.network.client import fetch_web, find_remote, parse_remote, shown, stow
from medfuse.network.node import Peer

pytestmark = [
    pytest.mark.attack,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]
Answer = tuple[int, bytes, dict[str, str]]
LIST = {"Content-Type": "application/dicom+json"}


class Server(ThreadingHTTPServer):
    """Answers as ``answer`` says of a path; ``asked`` holds method, path and bytes of the body."""

    def __init__(self, answer: Callable[[str], Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.asked: list[tuple[str, str, int]] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """The client may hang up."""

    @property
    def url(self) -> str:
        """With a name and a password."""
        return f"http://ann:secret@127.0.0.1:{self.server_port}/web"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, len(body)))
        status, data, headers = self.server.answer(self.path)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(answer: Callable[[str], Answer]):
    server = Server(answer)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def archive(home):
    made = Archive(Library(home))
    yield made
    made.close()


def fetched(server: Server, archive: Archive):
    return fetch_web(parse_remote(f"dicomweb:{server.url}"), archive)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_server_leads_to_another(archive, tmp_path, status):
    """Whole objects went to whom the server named; what only this machine reaches was asked."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.PatientName = UltrasoundImageStorage, "1.2.3", "SECRET^PATIENT"
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with serving(lambda path: (200, b"[]", LIST)) as other:
        places = [
            other.url.replace("ann:secret@", ""),
            f"//127.0.0.1:{other.server_port}/x",
            "file:///etc/passwd",
        ]
        for place in places:
            with serving(lambda path, place=place: (status, b"", {"Location": place})) as server:
                with pytest.raises(UserError, match="leads to another server") as said:
                    stow(server.url, [tmp_path / "a.dcm"])
                with pytest.raises(UserError, match="leads to another server"):
                    fetched(server, archive)
                assert "secret" not in str(said.value)
        assert other.asked == []


def test_a_server_may_lead_to_itself(archive):
    def answer(path: str) -> Answer:
        return (200, b"[]", LIST) if "moved" in path else (302, b"", {"Location": "/moved"})

    with serving(answer) as server:
        assert fetched(server, archive) == ([], [])


@pytest.mark.parametrize(
    "said",
    [
        b'["a"]',
        b"5",
        b"[null]",
        b'[{"0020000D": "x"}]',
        b'[{"0020000D": {"Value": []}}]',
        b"<html>",
        b"\xff\xfe",
        b'[{"0020000D": {"Value": ["../../x"]}}]',
        b'[{"0020000D": {"Value": 5}}]',
        b"[" * 100_000,
    ],
)
def test_a_list_of_something_else_is_one_sentence(archive, said):
    with serving(lambda path: (200, said, LIST)) as server, pytest.raises(UserError, match="DICOM") as e:
        fetched(server, archive)
    assert "secret" not in str(e.value)


def test_an_answer_that_swells_is_not_unpacked(archive, monkeypatch):
    monkeypatch.setattr(client, "LARGEST_LIST", 1024**2)
    bomb = gzip.compress(bytes(64 * 1024**2), 1)
    packed = {**LIST, "Content-Encoding": "gzip"}
    for status, headers in ((200, packed), (302, {**packed, "Location": "/web"})):
        with (
            serving(lambda path, answer=(status, bomb, headers): answer) as server,
            pytest.raises(UserError, match="more than 1048576 bytes"),
        ):
            fetched(server, archive)


def test_an_answer_that_trickles_ends(archive, monkeypatch):
    monkeypatch.setattr(client, "PATIENCE_S", -1.0)
    with (
        serving(lambda path: (200, b"[]" + b" " * 5000, LIST)) as server,
        pytest.raises(UserError, match="trickles"),
    ):
        fetched(server, archive)


def part(uid: str, *, deflated: bytes = b"") -> bytes:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID = UltrasoundImageStorage, uid, "1.2"
    plain = dsutils.encode(ds, False, True)
    if deflated:
        packer = zlib.compressobj(1, zlib.DEFLATED, -15)
        plain = packer.compress(plain + deflated) + packer.flush()
    syntax = b"1.2.840.10008.1.2.1.99" if deflated else b"1.2.840.10008.1.2.1\0"
    meta = b"\x02\x00\x10\x00UI" + struct.pack("<H", len(syntax)) + syntax
    return b"\0" * 128 + b"DICM\x02\x00\x00\x00UL\x04\x00" + struct.pack("<I", len(meta)) + meta + plain


def test_other_objects_than_were_asked_for_are_not_kept(archive):
    """Under the UID that was asked for anything could be brought in; one odd object ended the whole fetch."""
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 32 * 1024**2) + bytes(32 * 1024**2)
    sent = {
        "1.2.1": part("1.2.1"),
        "1.2.2": part("1.2.99"),
        "1.2.3": part("1.2.3", deflated=pixels),
        "1.2.4": b"no DICOM",
        "1.2.5": part("1.2.5")[:140],
    }

    def answer(path: str) -> Answer:
        if path.endswith("/studies"):
            return 200, json.dumps([{"0020000D": {"Value": ["1.2"]}}]).encode(), LIST
        if path.endswith("/instances"):
            found = [{"0020000E": {"Value": ["1.2.7"]}, "00080018": {"Value": [uid]}} for uid in sent]
            return 200, json.dumps(found).encode(), LIST
        body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + sent[path.rsplit("/", 1)[1]] + b"\r\n--b--"
        return 200, body, {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}

    with serving(answer) as server:
        got, refused = fetched(server, archive)
    assert got == ["1.2.1"]
    assert [uid for uid, _ in refused] == ["1.2.2", "1.2.3", "1.2.4", "1.2.5"]
    why = dict(refused)
    assert "another object" in why["1.2.2"]
    assert "swells" in why["1.2.3"]


def test_an_address_is_shown_without_its_password():
    assert shown("https://ann:se@cret@host:8042/web") == "https://host:8042/web"
    assert shown("PACS@127.0.0.1:4242") == "PACS@127.0.0.1:4242"


def test_a_node_whose_answers_name_no_study_is_one_sentence(monkeypatch):
    """It ended in a KeyError; one that never stops filled the memory."""
    nameless = Dataset()
    nameless.QueryRetrieveLevel, nameless.PatientID = "STUDY", "P"
    ae = AE(ae_title="PACS")
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    named = Dataset()
    named.QueryRetrieveLevel, named.StudyInstanceUID = "STUDY", "1.2.3"
    answers = [nameless, named, *[named] * 30]
    port = free_port()
    server = ae.start_server(
        ("127.0.0.1", port),
        block=False,
        evt_handlers=[(evt.EVT_C_FIND, lambda e: ((0xFF00, a) for a in answers))],
    )
    try:
        found = find_remote(Peer("PACS", "127.0.0.1", port), {})
        assert {s["StudyInstanceUID"] for s in found} == {"1.2.3"}
        monkeypatch.setattr(client, "MOST_STUDIES", 10)
        with pytest.raises(UserError, match="too many studies"):
            find_remote(Peer("PACS", "127.0.0.1", port), {})
    finally:
        server.shutdown()
