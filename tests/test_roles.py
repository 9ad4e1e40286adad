"""Roles by words that stand alone."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from medfuse.io.roles import role_of, traits


def header(description: str, **more: object) -> Dataset:
    ds = Dataset()
    ds.SeriesDescription = description
    for key, value in more.items():
        setattr(ds, key, value)
    return ds


@pytest.mark.parametrize(
    ("words", "role"),
    [
        ("Abdomen portal venous", "portal"),
        ("Abdomen venous", "portal"),
        ("intravenous contrast", "unknown"),
        ("alternative recon", "unknown"),
        ("nativ", "unenhanced"),
        ("with and without contrast", "unknown"),
        ("without contrast", "unenhanced"),
        ("coronary artery calcium", "unknown"),
        ("arterial phase", "arterial"),
        ("non-contiguous", "unknown"),
        ("15 min", "unknown"),
        ("5 min", "delayed"),
        ("TAC del torax", "unknown"),
    ],
)
def test_phases_of_ct(words, role):
    assert role_of(header(words), "CT")[0] == role


@pytest.mark.parametrize(
    ("words", "role"),
    [
        ("ep2d_diff_b800", "dwi"),
        ("DWI head coil", "dwi"),
        ("ep2d_diff_b50_800_ADC", "unknown"),
        ("Apparent Diffusion Coefficient (mm2/s)", "unknown"),
        ("DWI eADC", "unknown"),
        ("difficult patient", "unknown"),
        ("T1 opposed", "t1_opposed"),
        ("T1 vibe ip", "t1_in"),
        ("ep2d_diff headcoil", "dwi"),
        ("T1 post op", "unknown"),
        ("abdomen op", "unknown"),
        ("T1 opposed phase", "t1_opposed"),
        ("T1 main phase", "unknown"),
    ],
)
def test_roles_of_mr(words, role):
    assert role_of(header(words), "MR")[0] == role


def test_a_fast_spoiled_echo_is_not_fat_saturated():
    assert traits(header("AX_FSPGR"), "MR")["fat_saturation"][0] == "unknown"
    assert traits(header("t1_vibe_fs_tra"), "MR")["fat_saturation"][0] == "yes"
    assert traits(header("AX T1 FLAIR"), "MR")["weighting"][0] == "T1"
    assert traits(header("AX T2 FLAIR"), "MR")["weighting"][0] == "FLAIR"
