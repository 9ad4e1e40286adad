"""JSON Schemas of the files we read and write, generated from the pydantic models: `python -m
medfuse.workflows.schemas FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import BaseModel

from ..bundles.beside import BesideFile
from ..bundles.bound import BoundFile
from ..bundles.contracts import BundleConfig, Calibration, Card, DomainFile, VqaExamples, WriterFile
from ..bundles.pins import BundlePins
from ..bundles.seal import BundleFiles
from ..cohort.export import ExportFile
from ..cohort.masks import MaskFile, MaskLabels
from ..cohort.results import CohortFile
from ..crossvalidation.results import CrossValidation
from ..deidentify.report import DeidentificationReport
from ..display.contract import (
    Asked,
    CaseImages,
    FindingsData,
    Keyed,
    Measured,
    ReaderData,
    ReportChange,
    ReportData,
    Typing,
)
from ..display.hanging import Hung, Windowed
from ..display.tags import TagsAsked
from ..drafting.report_model import ReportModelFile
from ..evaluation.draft_results import DraftEvaluation, TextPair
from ..evaluation.results import Curves, Evaluation, EvaluationRun
from ..exports.case_folder import RunRecord
from ..exports.registration import RegistrationQuality
from ..generation.config import GeneratedNote, GeneratorConfig
from ..io.manifest import ManifestRow
from ..io.sidecar import Sidecar
from ..knowledge import KnowledgeFile
from ..library.accounts import AccountFile
from ..library.audit_key import AuditAnchor
from ..library.backup import BackupManifest
from ..library.desks import Desk
from ..library.made import MadeNote
from ..library.registrations import RegistrationNote
from ..library.training_records import TrainingRecord
from ..models.pretrained.checks import EncoderCheck
from ..models.pretrained.contract import EncoderFile
from ..models.pretrained.registry import RegisteredEncoder
from ..prediction import Prediction
from ..report import Report
from ..task import Task
from ..training.data.tensors import TensorIndex
from ..training.stages.encoders import EncoderNote
from ..vqa.results import VqaCard, VqaEvaluation
from .fuse import FusedNote

MODELS: dict[str, type[BaseModel]] = {
    "prediction": Prediction,
    "report": Report,
    "task": Task,
    "knowledge": KnowledgeFile,
    "manifest_row": ManifestRow,
    "run": RunRecord,
    "sidecar": Sidecar,
    "config": BundleConfig,
    "calibration": Calibration,
    "domain": DomainFile,
    "card": Card,
    "files": BundleFiles,
    "bundle_pins": BundlePins,
    "examples": VqaExamples,
    "encoder_note": EncoderNote,
    "encoder": EncoderFile,
    "encoder_check": EncoderCheck,
    "registered_encoder": RegisteredEncoder,
    "index": TensorIndex,
    "writer_config": WriterFile,
    "bound_config": BoundFile,
    "beside": BesideFile,
    "generator_config": GeneratorConfig,
    "generated": GeneratedNote,
    "evaluation": Evaluation,
    "evaluation_run": EvaluationRun,
    "curves": Curves,
    "reports": DraftEvaluation,
    "text_pair": TextPair,
    "vqa_evaluation": VqaEvaluation,
    "vqa_card": VqaCard,
    "quality": RegistrationQuality,
    "fused_note": FusedNote,
    "deidentification": DeidentificationReport,
    "case": CaseImages,
    "cohort": CohortFile,
    "cohort_export": ExportFile,
    "crossvalidation": CrossValidation,
    "masks": MaskFile,
    "report_model": ReportModelFile,
    "mask_labels": MaskLabels,
    "accounts": AccountFile,
    "audit_anchor": AuditAnchor,
    "desk": Desk,
    "backup": BackupManifest,
    "made_note": MadeNote,
    "registration_note": RegistrationNote,
    "training_record": TrainingRecord,
    "viewer_reader": ReaderData,
    "viewer_findings": FindingsData,
    "viewer_report": ReportData,
    "viewer_measured": Measured,
    "viewer_hung": Hung,
    "viewer_keyed": Keyed,
    "viewer_asked": Asked,
    "viewer_windowed": Windowed,
    "viewer_tags_asked": TagsAsked,
    "viewer_report_change": ReportChange,
    "viewer_typing": Typing,
}


def schemas_json() -> dict[str, dict]:
    """Schema by kind of file."""
    return {name: model.model_json_schema() for name, model in MODELS.items()}


def main(folder: str) -> None:
    """Write FOLDER/<kind>.schema.json of every kind."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, schema in schemas_json().items():
        (Path(folder) / f"{name}.schema.json").write_text(
            json.dumps(schema, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main(sys.argv[1])
