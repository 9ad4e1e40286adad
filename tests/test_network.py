"""The node against real peers: dcmtk, Orthanc, cut connections, kills. Exact counts and bytes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pydicom
import pytest
from certificates import self_signed
from pacs import free_port, start_orthanc
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.sop_class import (
    MRImageStorage,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelGet,
)

from medfuse.errors import UserError, WrongUse
from medfuse.io.durable import write_durably
from medfuse.library import Library, results, store
from medfuse.network import archive as stored
from medfuse.network.answers import commitment_result
from medfuse.network.archive import Archive, find, matches
from medfuse.network.client import (
    associate,
    echo,
    fetch_web,
    find_remote,
    move_remote,
    parse_remote,
    send_files,
    stow,
)
from medfuse.network.node import Node, NodeOptions, Peer
from medfuse.network.service import Destination, Service, ingest_remote

# pynetdicom leaves the socket of a refused connection to the garbage collector
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)


def tool(name):
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"no {name} (.ci/install-debian)")


@pytest.fixture
def node(home):
    made = Node(NodeOptions(port=free_port(), destinations=()))
    made.start()
    yield made
    made.stop()


def peer_of(node) -> Peer:
    return Peer(node.options.aet, "127.0.0.1", node.options.port)


@pytest.fixture(scope="module")
def slices(patient_dicom):
    return sorted(p for p in patient_dicom.rglob("*.dcm") if "MR" in str(p))


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    port = free_port()
    made = start_orthanc(tmp_path_factory.mktemp("orthanc"), peer_aet="MEDFUSE", peer_port=port)
    if made is None:
        pytest.skip("Orthanc is not installed (.ci/install-debian)")
    made.peer_port = port
    yield made
    made.stop()


def body(path: Path) -> bytes:
    """A file's data set as it was sent: everything after the file meta information."""
    raw = Path(path).read_bytes()
    ds = pydicom.dcmread(path, stop_before_pixels=True)
    return raw[144 + ds.file_meta.FileMetaInformationGroupLength :]


def files_on_disk(home) -> list[Path]:
    return [p for p in (home / "images").rglob("*") if p.is_file()]


@tool("storescu")
def test_dcmtk_sends_and_the_bytes_are_there(node, slices, home):
    command = ["storescu", "-aec", "MEDFUSE", "127.0.0.1", str(node.options.port), *map(str, slices[:12])]
    subprocess.run(command, check=True, env={**os.environ, "TCP_NODELAY": "1"}, capture_output=True)
    on_disk = {pydicom.dcmread(p, stop_before_pixels=True).SOPInstanceUID: p for p in files_on_disk(home)}
    assert len(on_disk) == 12
    for path in slices[:12]:
        uid = pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID
        assert body(on_disk[uid]) == body(path)


@pytest.mark.attack
@tool("echoscu")
def test_echo_and_who_may_connect(home, slices):
    picky = Node(NodeOptions(port=free_port(), allow_aets=("FRIEND",), allow_addresses=("10.0.0.0/8",)))
    picky.start()
    try:
        command = ["echoscu", "-aet", "FRIEND", "-aec", "MEDFUSE", "127.0.0.1", str(picky.options.port)]
        # the address is not allowed
        assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    finally:
        picky.stop()
    named = Node(NodeOptions(port=free_port(), allow_aets=("FRIEND",), allow_addresses=("127.0.0.0/8",)))
    named.start()
    try:
        assert echo(peer_of(named), "FRIEND")
        with pytest.raises(UserError, match="does not accept our AE title"):
            echo(peer_of(named), "STRANGER")
    finally:
        named.stop()
    with pytest.raises(WrongUse, match="say who may connect"):
        Node(NodeOptions(port=free_port(), address="0.0.0.0")).start()


def test_nobody_there_a_taken_port_and_a_wrong_name_are_one_sentence(node):
    with pytest.raises(UserError, match="no DICOM node answers"):
        echo(Peer("X", "127.0.0.1", free_port()))
    with pytest.raises(UserError, match="choose another --port"):
        Node(NodeOptions(port=node.options.port)).start()
    for wrong in ("nonsense", "A@b", "TOOLONGAETITLE12345@h:1"):
        with pytest.raises(WrongUse, match="AETITLE@HOST:PORT"):
            Peer.parse(wrong)


def test_many_associations_resending_the_same_leave_each_once(node, slices, home):
    """6 associations × 3 re-sends × 20 instances → exactly 20 files, all acknowledged."""
    some = slices[:20]
    results = []

    def work():
        results.extend(send_files(peer_of(node), some).sent for _ in range(3))

    threads = [threading.Thread(target=work) for _ in range(6)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert results == [20] * 18
    assert len(files_on_disk(home)) == 20
    assert not list((home / "quarantine").iterdir())


@pytest.mark.attack
def test_same_uid_with_other_bytes_is_quarantined(node, slices, home, tmp_path):
    send_files(peer_of(node), slices[:1])
    changed = pydicom.dcmread(slices[0])
    changed.SeriesDescription = "changed"
    changed.save_as(tmp_path / "changed.dcm")
    done = send_files(peer_of(node), [tmp_path / "changed.dcm"])
    assert done.refused[0][1] == "status 0x0111"
    assert len(files_on_disk(home)) == 1
    assert len(list((home / "quarantine").iterdir())) == 1
    assert "changed" not in str(pydicom.dcmread(files_on_disk(home)[0]).SeriesDescription)


@pytest.mark.attack
def test_connections_cut_in_mid_pdu_leave_nothing(node, slices, home):
    recorded = record_association(node, slices[0])
    before = psutil.Process().memory_info().rss
    for n in range(40):
        with socket.create_connection(("127.0.0.1", node.options.port)) as s:
            s.sendall(recorded[: max(10, int(len(recorded) * (n + 1) / 41))])
    for _ in range(500):
        with socket.create_connection(("127.0.0.1", node.options.port)):
            pass
    assert echo_soon(node)
    assert not [p for p in files_on_disk(home) if p.name.endswith(".part")]
    assert len(files_on_disk(home)) <= 1  # the whole recording may have been a whole object
    assert psutil.Process().memory_info().rss - before < 120e6  # without the gate it was hundreds of MB
    send_files(peer_of(node), slices[:3])
    assert len(files_on_disk(home)) == 3


def echo_soon(node) -> bool:
    """The closed connections give their places back; until then the node may refuse."""
    for _ in range(100):
        try:
            return echo(peer_of(node))
        except UserError:
            time.sleep(0.2)
    return False


def record_association(node, path) -> bytes:
    """What a sender puts on the wire for one object, up to before its release."""
    sent = []
    ae = AE(ae_title="CUT")
    ds = pydicom.dcmread(path)
    assoc = ae.associate(
        "127.0.0.1",
        node.options.port,
        contexts=[build_context(ds.SOPClassUID, [ds.file_meta.TransferSyntaxUID])],
        ae_title="MEDFUSE",
        evt_handlers=[(evt.EVT_DATA_SENT, lambda e: sent.append(e.data))],
    )
    assoc.send_c_store(ds)
    whole = b"".join(sent)
    assoc.release()
    return whole


NODE = "from medfuse.__main__ import main; main()"


def start_process(home, port, *more) -> subprocess.Popen:
    command = [sys.executable, "-c", NODE, "node", "--port", str(port), "--quiet", "9999", *more]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "MEDFUSE_HOME": str(home)}
    )
    for line in process.stderr:
        if line.startswith("ready"):
            return process
    raise RuntimeError("the node did not come up")


def test_what_was_acknowledged_survives_a_kill(home, slices, tmp_path):
    """kill -9 in mid-transfer, three times: every acknowledged object is on disk, indexed and identical."""
    port = free_port()
    acknowledged: set[str] = set()
    objects = []
    for n in range(120):
        ds = pydicom.dcmread(slices[n % len(slices)])
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid(
            entropy_srcs=["kill", str(n)]
        )
        ds.save_as(tmp_path / f"{n}.dcm")
        objects.append((str(ds.SOPInstanceUID), tmp_path / f"{n}.dcm"))
    for turn in range(3):
        process = start_process(home, port)
        timer = threading.Timer(0.15 + 0.2 * turn, process.send_signal, [signal.SIGKILL])
        try:
            assoc = associate(
                Peer("MEDFUSE", "127.0.0.1", port),
                [build_context(MRImageStorage, [ExplicitVRLittleEndian])],
                "S",
            )
            assoc.dimse_timeout = 2.0  # for the answer of a node that is dead
            timer.start()
            for uid, path in objects:
                if uid in acknowledged:
                    continue
                if not assoc.is_established:
                    break
                status = assoc.send_c_store(pydicom.dcmread(path))
                if status and status.Status == 0:
                    acknowledged.add(uid)
        except (UserError, RuntimeError):
            pass
        finally:
            timer.cancel()
            process.kill()
            process.wait()
    assert acknowledged
    files = {u: p for u, _, _, p in stored.files_of(Library(), {"SOPInstanceUID": "\\".join(acknowledged)})}
    assert set(files) == acknowledged
    paths = dict(objects)
    for uid in acknowledged:
        assert body(files[uid]) == body(paths[uid])


def test_query_and_retrieve(node, slices, patient):
    send_files(peer_of(node), slices)
    study = pydicom.dcmread(slices[0], stop_before_pixels=True).StudyInstanceUID
    (found,) = find_remote(peer_of(node), {"PatientID": patient.case_id})
    assert found["StudyInstanceUID"] == study
    assert len(find_remote(peer_of(node), {"PatientID": "SIM-*"})) == 1
    assert find_remote(peer_of(node), {"PatientID": "nobody"}) == []
    assert len(find_remote(peer_of(node), {"ModalitiesInStudy": "MR"})) == 1
    assert find_remote(peer_of(node), {"ModalitiesInStudy": "CT"}) == []
    got = []
    ae = AE()
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
    ae.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    assoc = ae.associate(
        "127.0.0.1",
        node.options.port,
        ae_title="MEDFUSE",
        ext_neg=[build_role(MRImageStorage, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, lambda e: got.append(e.request.AffectedSOPInstanceUID) or 0)],
    )
    wanted = Dataset()
    wanted.QueryRetrieveLevel = "STUDY"
    wanted.StudyInstanceUID = study
    statuses = [s.Status for s, _ in assoc.send_c_get(wanted, StudyRootQueryRetrieveInformationModelGet)]
    assoc.release()
    assert statuses[-1] == 0
    assert len(got) == len(slices)


def test_commitment_says_what_is_kept(home, slices):
    port = free_port()
    results = []
    node = Node(NodeOptions(port=free_port(), destinations=(Peer("SENDER", "127.0.0.1", port),)))
    node.start()
    ae = AE(ae_title="SENDER")
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    listener = ae.start_server(
        ("127.0.0.1", port),
        block=False,
        evt_handlers=[
            (
                evt.EVT_N_EVENT_REPORT,
                lambda e: (results.append((e.event_type, e.event_information)), (0, None))[1],
            )
        ],
    )
    try:
        send_files(peer_of(node), slices[:2])
        asked = Dataset()
        asked.TransactionUID = generate_uid()
        asked.ReferencedSOPSequence = []
        for uid in [
            *(pydicom.dcmread(p, stop_before_pixels=True).SOPInstanceUID for p in slices[:2]),
            "1.2.3",
        ]:
            item = Dataset()
            item.ReferencedSOPClassUID = MRImageStorage
            item.ReferencedSOPInstanceUID = uid
            asked.ReferencedSOPSequence.append(item)
        assoc = associate(peer_of(node), [build_context(StorageCommitmentPushModel)], "SENDER")
        status, _ = assoc.send_n_action(
            asked, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        assert status.Status == 0
        assoc.release()
        for _ in range(100):
            if results:
                break
            time.sleep(0.05)
        ((kind, said),) = results
        assert kind == 2
        assert len(said.ReferencedSOPSequence) == 2
        assert said.FailedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3"
        assert len(commitment_result(Library(), asked).ReferencedSOPSequence) == 2
    finally:
        listener.shutdown()
        node.stop()


def test_orthanc_both_ways(orthanc, home, slices, patient, tmp_path, monkeypatch):
    """Node → Orthanc by C-STORE; Orthanc → node by C-MOVE; QIDO and WADO; STOW of our SR."""
    there = Peer(orthanc.aet, "127.0.0.1", orthanc.port)
    assert send_files(there, slices).sent == len(slices)
    assert len(orthanc.instances()) == len(slices)
    study = pydicom.dcmread(slices[0], stop_before_pixels=True).StudyInstanceUID
    node = Node(NodeOptions(port=orthanc.peer_port))
    node.start()
    try:
        assert move_remote(there, study, "MEDFUSE") == len(slices)
        with pytest.raises(UserError, match="does it know NOWHERE"):
            move_remote(there, study, "NOWHERE")
    finally:
        node.stop()
    assert len(stored.files_of(Library(), {"StudyInstanceUID": study})) == len(slices)
    monkeypatch.setenv("MEDFUSE_HOME", str(tmp_path / "another"))
    done = ingest_remote(
        [f"dicomweb:{orthanc.web}?PatientID={patient.case_id}"],
        window=30,
        progress=lambda what: lambda d, n: None,
        aet="MEDFUSE",
        port=free_port(),
    )
    assert done.data["instances"] == len(slices)
    assert len(done.data["cases"]) == 1
    case = store.load_case(Library(), done.data["cases"][0])
    assert {i.modality for i in case.images} == {"MR"}
    again = Archive()
    asked = []
    got, refused = fetch_web(
        parse_remote(f"dicomweb:{orthanc.web}?PatientID={patient.case_id}"),
        again,
        lambda d, n: asked.append(d),
    )
    again.close()
    assert (len(got), refused) == (len(slices), [])
    monkeypatch.setenv("MEDFUSE_HOME", str(tmp_path / "moved"))
    done = ingest_remote(
        [f"dimse:ORTHANC@127.0.0.1:{orthanc.port}?PatientID={patient.case_id}"],
        window=30,
        progress=lambda what: lambda d, n: None,
        aet="MEDFUSE",
        port=orthanc.peer_port,
    )
    assert done.exit_code == 0
    assert len(done.data["cases"]) == 1
    monkeypatch.setenv("MEDFUSE_HOME", str(tmp_path / "third"))
    with pytest.raises(UserError, match="no study matches"):
        ingest_remote(
            [f"dimse:ORTHANC@127.0.0.1:{orthanc.port}?PatientID=nobody"],
            window=30,
            progress=lambda what: lambda d, n: None,
            aet="MEDFUSE",
            port=free_port(),
        )


@tool("dciodvfy")
def test_predict_and_send_back(orthanc, home, patient_dicom, tmp_path):
    """Received, quiet, filed, predicted; SR and SEG arrive in Orthanc, UNVERIFIED and valid; nothing goes
    elsewhere."""
    node = Node(NodeOptions(port=free_port()))
    node.start()
    said = []
    service = Service(
        0.1,
        predict=True,
        out=tmp_path / "out",
        destinations=(Destination.parse(f"ORTHANC@127.0.0.1:{orthanc.port}"), Destination.parse(orthanc.web)),
        talk=said.append,
    )
    before = set(orthanc.instances())
    try:
        send_files(peer_of(node), sorted(patient_dicom.rglob("*.dcm")))
        time.sleep(0.3)
        (case_id,) = service.step()
        assert service.step() == []  # filed once
    finally:
        node.stop()
    new = [
        pydicom.dcmread(__import__("io").BytesIO(orthanc.file(u))) for u in set(orthanc.instances()) - before
    ]
    assert {d.Modality for d in new} >= {"SR"}
    for n, ds in enumerate(d for d in new if d.Modality in ("SR", "SEG")):
        if ds.Modality == "SR":
            assert ds.VerificationFlag == "UNVERIFIED"
        ds.save_as(tmp_path / f"{n}.dcm")
        checked = subprocess.run(
            ["dciodvfy", str(tmp_path / f"{n}.dcm")], capture_output=True, text=True, check=False
        )
        assert not [x for x in (checked.stdout + checked.stderr).splitlines() if x.startswith("Error")]
    assert sum("sent" in s for s in said) == 2
    from medfuse.library.audit import entries

    assert [e.event for e in entries(Library()) if "sent" in e.event] == ["draft sent", "draft sent"]
    assert results.load_result(Library(), case_id) is not None


def test_stow_names_a_server_that_is_not_there(slices):
    with pytest.raises(UserError, match="does not take the objects"):
        stow(f"http://127.0.0.1:{free_port()}/dicom-web", slices[:1])
    with pytest.raises(UserError, match="not a DICOMweb address"):
        stow("ftp://x/y", slices[:1])
    assert parse_remote("/some/folder") is None


def test_tls(home, slices, tmp_path):
    from medfuse.network.tls import Tls

    good, key = self_signed(tmp_path, "good")
    node = Node(NodeOptions(port=free_port(), certificate=good, key=key))
    node.start()
    try:
        assert send_files(replace(peer_of(node), tls=Tls(good)), slices[:2]).sent == 2
        with pytest.raises(UserError, match="no DICOM node answers"):
            send_files(peer_of(node), slices[:1])  # without TLS
        other, _ = self_signed(tmp_path, "other")
        with pytest.raises(UserError, match="no DICOM node answers"):
            send_files(replace(peer_of(node), tls=Tls(other)), slices[:1])
    finally:
        node.stop()
    with pytest.raises(UserError, match="cannot be used for TLS"):
        Node(NodeOptions(port=free_port(), certificate=slices[0], key=slices[0])).start()


def test_a_full_disk_is_not_acknowledged(node, slices, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stored, "write_durably", full)
    done = send_files(peer_of(node), slices[:2])
    assert [w for _, w in done.refused] == ["status 0xA700"] * 2
    monkeypatch.undo()
    assert send_files(peer_of(node), slices[:2]).sent == 2


@pytest.mark.parametrize(
    ("value", "wanted", "key", "expected"),
    [
        ("20240105", "20240101-20240131", "StudyDate", True),
        ("20240205", "-20240131", "StudyDate", False),
        ("20240205", "20240131-", "StudyDate", True),
        ("Doe^Jane", "doe*", "PatientName", True),
        ("Doe^Jane", "d?e^jane", "PatientName", True),
        ("1.2", "1.2\\1.3", "StudyInstanceUID", True),
        ("1.4", "1.2\\1.3", "StudyInstanceUID", False),
    ],
)
def test_matching(value, wanted, key, expected):
    assert matches(value, wanted, key) is expected


def test_writing_is_whole_or_not_at_all(tmp_path, database):
    write_durably(tmp_path / "a" / "b", b"data")
    assert (tmp_path / "a" / "b").read_bytes() == b"data"
    assert list(find(Library(), "STUDY", {})) == []


def test_ingest_fetches_with_tls_and_receives_with_it(home, slices, tmp_path):
    """C-FIND, C-MOVE and what comes back all went in the clear."""
    from medfuse.network.tls import Tls

    good, key = self_signed(tmp_path, "good")
    own = free_port()
    tls = Tls(good, good, key)
    options = NodeOptions(
        aet="FAR",
        port=free_port(),
        certificate=good,
        key=key,
        destinations=(Peer("MEDFUSE", "127.0.0.1", own, tls),),
    )
    far = Node(options, Archive(Library(tmp_path / "far")))
    far.start()
    try:
        send_files(Peer("FAR", "127.0.0.1", options.port, tls), slices[:3])
        got = ingest_remote(
            [f"dimse:FAR@127.0.0.1:{options.port}"],
            window=30,
            progress=lambda _: lambda *_: None,
            aet="MEDFUSE",
            port=own,
            tls=tls,
        )
        assert got.exit_code == 0
        assert len(got.data["cases"]) == 1
        with pytest.raises(UserError, match="no DICOM node answers"):
            ingest_remote(
                [f"dimse:FAR@127.0.0.1:{options.port}"], window=30, progress=print, aet="MEDFUSE", port=own
            )
    finally:
        far.stop()
