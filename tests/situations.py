"""What a machine and its people do to a command line: `python tests/situations.py [--only WORD]`.
Prints JSON; exits 1 where a command ended in a traceback, hung, left half a result, or broke the library.

Each situation is a command, run as a user runs it, and something wrong around it: a disk that is full or read
only, a database that is damaged, locked or gone, too little memory, too few open files, a file that vanished,
an output that nobody reads. It must end by itself with a code that the manual names and, where it failed, one
sentence. Then, with the fault gone, the same library is looked at: its cases, log and images are as before.
Full and read-only disks are small ones in memory, which only root may mount; elsewhere they are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from pacs import free_port

from medfuse.library import Library, integrity, store
from medfuse.library.audit_check import differences
from medfuse.simulation.dicom_writer import write
from medfuse.simulation.patient import simulate

PATIENCE_S = 300
CODES = (0, 1, 2, 3)  # docs/reference/commands.md
PROGRAM = (sys.executable, "-m", "medfuse")
MEMORY = 700 * 1024**2  # bytes of address space: Python starts, torch does not


@dataclass(kw_only=True)
class Scene:
    """What a command meets. home: a copy of a library with one predicted case; new: a patient who is not in
    it; out: where results go."""

    folder: Path
    home: Path
    new: Path
    case_id: str
    out: Path
    environment: dict[str, str] = field(default_factory=dict)
    before: Callable[[], None] | None = None  # in the process, before the command
    stdout: object = subprocess.PIPE
    signal_after_s: tuple[int, float] | None = None
    to_group: bool = False  # the signal reaches its children too, as a terminal's Ctrl-C does
    unheard: bool = False  # what it says reaches nobody
    damages: bool = False  # what the library held is lost, and must be said


Fault = Callable[[Scene], AbstractContextManager[None]]
Command = Callable[[Scene], tuple[str, ...]]

COMMANDS: dict[str, Command] = {
    "cases": lambda s: ("cases", "--json"),
    "ingest": lambda s: ("ingest", str(s.new), "--json"),
    "predict": lambda s: ("predict", str(s.new), "--out", str(s.out), "--json"),
    "predict --add": lambda s: ("predict", str(s.new), "--out", str(s.out), "--add", "--json"),
    "report": lambda s: ("report", s.case_id, "--format", "json,pdf,sr,fhir", "--out", str(s.out)),
    "ask": lambda s: ("ask", s.case_id, "Is there ascites?", "--json"),
    "search": lambda s: ("search", "ascites", "--json"),
    "batch": lambda s: ("batch", str(s.new.parent), "--out", str(s.out), "--workers", "1", "--json"),
    "deidentify": lambda s: ("deidentify", str(s.new), "--out", str(s.out), "--json"),
    "backup": lambda s: ("backup", str(s.out), "--json"),
    "verify": lambda s: ("verify", "--json"),
    "audit": lambda s: ("audit", "--json"),
    "account": lambda s: ("account", "add", "bo"),
    "send": lambda s: ("send", s.case_id, "--to", f"PACS@127.0.0.1:{free_port()}", "--research"),
    "node": lambda s: ("node", "--port", str(free_port()), "--quiet", "60"),
    "export": lambda s: ("export", "training-records", "--out", str(s.out / "records.jsonl")),
    "simulate": lambda s: ("simulate", "--cases", "1", "--out", str(s.out)),
}
WRITES = ("ingest", "predict", "report", "batch", "deidentify", "backup", "export", "simulate")


@contextmanager
def disk(place: Path, free: int, *, read_only: bool = False) -> Iterator[None]:
    """``place`` and what it holds on a small disk with so many bytes free."""
    aside = place.with_name(f"{place.name}-aside")
    if place.exists():
        place.rename(aside)
    place.mkdir()
    used = sum(p.stat().st_size + 8192 for p in aside.rglob("*")) if aside.exists() else 0
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={used + free}", "tmpfs", str(place)], check=True)
    try:
        if aside.exists():
            shutil.copytree(aside, place, dirs_exist_ok=True)
        filler = place / "filler"
        left = shutil.disk_usage(place).free - free
        if left > 0:
            filler.write_bytes(bytes(left))
        if read_only:
            subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        yield
        if read_only:
            subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
        filler.unlink(missing_ok=True)
        kept = place.with_name(f"{place.name}-kept")
        shutil.copytree(place, kept)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
    place.rmdir()
    shutil.rmtree(aside, ignore_errors=True)
    kept.rename(place)


@contextmanager
def home_full(scene: Scene) -> Iterator[None]:
    with disk(scene.home, 64 * 1024):
        yield


@contextmanager
def home_read_only(scene: Scene) -> Iterator[None]:
    with disk(scene.home, 1024**2, read_only=True):
        yield


@contextmanager
def output_full(scene: Scene) -> Iterator[None]:
    with disk(scene.out, 16 * 1024):
        yield


@contextmanager
def output_read_only(scene: Scene) -> Iterator[None]:
    with disk(scene.out, 1024**2, read_only=True):
        yield


@contextmanager
def output_is_a_file(scene: Scene) -> Iterator[None]:
    scene.out.write_text("kept")
    yield
    assert scene.out.read_text() == "kept", "somebody's file was replaced"
    scene.out.unlink()


@contextmanager
def little_memory(scene: Scene) -> Iterator[None]:
    scene.before = lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    yield


@contextmanager
def few_files(scene: Scene) -> Iterator[None]:
    scene.before = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    yield


@contextmanager
def short_files(scene: Scene) -> Iterator[None]:
    """No file may be longer than 100 kB, as under a quota (EFBIG)."""
    scene.before = lambda: (
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )[-1]
    yield


@contextmanager
def damaged_database(scene: Scene) -> Iterator[None]:
    path = scene.home / "library.db"
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + os.urandom(len(whole) - 200))
    yield
    path.write_bytes(whole)


@contextmanager
def database_is_a_folder(scene: Scene) -> Iterator[None]:
    path = scene.home / "library.db"
    whole = path.read_bytes()
    path.unlink()
    path.mkdir()
    yield
    path.rmdir()
    path.write_bytes(whole)


@contextmanager
def locked_database(scene: Scene) -> Iterator[None]:
    with sqlite3.connect(scene.home / "library.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def server_gone(scene: Scene) -> Iterator[None]:
    scene.environment["MEDFUSE_DATABASE_URL"] = f"postgresql+psycopg://x@127.0.0.1:{free_port()}/x"
    yield


@contextmanager
def no_such_server(scene: Scene) -> Iterator[None]:
    scene.environment["MEDFUSE_DATABASE_URL"] = "nonsense://"
    yield


@contextmanager
def lost_image(scene: Scene) -> Iterator[None]:
    scene.damages = True
    next(p for p in sorted((scene.home / "images").rglob("*")) if p.is_file()).unlink()
    yield


@contextmanager
def flipped_image(scene: Scene) -> Iterator[None]:
    scene.damages = True
    path = max((p for p in (scene.home / "images").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0x10
    path.chmod(0o600)
    path.write_bytes(damaged)
    yield


@contextmanager
def home_is_a_file(scene: Scene) -> Iterator[None]:
    path = scene.folder / "a file"
    path.write_text("x")
    scene.environment["MEDFUSE_HOME"] = str(path)
    yield


@contextmanager
def no_temporary_folder(scene: Scene) -> Iterator[None]:
    scene.environment["TMPDIR"] = str(scene.folder / "nowhere")
    yield


@contextmanager
def plain_locale(scene: Scene) -> Iterator[None]:
    scene.environment.update(LC_ALL="C", LANG="C")
    yield


@contextmanager
def nobody_reads(scene: Scene) -> Iterator[None]:
    """As with `medfuse … | head -0`."""
    scene.unheard = True
    read, write_end = os.pipe()
    os.close(read)
    scene.stdout = write_end
    yield
    os.close(write_end)


@contextmanager
def full_stdout(scene: Scene) -> Iterator[None]:
    with open("/dev/full", "w") as scene.stdout:
        yield


@contextmanager
def no_stdout(scene: Scene) -> Iterator[None]:
    scene.before = lambda: os.close(1)
    yield


def interrupted(number: int, after_s: float) -> Fault:
    @contextmanager
    def fault(scene: Scene) -> Iterator[None]:
        scene.signal_after_s = (number, after_s)
        yield

    return fault


def pressed_in_a_terminal(after_s: float) -> Fault:
    @contextmanager
    def fault(scene: Scene) -> Iterator[None]:
        scene.signal_after_s = (signal.SIGINT, after_s)
        scene.to_group = True
        yield

    return fault


@contextmanager
def starved_readers(scene: Scene) -> Iterator[None]:
    """Workers come up, and the processes that read files for them do not."""
    scene.environment["MEDFUSE_DECODE_MEMORY_GIB"] = "0.01"
    yield


@contextmanager
def killer(scene: Scene, word: str) -> Iterator[None]:
    """As a machine without memory does: who has ``word`` in the command line is killed, again and again."""
    done = threading.Event()

    def kill() -> None:
        while not done.wait(0.5):
            for process in psutil.process_iter(["cmdline", "environ"]):
                line = " ".join(process.info["cmdline"] or ())
                theirs = (process.info["environ"] or {}).get("MEDFUSE_HOME") == str(scene.home)
                if theirs and word in line:
                    with suppress(psutil.Error):
                        process.kill()

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def killed_readers(scene: Scene) -> Iterator[None]:
    with killer(scene, "medfuse.io.worker"):
        yield


@contextmanager
def killed_workers(scene: Scene) -> Iterator[None]:
    with killer(scene, "multiprocessing.spawn"):
        yield


@contextmanager
def input_vanishes(scene: Scene) -> Iterator[None]:
    shutil.rmtree(scene.new)
    yield


@contextmanager
def input_is_empty(scene: Scene) -> Iterator[None]:
    shutil.rmtree(scene.new)
    scene.new.mkdir()
    yield


@contextmanager
def input_is_a_device(scene: Scene) -> Iterator[None]:
    shutil.rmtree(scene.new)
    os.mkfifo(scene.new)
    yield


@contextmanager
def nobody_answers(scene: Scene) -> Iterator[None]:
    yield


FAULTS: dict[str, tuple[Fault, tuple[str, ...]]] = {
    "home's disk is full": (home_full, ("ingest", "predict --add", "account", "batch", "cases", "node")),
    "home is read only": (home_read_only, ("ingest", "cases", "report", "account", "ask", "audit", "verify")),
    "output's disk is full": (output_full, WRITES[1:]),
    "output is read only": (output_read_only, WRITES[1:]),
    "output is a file": (output_is_a_file, WRITES[1:]),
    "too little memory": (little_memory, ("cases", "ingest")),
    "too few open files": (few_files, ("cases", "ingest", "predict", "node")),
    "files may not be long": (short_files, ("ingest", "predict", "backup", "report")),
    "the database is damaged": (damaged_database, ("cases", "ingest", "audit", "backup", "report")),
    "the database is a folder": (database_is_a_folder, ("cases", "ingest")),
    "the database is locked": (locked_database, ("account", "ingest")),
    "the database server is gone": (server_gone, ("cases", "ingest", "batch", "node")),
    "the database's address is nonsense": (no_such_server, ("cases", "ingest")),
    "a stored image is gone": (lost_image, ("verify", "backup", "predict --add")),
    "a stored image has a flipped bit": (flipped_image, ("verify", "backup")),
    "home is a file": (home_is_a_file, ("cases", "ingest")),
    "there is no temporary folder": (no_temporary_folder, ("ingest", "predict")),
    "the locale is plain C": (plain_locale, ("cases", "report", "predict")),
    "nobody reads what is printed": (nobody_reads, ("cases", "ask", "search")),
    "what is printed meets a full disk": (full_stdout, ("cases", "ask")),
    "stdout is closed": (no_stdout, ("cases", "predict")),
    "Ctrl-C": (interrupted(signal.SIGINT, 6.0), ("ingest", "predict", "batch", "node", "deidentify")),
    "Ctrl-C in a terminal": (pressed_in_a_terminal(6.0), ("ingest", "batch")),
    "Ctrl-C as workers start": (pressed_in_a_terminal(3.5), ("batch",)),
    "Ctrl-C once workers start": (pressed_in_a_terminal(5.0), ("batch",)),
    "readers cannot start": (starved_readers, ("batch", "ingest", "predict", "deidentify")),
    "readers are killed": (killed_readers, ("batch", "predict")),
    "workers are killed": (killed_workers, ("batch",)),
    "SIGTERM": (interrupted(signal.SIGTERM, 6.0), ("ingest", "predict", "batch", "node")),
    "the input is gone": (input_vanishes, ("ingest", "predict", "deidentify", "batch")),
    "the input is empty": (input_is_empty, ("ingest", "predict", "deidentify", "batch")),
    "the input is a pipe": (input_is_a_device, ("ingest", "predict", "deidentify")),
    "nobody answers": (nobody_answers, ("send",)),
}
DISKS = (home_full, home_read_only, output_full, output_read_only)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of one situation. wrong: what must not be; empty where it ended as it must."""

    situation: str
    code: int | None
    seconds: float
    said: str
    wrong: list[str]


def prepare(folder: Path) -> str:
    """A home with one predicted case, and a patient beside it; the case's id."""
    write(simulate(5, 4), folder / "old" / "a")
    write(simulate(5, 5), folder / "new" / "b")
    done = command(folder / "home", ("predict", str(folder / "old"), "--add", "--out", str(folder / "p")))
    assert done.returncode == 0, done.stderr
    (case,) = json.loads(command(folder / "home", ("cases", "--json")).stdout)["cases"]
    return str(case["case_id"])


def environment(home: Path, more: dict[str, str] | None = None) -> dict[str, str]:
    """Of a user's shell."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MEDFUSE_")}
    return {**kept, "MEDFUSE_HOME": str(home), "MEDFUSE_PASSWORD": "a long enough passphrase", **(more or {})}


def command(home: Path, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """One command with nothing wrong around it."""
    return subprocess.run(
        [*PROGRAM, *arguments], env=environment(home), capture_output=True, text=True, timeout=PATIENCE_S
    )


def tried(name: str, fault: Fault, what: str, folder: Path, case_id: str) -> Outcome:
    """Run ``what`` amid the fault, then look at the library without it."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        scene = Scene(
            folder=Path(place),
            home=Path(place) / "home",
            new=Path(place) / "new" / "b",
            case_id=case_id,
            out=Path(place) / "out",
        )
        shutil.copytree(folder / "home", scene.home)
        shutil.copytree(folder / "new", scene.new.parent)
        began = time.monotonic()
        with fault(scene):
            code, said, printed = run(scene, what)
        seconds = time.monotonic() - began
        wrong = faults_of(code, said, scene.unheard or bool(printed.strip()))
        wrong += [] if scene.damages else faults_of_library(scene, case_id)
        wrong += [f"left {p.name}" for p in scene.folder.rglob("*.part") if scene.home not in p.parents]
    return Outcome(
        situation=f"{what}: {name}",
        code=code,
        seconds=round(seconds, 1),
        said=said.strip().splitlines()[-1][:300] if said.strip() else "",
        wrong=wrong,
    )


def run(scene: Scene, what: str) -> tuple[int | None, str, str]:
    """Exit code, None where it hung, what it said on stderr, and what it printed."""
    process = subprocess.Popen(
        [*PROGRAM, *COMMANDS[what](scene)],
        env=environment(scene.home, scene.environment),
        stdout=scene.stdout,  # type: ignore[arg-type]
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=scene.before,
        start_new_session=True,
        cwd=scene.folder,
    )
    number, after_s = scene.signal_after_s or (signal.SIGTERM, 20.0)
    try:
        if scene.signal_after_s or what == "node":
            with suppress(subprocess.TimeoutExpired):
                printed, said = process.communicate(timeout=after_s)
                return process.returncode, said, printed or ""
                send = os.killpg if scene.to_group else os.kill
            send(process.pid, number)
        printed, said = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return None, process.communicate()[1], ""
    return process.returncode, said, printed or ""


def faults_of(code: int | None, said: str, told: bool) -> list[str]:
    """What must not be in how a command ended. told: what failed stands elsewhere than on stderr."""
    wrong = []
    if code is None:
        wrong.append("hung")
    elif code not in (*CODES, 130, 143, -signal.SIGTERM):
        wrong.append(f"ended with {code}")
    if "Traceback (most recent" in said:
        wrong.append("a traceback")
    if code and code in CODES and not said.strip() and not told:
        wrong.append("failed without a word")
    return wrong


def faults_of_library(scene: Scene, case_id: str) -> list[str]:
    """What the library lost, once the fault is gone."""
    library = Library(scene.home)
    held = store.has_case(library, case_id)
    return [
        *([] if held else ["the library lost its case"]),
        *(f"the log differs: {d}" for d in differences(library)),
        *(f"damaged: {d}" for d in integrity.verify(library).damaged),
    ]


def situations(only: str) -> list[tuple[str, Fault, str]]:
    """(name, fault, command) of all whose words hold ``only``."""
    may_mount = os.geteuid() == 0 and shutil.which("mount") is not None
    return [
        (name, fault, what)
        for name, (fault, commands) in FAULTS.items()
        for what in commands
        if only in f"{what}: {name}" and (may_mount or fault not in DISKS)
    ]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="situations whose words hold this")
    chosen = situations(parser.parse_args().only)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it, and so would theirs
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="situations-") as place:
        folder = Path(place)
        case_id = prepare(folder)
        for name, fault, what in chosen:
            outcome = tried(name, fault, what, folder, case_id)
            outcomes.append(outcome)
            print(json.dumps(asdict(outcome), ensure_ascii=False), file=sys.stderr, flush=True)
    wrong = [asdict(o) for o in outcomes if o.wrong]
    print(json.dumps({"situations": len(outcomes), "wrong": wrong}, indent=1, ensure_ascii=False))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
