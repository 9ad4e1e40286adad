"""What the headers of real series say they are, beside what a person reads in them.

python benchmarks/roles.py --data ../shared/data/dicom        prints a markdown table and the counts

``READ`` was written by the developer of the rules from the same headers and the SOURCE.md beside the files
("?" where they do not say), so the table is a check of the rules on real headers, not an independent test. An
answer is right when it agrees, silent when it says unknown where a person reads something, and wrong when it
contradicts.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from medfuse.io.cases import find_cases

# part of the path → what a person reads: contrast, and for MR the weighting
READ = {
    "dcm_qa_ct/GE_HiSpeed_Dual_head": ("?", ""),
    "dcm_qa_enh/In/Philips": ("?", "?"),  # a field map, whose frames the header calls T1
    "dcm_qa_enh/In/Siemens": ("?", "T2*"),  # resting-state fMRI
    "dicom2nifti/failing/gantrytilting": ("?", ""),
    "dicom2nifti/failing/slicecount": ("?", "FLAIR"),
    "dicom2nifti/ge/anatomical": ("?", "T1"),
    "dicom2nifti/ge/dti": ("?", "DWI"),
    "dicom2nifti/generic/compressed": ("?", "FLAIR"),
    "dicom2nifti/hitachi": ("?", "PD"),
    "dicom2nifti/philips/anatomical": ("?", "FLAIR"),
    "dicom2nifti/philips_enhanced/anatomical": ("?", "T1"),
    "dicom2nifti/philips_enhanced/fmri": ("?", "T2*"),
    "dicom2nifti/siemens/anatomical": ("?", "FLAIR"),
    "dicom2nifti/siemens_multiframe": ("?", "T1"),
    "fo_dicom/D_CLUNIE_CT1": ("yes", ""),
    "CT1_": ("yes", ""),
    "MR1_": ("?", "T2"),
    "orthanc_tests/MR_Philips": ("?", "T1"),
    "orthanc_tests/CT_GE": ("?", ""),
    "pydicom_data/693_J2KR": ("no", ""),
    "pydicom_data/bad_sequence": ("?", ""),
    "tcia_vs_seg_001_t1": ("?", "T1"),  # SOURCE.md says gadolinium was given; no header does
}


def verdict(said: str, read: str) -> str:
    if read in ("", "?"):
        return "right" if said in ("unknown", "") else "says more"
    return "right" if said == read else "silent" if said == "unknown" else "wrong"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    counts: dict[str, Counter[str]] = {"contrast": Counter(), "weighting": Counter()}
    print("| Series | Role (confidence) | Contrast | Weighting | Fat sat. | b-value | A person reads |")
    print("|---|---|---|---|---|---|---|")
    seen = set()
    for case in find_cases(options.data).cases:
        for image in case.images:
            if image.modality == "US" or image.source.series_uid in seen or not image.traits:
                continue
            seen.add(image.source.series_uid)
            path = str(Path(image.source.path).relative_to(options.data))
            read = next((v for k, v in READ.items() if k in path), None)
            cells = [
                f"{v} ({c:.1f})" if c else "unknown"
                for v, c in (
                    image.traits.get(k, ("unknown", 0.0))
                    for k in ("contrast", "weighting", "fat_saturation", "b_value")
                )
            ]
            if image.modality == "CT":
                cells[1:] = ["–"] * 3
            person = (
                "not labelled"
                if read is None
                else ", ".join(filter(None, [f"contrast {read[0]}", read[1] and f"weighting {read[1]}"]))
            )
            role = f"{image.role} ({image.role_confidence:.1f})" if image.role_confidence else "unknown"
            print(f"| {image.modality} {path} | {role} | {' | '.join(cells)} | {person} |")
            if read is not None:
                counts["contrast"][verdict(image.traits["contrast"][0], read[0])] += 1
                if image.modality == "MR":
                    counts["weighting"][verdict(image.traits["weighting"][0], read[1])] += 1
    for what, count in counts.items():
        print(f"{what}: " + ", ".join(f"{n} {k}" for k, n in count.most_common()))


if __name__ == "__main__":
    main()
