"""Where voxels lie in the patient: affines that know their frame, and every change between frames.

RAS+ mm is the frame of everything inside medfuse (NIfTI's: right, anterior and superior are positive). DICOM
and ITK speak LPS+ mm (left, posterior, superior; PS3.3 C.7.6.2). Both are mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from jaxtyping import Float, Num

Frame = Literal["RAS+", "LPS+"]
SINGULAR = 1e-6  # least volume of a voxel, as a share of the product of its edges: axes in one plane
STRAIGHT = 1e-4  # largest cosine between two axes that counts as perpendicular

_SIGNS = np.array([-1.0, -1.0, 1.0])
DICOM_AXES = np.diag(_SIGNS)  # RAS+ directions of an axial DICOM stack: columns left, rows back, slices up
_OTHER = np.diag([*_SIGNS, 1.0])


def other_frame(points: Num[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """(N, 3) or (3,) points or directions in RAS+ mm → LPS+ mm, or the other way round."""
    return points * _SIGNS


def transform_in_other_frame(matrix: Num[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
    """A (4, 4) map of points in LPS+ mm → the same map of points in RAS+ mm, or the other way round."""
    return _OTHER @ matrix @ _OTHER


@dataclass(frozen=True, eq=False)
class Affine:
    """A map from voxel index (i, j, k) to mm in ``frame``. Valid once it exists, and read-only.

    Raises ValueError for a matrix that is not (4, 4), not finite, singular, or no affine (last row).
    """

    matrix: Float[np.ndarray, "4 4"]
    frame: Frame = "RAS+"

    def __post_init__(self) -> None:
        m = np.array(self.matrix, float)
        if m.shape != (4, 4):
            raise ValueError(f"an affine is (4, 4), not {m.shape}")
        if not np.isfinite(m).all():
            raise ValueError("affine holds values that are not finite")
        if not np.array_equal(m[3], (0, 0, 0, 1)):
            raise ValueError(f"the last row of an affine is 0 0 0 1, not {m[3].tolist()}")
        edges = float(np.linalg.norm(m[:3, :3], axis=0).prod())
        if not edges or abs(np.linalg.det(m[:3, :3])) < SINGULAR * edges:
            raise ValueError("affine is singular")
        m.flags.writeable = False
        object.__setattr__(self, "matrix", m)

    @classmethod
    def of(cls, axes: Num[np.ndarray, "3 3"], origin: Num[np.ndarray, " 3"], frame: Frame = "RAS+") -> Self:
        """From (3, 3) axes, one column a voxel step in mm, and the (3,) place of voxel (0, 0, 0)."""
        m = np.eye(4)
        m[:3, :3] = axes
        m[:3, 3] = origin
        return cls(m, frame)

    def to(self, frame: Frame) -> Affine:
        """The same map with its result in another frame."""
        return self if frame == self.frame else Affine(_OTHER @ self.matrix, frame)

    @property
    def ras(self) -> Float[np.ndarray, "4 4"]:
        """(4, 4) voxel → RAS+ mm."""
        return self.to("RAS+").matrix

    @property
    def lps(self) -> Float[np.ndarray, "4 4"]:
        """(4, 4) voxel → LPS+ mm."""
        return self.to("LPS+").matrix

    @property
    def spacing(self) -> Float[np.ndarray, " 3"]:
        """(3,) voxel size in mm along i, j and k."""
        return np.linalg.norm(self.matrix[:3, :3], axis=0)

    @property
    def directions(self) -> Float[np.ndarray, "3 3"]:
        """(3, 3) unit vectors, one column an axis."""
        return self.matrix[:3, :3] / self.spacing

    @property
    def origin(self) -> Float[np.ndarray, " 3"]:
        """(3,) mm of the centre of voxel (0, 0, 0)."""
        return self.matrix[:3, 3]

    def is_straight(self, tolerance: float = STRAIGHT) -> bool:
        """Whether the axes are perpendicular; a tilted gantry's are not."""
        d = self.directions
        return bool(np.abs(d.T @ d - np.eye(3)).max() <= tolerance)

    def points(self, voxels: Num[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """(N, 3) voxel indices → (N, 3) mm."""
        return voxels @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    def voxels(self, points: Num[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """(N, 3) mm in this affine's frame → (N, 3) voxel indices, not rounded."""
        back = np.linalg.inv(self.matrix)
        return points @ back[:3, :3].T + back[:3, 3]
