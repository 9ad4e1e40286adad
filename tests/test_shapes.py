"""Shapes as annotated: real functions run under a checker, and wrong shapes are refused."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from medfuse import affine, case
from medfuse.models.encoders import DenseEncoder, ImageEncoder
from medfuse.models.model import exclusive_logits
from medfuse.models.text import TextTower
from medfuse.models.tokens import CineTokens, KindTokens, RegionTokens
from medfuse.preprocess import volume
from medfuse.task import Intensity


def checked(function: Callable) -> Callable[..., Any]:
    """The function with its annotations looked at in every call."""

    copy = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__annotations__ = typing.get_type_hints(function, include_extras=True)
    return jaxtyped(typechecker=beartype)(copy)


IDENTITY = np.eye(4)
IDS = torch.zeros(2, 3, dtype=torch.long)
MASK = torch.ones(2, 3, dtype=torch.bool)


def test_frames():
    points = checked(affine.Affine.points)
    assert points(affine.Affine(IDENTITY), np.zeros((5, 3))).shape == (5, 3)
    assert checked(affine.other_frame)(np.zeros(3, np.float32)).shape == (3,)
    with pytest.raises(TypeCheckError, match="points"):
        checked(affine.other_frame)(np.zeros((3, 5)))
    with pytest.raises(TypeCheckError, match="matrix"):
        checked(affine.transform_in_other_frame)(np.eye(3))


def test_images():
    assert checked(case.luminance)(np.zeros((2, 8, 9, 3), np.uint8)).shape == (2, 8, 9)
    with pytest.raises(TypeCheckError):
        checked(case.luminance)(np.zeros((8, 9), np.uint8))


def test_preprocessing():
    resample = checked(volume.resample)
    array = np.zeros((4, 5, 6), np.float32)
    out = resample(array, IDENTITY, np.diag([2.0, 2, 2, 1]), (8, 8, 8), order=1, fill=0.0)
    assert out.shape == (8, 8, 8)
    with pytest.raises(TypeCheckError, match="source"):
        resample(array, np.eye(3), IDENTITY, (8, 8, 8), order=1, fill=0.0)
    how = Intensity(kind="unit", centre=1.0, width=2.0)
    assert checked(volume.normalise)(array, how).dtype == np.float32


@pytest.mark.parametrize("kind", [RegionTokens, KindTokens])
def test_tokens(kind):
    module = kind(4, 2, 8, 0.0).eval()
    forward = checked(kind.forward)
    assert forward(module, torch.rand(2, 3, 4), MASK, IDS).x.shape == (2, 3, 8)
    with pytest.raises(TypeCheckError, match="mask"):
        forward(module, torch.rand(2, 3, 4), MASK[:, :2], IDS)
    with pytest.raises(TypeCheckError, match="kind"):
        forward(module, torch.rand(2, 3, 4), MASK, IDS.float())


def test_cine_tokens():
    module = CineTokens(6, 2, 8, 0.0, pooled=(0,), lesion_kind=1, keep=2).eval()
    assert checked(CineTokens.forward)(module, torch.rand(2, 3, 6), MASK, IDS).x.shape == (2, 3, 8)


def test_encoders():
    dense = DenseEncoder(dims=3, roles=2, classes=3, filters=8).eval()
    forward = checked(DenseEncoder.forward)
    there = torch.ones(1, 2, dtype=torch.bool)
    with torch.inference_mode():
        logits, fine, deep = forward(dense, torch.zeros(1, 2, 16, 16, 16), there)
        assert (logits.shape[1], fine.shape[1], deep.shape[1]) == (3, 8, 64)
        with pytest.raises(TypeCheckError, match="present"):
            forward(dense, torch.zeros(1, 2, 16, 16, 16), there[:, :1])
        whole = ImageEncoder(4).eval()
        assert checked(ImageEncoder.forward)(whole, torch.zeros(2, 1, 64, 64)).shape[:2] == (2, 5)


def test_words_and_findings():
    tower = TextTower(9, 8, layers=1).eval()
    assert checked(TextTower.forward)(tower, IDS, MASK).shape == (2, 8)
    with pytest.raises(TypeCheckError, match="mask"):
        checked(TextTower.forward)(tower, IDS, MASK[:1])
    assert checked(exclusive_logits)(torch.rand(2, 4), [0, 1]).shape == (2, 4)
    with pytest.raises(TypeCheckError):
        checked(exclusive_logits)(torch.rand(4), [])
