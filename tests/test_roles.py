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
        ("non-venous", "unknown"),
        ("pre contrast", "unenhanced"),
        ("pre contrast arterial protocol", "unknown"),
        ("portal subtraction", "unknown"),
        ("portal sub-second", "portal"),
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
        ("t1 portal SUB", "unknown"),
        ("t1 arterial subtracted", "unknown"),
        ("sub-01 T2w", "t2"),
        ("T1 pre contrast arterial protocol", "unknown"),
        ("t1 non-arterial", "unknown"),
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


@pytest.mark.parametrize(
    ("words", "role"),
    [
        ("portal hypertension", "unknown"),
        ("portal vein thrombosis", "unknown"),
        ("r/o portal vein thrombosis arterial phase", "unknown"),
        ("portal venous phase portal hypertension", "portal"),
        ("arterial stenosis", "unknown"),
        ("arterial phase, r/o stenosis", "arterial"),
        ("renal arterial disease", "unknown"),
        ("hepatic arterial phase", "arterial"),
        ("late arterial", "arterial"),
        ("late effects of radiation", "unknown"),
        ("late phase", "delayed"),
        ("delayed union femur", "unknown"),
        ("developmental delay", "unknown"),
        ("delayed 5min", "delayed"),
        ("Delay 120s", "delayed"),
        ("trigger delay 40 s", "unknown"),
        ("native kidney", "unknown"),
        ("native", "unenhanced"),
        ("plain film", "unknown"),
        ("plain", "unenhanced"),
        ("venous sinus thrombosis", "unknown"),
        ("CT venous", "portal"),
        ("intra-venous", "unknown"),
        ("arterio-venous malformation", "unknown"),
        ("AV fistula art", "arterial"),
        ("deep venous thrombosis", "unknown"),
        ("pulmonary venous return", "unknown"),
        ("pv ablation", "unknown"),
        ("PVP", "portal"),
        ("state of the art", "unknown"),
        ("no arterial phase", "unknown"),
        ("without arterial phase", "unknown"),
        ("ART 1.0 B30f", "arterial"),
        ("ven 5.0", "portal"),
        ("post op", "unknown"),
        ("phase contrast", "unknown"),
        ("pre-med", "unknown"),
        ("peripheral arterial disease", "unknown"),
        ("venous access", "unknown"),
        ("portal-venous 3.0", "portal"),
        ("PORTAL VEIN", "portal"),
        ("Abd art. Phase", "arterial"),
        ("arterial wall", "unknown"),
        ("Leber arteriell", "unknown"),
        ("portal venous 70s", "portal"),
        ("delayed phase urogram", "delayed"),
        ("arterial_thin_1mm", "arterial"),
        ("Thorax venous pain", "unknown"),
        ("hx of arterial injury, portal venous", "unknown"),
        ("equilibrium", "delayed"),
        ("non con", "unenhanced"),
        ("w/o contrast", "unenhanced"),
        ("carotid art", "unknown"),
        ("portal gastropathy", "unknown"),
        ("venous congestion", "unknown"),
        ("arterial embolization", "unknown"),
        ("TACE post arterial embolization", "unknown"),
        ("Liver 3 phase arterial/portal", "unknown"),
        ("portal", "portal"),
        ("Art/Hep", "arterial"),
        ("venous malformation MR", "unknown"),
        ("arterial bleeding portal venous phase", "portal"),
    ],
)
def test_words_of_disease_name_no_phase_of_ct(words, role):
    assert role_of(header(words), "CT")[0] == role


@pytest.mark.parametrize(
    ("words", "role"),
    [
        ("DTI FA", "unknown"),
        ("ep2d_diff_mddw_20_FA", "unknown"),
        ("ep2d_diff_ColFA", "unknown"),
        ("DTI 30 dir", "dwi"),
        ("T1 FA 15 vibe venous", "t1_portal"),
        ("T2 FA120", "t2"),
        ("DTI MD", "unknown"),
        ("DTI_colour map", "unknown"),
        ("T2 vertebra fracture", "unknown"),
        ("T1-T12 sag", "unknown"),
        ("T2 sag T1-T12", "t2"),
        ("Th T12 STIR", "unknown"),
        ("T2DM", "unknown"),
        ("T2N0M0 rectum", "unknown"),
        ("c diff colitis", "unknown"),
        ("diff diag", "unknown"),
        ("IP joint thumb", "unknown"),
        ("T1 in phase", "t1_in"),
        ("in phase encoding", "unknown"),
        ("proton therapy", "unknown"),
        ("t1 arterial", "t1_arterial"),
        ("t1 vibe arterial stenosis", "unknown"),
        ("DWI b1000", "dwi"),
        ("dwi trace", "dwi"),
        ("phase contrast", "unknown"),
        ("T2*", "unknown"),
        ("t2_tse_tra", "t2"),
        ("t2w", "t2"),
        ("T2W_TSE", "t2"),
        ("DTI tractography", "unknown"),
        ("rCBV", "unknown"),
        ("R2star map", "unknown"),
        ("T2 mapping", "t2"),
        ("t1 post op portal hypertension", "unknown"),
        ("dADC", "unknown"),
        ("ADC_b800", "unknown"),
        ("T2 FS", "t2"),
        ("DTI FA map", "unknown"),
        ("Fat Fraction T2", "unknown"),
        ("dwi vitamin b12", "dwi"),
        ("late gad", "unknown"),
        ("t1 late venous", "t1_portal"),
        ("t1_dixon_opp", "unknown"),
    ],
)
def test_words_of_disease_and_maps_name_no_role_of_mr(words, role):
    assert role_of(header(words), "MR")[0] == role


def test_levels_of_the_spine_and_vitamins_are_no_numbers_of_physics():
    assert traits(header("T2 TSE T1-T12"), "MR")["weighting"][0] == "T2"
    assert traits(header("Thorax T1 compression fracture"), "MR")["weighting"][0] == "unknown"
    assert "b_value" not in traits(header("vit b12 deficiency"), "MR")


@pytest.mark.parametrize("words", ["ADC_b800", "DTI FA", "T2 maps"])
def test_a_map_has_no_weighting(words):
    """A diffusion coefficient is no diffusion-weighted picture, though its protocol's name says so."""
    assert traits(header(words), "MR")["weighting"] == ("unknown", 0.0)


@pytest.mark.parametrize(
    ("agent", "contrast"), [("WITHOUT", "unknown"), ("n/a", "unknown"), ("Iohexol", "yes")]
)
def test_an_agent_that_was_not_given_is_none(agent, contrast):
    assert traits(header("Abdomen", ContrastBolusAgent=agent), "CT")["contrast"][0] == contrast
