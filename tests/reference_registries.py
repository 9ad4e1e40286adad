"""docs/reference/settings.md and registries.md: every setting, and every entry of every registry."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from apps.viewer import seats, tries
from apps.viewer.registry import PAGES
from apps.viewer.words import table_of
from medfuse.bundles import pins
from medfuse.cohort import hl7v2, listen, tables
from medfuse.drafting import templates
from medfuse.exports.registry import FORMATS
from medfuse.io import archives, decode, outlined, presented, referring, sound, unpack, volume_files
from medfuse.library import health, library
from medfuse.modalities import MODALITIES
from medfuse.models.coordination import OBJECTIVES
from medfuse.models.encoders import DENSE_ENCODERS, IMAGE_ENCODERS
from medfuse.models.fusion import FUSIONS
from medfuse.models.pretrained.loaders import LOADERS
from medfuse.models.senses import SENSES
from medfuse.network import client, gate, limits
from medfuse.settings import Settings

# Read where they are used, as they are no settings of the library: name, and what it does.
FURTHER_VARIABLES = {
    "MEDFUSE_PASSWORD": "The password of `medfuse account add` and `medfuse sign`, instead of asking for it.",
    "MEDFUSE_CJK_FONT": "A TrueType file with Chinese characters, for pictures and PDF reports.",
    "MEDFUSE_VIEWER_HOSTS": "Names under which people reach the viewer, with commas between.",
    "MEDFUSE_FIRST_ACCOUNT": "The word that making the first account in the viewer asks for; by default "
    "`medfuse view` draws one and prints it.",
    "MEDFUSE_OIDC": "Set by `medfuse view` where HOME/secrets.toml names an identity provider.",
}


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A limit that is no setting: where it stands in the code, its unit, what it bounds."""

    module: ModuleType
    name: str
    unit: str
    bounds: str

    @property
    def value(self) -> str:
        """As it stands in the code, in the unit that is shown."""
        number = getattr(self.module, self.name)
        scale = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "min": 60.0, "h": 3600.0}.get(self.unit, 1)
        return f"{number / scale:,.10g} {self.unit}".strip()


LIMITS = (
    Limit(module=unpack, name="MAX_UNZIPPED", unit="GiB", bounds="an archive, unpacked"),
    Limit(module=unpack, name="MAX_ZIP_RATIO", unit="", bounds="what a byte of an archive becomes, in bytes"),
    Limit(module=unpack, name="MOST_MEMBERS", unit="", bounds="files of an archive"),
    Limit(module=archives, name="NESTED", unit="", bounds="archives in archives"),
    Limit(module=decode, name="MAX_PIXEL_BYTES", unit="GiB", bounds="the pixels of one DICOM file"),
    Limit(
        module=decode, name="MAX_RATIO", unit="", bounds="what a byte of a file becomes, in bytes of pixels"
    ),
    Limit(module=volume_files, name="MAX_BYTES", unit="GiB", bounds="voxels of a NIfTI, NRRD or MetaImage"),
    Limit(
        module=volume_files,
        name="MAX_PACKED_BYTES",
        unit="MiB",
        bounds="voxels that are packed tighter than a picture can be",
    ),
    Limit(module=sound, name="LONGEST_S", unit="min", bounds="a sound"),
    Limit(module=referring, name="DEEPEST", unit="", bounds="levels of a structured report"),
    Limit(module=outlined, name="MOST_STRUCTURES", unit="", bounds="structures of a file of outlines"),
    Limit(module=presented, name="MOST_MARKS", unit="", bounds="marks of a presentation state"),
    Limit(module=tables, name="LONGEST", unit="", bounds="characters of a field of a table of reports"),
    Limit(module=limits, name="LONGEST_PDU", unit="MiB", bounds="a PDU that a node takes"),
    Limit(module=limits, name="LARGEST_OBJECT", unit="GiB", bounds="an object that is received or fetched"),
    Limit(module=limits, name="MOST_ARRIVING", unit="GiB", bounds="objects that are received at a time"),
    Limit(
        module=limits,
        name="MAX_INFLATED",
        unit="",
        bounds="what a byte of a deflated object becomes, in bytes",
    ),
    Limit(
        module=client, name="LARGEST_LIST", unit="MiB", bounds="the answer of a DICOMweb server to a query"
    ),
    Limit(module=gate, name="MOST_HELD", unit="", bounds="connections to a node without an association"),
    Limit(module=listen, name="LONGEST_HEADER", unit="", bounds="bytes of the MSH segment of an HL7 message"),
    Limit(module=hl7v2, name="MOST_PARTS", unit="", bounds="fields and parts of an HL7 message"),
    Limit(module=gate, name="PATIENCE_S", unit="s", bounds="the time for an association request to arrive"),
    Limit(module=limits, name="IDLE_S", unit="s", bounds="silence of an association while another one waits"),
    Limit(module=library, name="LOCK_WAIT_S", unit="s", bounds="waiting for a locked SQLite database"),
    Limit(module=health, name="LEAST_FREE", unit="GiB", bounds="free disk that `/healthz` asks for"),
    Limit(module=pins, name="MOST_FILES", unit="", bounds="files of a bundle"),
    Limit(module=pins, name="MOST_BYTES", unit="GiB", bounds="a bundle"),
    Limit(module=templates, name="LONGEST", unit="", bounds="characters that a template writes"),
    Limit(module=seats, name="IDLE_S", unit="min", bounds="a sign-in without a click"),
    Limit(module=seats, name="LONGEST_S", unit="h", bounds="a sign-in"),
    Limit(module=tries, name="MOST", unit="", bounds="wrong passwords for one name at one address"),
    Limit(module=tries, name="WITHIN_S", unit="min", bounds="the time for which a wrong password counts"),
)


def settings_page() -> str:
    """Every setting with its type, default and environment variable, and every limit that is none."""
    rows = ["| Environment variable | Type | Default | What it does |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        kind = field.annotation.__name__ if field.annotation else ""
        default = "`~/.medfuse`" if name == "home" else f"`{field.default}`" if field.default != "" else ""
        rows.append(f"| `MEDFUSE_{name.upper()}` | {kind} | {default} | {_cell(field.description or '')} |")
    rows += ["", "Further variables:", "", "| Environment variable | What it does |", "|---|---|"]
    rows += [f"| `{name}` | {text} |" for name, text in FURTHER_VARIABLES.items()]
    rows += [
        "",
        "## Limits",
        "",
        "What is larger, longer or deeper is refused with a sentence that says so.",
        "",
    ]
    rows += ["| What | Limit | Where |", "|---|---|---|"]
    rows += [f"| {x.bounds} | {x.value} | `{x.module.__name__}.{x.name}` |" for x in LIMITS]
    return (
        "# Settings\n\nMedfuse has no file of settings; everything is an environment variable.\n\n"
        + "\n".join([*rows, ""])
    )


@dataclass(frozen=True, kw_only=True)
class Registry:
    """A registry: its title, where it stands, and the purpose of each entry by name."""

    title: str
    where: str
    entries: dict[str, str]


def registries() -> Iterator[Registry]:
    """Every registry that docs/extend.md speaks of, and fusions beside it."""
    yield Registry(
        title="Modalities",
        where="medfuse/modalities.py",
        entries={
            code: f"{m.word['en']}. Images are {m.kind}s; values: {m.unit.name if m.unit else 'no unit'}; "
            f"{len(m.sop_classes)} SOP classes; windows {', '.join(m.windows)}."
            for code, m in MODALITIES.items()
        },
    )
    yield _of_functions("Encoders with label maps", "medfuse/models/encoders.py", DENSE_ENCODERS)
    yield _of_functions("Encoders of whole images", "medfuse/models/encoders.py", IMAGE_ENCODERS)
    yield Registry(
        title="Loaders of pretrained encoders",
        where="medfuse/models/pretrained/loaders.py",
        entries={n: loader.about for n, loader in LOADERS.items()},
    )
    yield Registry(
        title="Senses beside the images",
        where="medfuse/models/senses/",
        entries={n: first_sentence(inspect.getmodule(s.read)) for n, s in SENSES.items()},
    )
    yield _of_functions("Fusions", "medfuse/models/fusion.py", FUSIONS)
    yield _of_functions("Losses", "medfuse/models/coordination.py", OBJECTIVES)
    yield Registry(
        title="Export formats",
        where="medfuse/exports/registry.py",
        entries={
            n: f"{f.title}, written as `{f.file_name}`" + (f"; needs {', '.join(f.needs)}" if f.needs else "")
            for n, f in FORMATS.items()
        },
    )
    words = table_of("en")["pages"]
    yield Registry(
        title="Pages of the viewer",
        where="apps/viewer/registry.py",
        entries={p.key: f"{words[p.key]}: {first_sentence(inspect.getmodule(p.show))}" for p in PAGES},
    )


def _of_functions(title: str, where: str, entries: dict[str, Callable]) -> Registry:
    return Registry(title=title, where=where, entries={n: first_sentence(f) for n, f in entries.items()})


def first_sentence(thing: object) -> str:
    """Of a docstring; "" where there is none."""
    text = " ".join((inspect.getdoc(thing) or "").split())
    return re.split(r"(?<!et al)\. (?=[A-Z])", text)[0].rstrip(".")


def registries_page() -> str:
    """A table for each registry."""
    parts = [
        "# Registries\n\nWhat there is to choose from. [Extend medfuse](../extend.md) says how to add.\n"
    ]
    for each in registries():
        rows = [f"| `{name}` | {_cell(text)} |" for name, text in each.entries.items()]
        parts.append(
            f"## {each.title}\n\n`{each.where}`\n\n| Name | What it is |\n|---|---|\n"
            + "\n".join(rows)
            + "\n"
        )
    return "\n".join(parts)


def silent_entries() -> list[str]:
    """Each entry and setting that nobody says the purpose of."""
    silent = [f"{r.title}: {n}" for r in registries() for n, text in r.entries.items() if not text.strip()]
    return silent + [n for n, f in Settings.model_fields.items() if not f.description]


def variables_in(root: Path) -> set[str]:
    """Environment variables that the code names."""
    found: set[str] = set()
    for folder in ("medfuse", "apps"):
        for path in (root / folder).rglob("*.py"):
            found |= set(re.findall(r"[\"'](MEDFUSE_[A-Z_]+[A-Z])[\"']", path.read_text(encoding="utf-8")))
    return found


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")
