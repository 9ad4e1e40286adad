"""The kinds of JSON file that medfuse writes, as its code names them, and the schema each needs.

A kind is found by its name in the code: any text that is a file name ending in .json or .jsonl, or any
place that writes JSON to a name made elsewhere (``path.with_suffix(".json")``, an f-string, a person's
``--out``). What is only read counts as well, so that nothing is missed: it is the same kind, or another
standard's and listed under OTHERS with the reason. A kind has its schema when
data_schemas/<kind>.schema.json exists. The kind of ``prediction.json`` is ``prediction``; where a name does
not say its kind, KINDS does.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch

from house import Module, above, is_docstring

# (path of the module, name in the code) → kind; the first that fits. A name made elsewhere is "in FUNCTION".
KINDS: list[tuple[str, str, str]] = [
    ("*", "manifest.jsonl", "manifest_row"),
    ("*", "audited.jsonl", "manifest_row"),
    ("*", "texts.jsonl", "text_pair"),
    ("*deidentify*", "report.json", "deidentification"),
    ("*vqa*", "evaluation.json", "vqa_evaluation"),
    ("*vqa*", "card.json", "vqa_card"),
    ("*evaluation*", "run.json", "evaluation_run"),
    ("*bound*", "config.json", "bound_config"),
    ("*generation*", "config.json", "generator_config"),
    ("*generation*", "in write_nifti", "sidecar"),
    ("*generate*", "provenance.json", "generated"),
    ("*cohort*", "export.json", "cohort_export"),
    ("*training*writer*", "config.json", "writer_config"),
    ("*", "in training_records", "training_record"),
    ("*audit_key*", "in anchor_path", "audit_anchor"),
    ("*audit_check*", "in _anchors", "audit_anchor"),
    ("*desks*", "in keep_desk", "desk"),
    ("*desks*", "in _path", "desk"),
    ("*made*", "in keep_made", "made_note"),
    ("*registrations*", "in _keep", "registration_note"),
    ("*registrations*", "in _write", "registration_note"),
    ("*training*", "in encoder_note", "encoder_note"),
    ("*training*", "in _note_encoder", "encoder_note"),
    ("*fuse*", "in _write_note", "fused_note"),
    ("*io*", "in write_nifti", "sidecar"),
    ("*io*", "in sidecar", "sidecar"),
    ("*nifti_writer*", "in write", "sidecar"),
    ("*public_sets*", "in _copied", "sidecar"),
    ("*by_recipe*", "in _with_sidecar", "sidecar"),
    ("*pretrained*", "in register", "registered_encoder"),
    ("*pins*", "in _write_pins", "bundle_pins"),
]
# Files of other people's standards, and code that writes what its caller has named. Each with its reason.
OTHERS: list[tuple[str, str, str]] = [
    ("*schemas.py", "in main", "JSON Schema itself"),
    ("*", "tokenizer.json", "Hugging Face tokenizers' format, written and read by that library"),
    ("*", "tokenizer_config.json", "Hugging Face transformers' format, only read"),
    ("*", "vocab.json", "Hugging Face transformers' format, only read"),
    ("*pretrained*", "config.json", "Hugging Face transformers' format, only read"),
    ("*", "preprocessor_config.json", "Hugging Face transformers' format, only read"),
    ("*", "open_clip_config.json", "open_clip's format, only read"),
    ("*", "configs/inference.json", "MONAI bundle's format, only read"),
    ("*pretrained*", "inference.json", "MONAI bundle's format, only read"),
    ("*local_llm*", "config.json", "Hugging Face transformers' format, only read"),
    ("*speech*", "processor_config.json", "Hugging Face transformers' format, only read"),
    ("*speech*", "model.safetensors.index.json", "Hugging Face transformers' format, only read"),
    ("*masks*", "in _numbers", "nnU-Net's dataset.json, only read"),
    ("*", "report.fhir.json", "HL7 FHIR R4, checked by fhir.resources"),
]
NAME = re.compile(r"[\w.-]*\.jsonl?")
WRITES = {"write_text", "write_bytes", "write", "dump"}
DUMPS = re.compile(r"json\.dumps|.*\.(model_dump_json|to_json)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Named:
    """One place that names a JSON file, and the file's kind: empty for a file of another standard."""

    module: Module
    line: int
    name: str
    kind: str


def json_files(module: Module) -> Iterator[Named]:
    """Every place of a module that names or writes a JSON file."""
    named: set[str] = set()
    for node in module.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not is_docstring(node):
            name = _file_name(node)
            if name:
                named.add(_function(node))
                yield _named(module, node.lineno, name)
    for node in module.nodes:
        if isinstance(node, ast.Call) and _writes_json(node) and _function(node) not in named:
            named.add(_function(node))
            yield _named(module, node.lineno, f"in {_function(node)}")


def _file_name(node: ast.Constant) -> str:
    """The file name that a text gives, "in FUNCTION" for a suffix put to a name, "" for other text."""
    text, parent = node.value, node.parent  # type: ignore[attr-defined]
    if isinstance(parent, ast.JoinedStr):
        part_of_a_name = parent.values[-1] is node and re.search(r"\.jsonl?$", text)
        return f"in {_function(node)}" if part_of_a_name else ""
    if not NAME.fullmatch(text.rsplit("/", 1)[-1]):
        return ""
    if text not in (".json", ".jsonl"):
        return text.rsplit("/", 1)[-1]
    called = isinstance(parent, ast.Call) and isinstance(parent.func, ast.Attribute)
    put_to_a_name = isinstance(parent, ast.BinOp) or (called and parent.func.attr == "with_suffix")
    return f"in {_function(node)}" if put_to_a_name else ""


def _writes_json(call: ast.Call) -> bool:
    """``path.write_text(json.dumps(x))`` and its like, and ``json.dump(x, file)``."""
    if not (isinstance(call.func, ast.Attribute) and call.func.attr in WRITES):
        return False
    if call.func.attr == "dump":
        return ast.unparse(call.func) == "json.dump"
    inner = [n for a in call.args for n in ast.walk(a) if isinstance(n, ast.Call)]
    return any(DUMPS.fullmatch(ast.unparse(n.func)) for n in inner)


def _function(node: ast.AST) -> str:
    """The innermost function around a place."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return next((a.name for a in above(node) if isinstance(a, functions)), "the module")


def _named(module: Module, line: int, name: str) -> Named:
    def fits(rule: tuple[str, str, str]) -> bool:
        return fnmatch(str(module.path), rule[0]) and fnmatch(name, rule[1])

    if any(fits(rule) for rule in OTHERS):
        return Named(module=module, line=line, name=name, kind="")
    known = next((rule[2] for rule in KINDS if fits(rule)), "")
    from_name = f"{module.path}: {name}" if name.startswith("in ") else re.sub(r"\.jsonl?$", "", name)
    return Named(module=module, line=line, name=name, kind=known or from_name)
