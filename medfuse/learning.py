"""Learning: how encoders learn from label maps, as a task says it (class weights, rate and augmentation, each
with its reason), and how those from disk are tuned."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ClassWeights(BaseModel):
    """What a voxel of each kind counts for in the likelihood that encoders learn from.

    A lesion is about a hundredth of the voxels: with equal weights a network says "none" everywhere and is
    right 99 times in 100. So lesions count much and the background little; a task whose lesions fill much of
    their volume has equal weights. What a network then calls likely is overstated by the same ratio, and
    outlines are drawn where the odds are undone (`Task.overstated`). background, organ, lesion: of a voxel;
    every other class counts 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    background: float = Field(default=0.15, gt=0)
    organ: float = Field(default=0.4, gt=0)
    lesion: float = Field(default=2.0, gt=0)


class EncoderLearning(BaseModel):
    """How encoders learn from label maps.

    rate: peak learning rate of AdamW, reached after a twentieth of the budget and let down along a cosine;
    higher ones made batch statistics jump on batches of three, lower ones left lesions unfound in the hours
    that two cores have. gain, offset: standard deviations of what each channel is multiplied by and of what
    is added, in units of the normalised values: scanners differ so. noise: largest standard deviation of
    noise, drawn anew for each sample. No flips: sides mean something (`mirror` where they do not).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    rate: float = Field(default=3e-3, gt=0)
    gain: float = Field(default=0.08, ge=0)
    offset: float = Field(default=0.08, ge=0)
    noise: float = Field(default=0.12, ge=0)


class Tuning(BaseModel):
    """How an encoder from disk is tuned before its tokens are used.

    how: lora adds changes of low rank to the linear and convolution layers of the last blocks, last_blocks
    changes all weights of them. blocks: so many, from the last. rank: of lora's changes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    how: Literal["lora", "last_blocks"]
    blocks: int = Field(default=1, ge=1)
    rank: int = Field(default=8, ge=1, le=256)


EQUAL_WEIGHTS = ClassWeights(background=1.0, organ=1.0, lesion=1.0)
