"""A real PACS for tests: Debian's Orthanc with its DICOMweb plugin, on loopback, in a folder of its own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import requests

PLUGINS = ("/usr/share/orthanc/plugins", "/usr/lib/orthanc")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@dataclass
class Orthanc:
    """``aet`` at ``port`` by DIMSE; ``url`` its REST API, ``web`` DICOMweb."""

    process: subprocess.Popen
    aet: str
    port: int
    url: str

    @property
    def web(self) -> str:
        return f"{self.url}/dicom-web"

    def instances(self) -> list[str]:
        return [
            requests.get(f"{self.url}/instances/{i}/simplified-tags", timeout=10).json()["SOPInstanceUID"]
            for i in requests.get(f"{self.url}/instances", timeout=10).json()
        ]

    def file(self, sop_uid: str) -> bytes:
        found = requests.post(f"{self.url}/tools/lookup", data=sop_uid, timeout=10).json()
        return requests.get(f"{self.url}/instances/{found[0]['ID']}/file", timeout=10).content

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


def start_orthanc(folder: Path, *, peer_aet: str, peer_port: int) -> Orthanc | None:
    """None where Orthanc is not installed."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/bin")
    if program is None:
        return None
    port = free_port()
    http = free_port()
    plugins = [str(f) for p in PLUGINS if Path(p).is_dir() for f in Path(p).glob("libOrthancDicomWeb*.so*")][
        :1
    ]
    config = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "HttpPort": http,
        "DicomPort": port,
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": plugins,
        "DicomModalities": {"medfuse": [peer_aet, "127.0.0.1", peer_port]},
        "DicomAlwaysAllowStore": True,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowMove": True,
        "DicomAlwaysAllowFind": True,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "OverwriteInstances": True,
    }
    (folder / "orthanc.json").write_text(json.dumps(config))
    log = (folder / "orthanc.log").open("w")
    process = subprocess.Popen(
        [program, str(folder / "orthanc.json")],
        stdout=log,
        stderr=log,
        env={"TCP_NODELAY": "1", "PATH": "/usr/bin:/usr/sbin"},
    )
    out = Orthanc(process, "ORTHANC", port, f"http://127.0.0.1:{http}")
    for _ in range(100):
        try:
            if requests.get(f"{out.url}/system", timeout=1).ok:
                return out
        except requests.RequestException:
            pass
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError((folder / "orthanc.log").read_text()[-2000:])
