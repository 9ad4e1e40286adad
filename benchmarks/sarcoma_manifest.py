"""Lay a copy of the public soft-tissue sarcoma set out for `medfuse train soft-tissue-mass`.

python benchmarks/sarcoma_manifest.py FOLDER --out sarcoma
medfuse train soft-tissue-mass --manifest sarcoma/manifest.jsonl --out soft-tissue-mass-real --minutes 40
"""

from __future__ import annotations

import argparse
from pathlib import Path

from medfuse.workflows.public_sets import lay_out_sarcoma


def main() -> None:
    """Print the manifest's path."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the copy, with nifti/STS_001_CT.nii.gz and so on")
    parser.add_argument("--out", type=Path, required=True, help="where volumes, sidecars and manifest go")
    given = parser.parse_args()
    print(lay_out_sarcoma(given.folder, given.out))


if __name__ == "__main__":
    main()
