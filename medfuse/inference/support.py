"""Whether what was acquired can answer a finding."""

from __future__ import annotations

from ..case import Case
from ..task import Finding

SUPPORTED = 0.4  # calibrated probability from which a finding is named


def roles_of(case: Case) -> dict[str, set[str]]:
    """Modality → the roles of its images."""
    roles: dict[str, set[str]] = {}
    for image in case.images:
        roles.setdefault(image.modality, set()).add(image.role)
    return roles


def support(finding: Finding, modality: str, roles: dict[str, set[str]]) -> tuple[bool, str]:
    """Whether what was acquired of a modality can answer a finding; if not, why: not_acquired, cannot_show,
    lacks ROLES."""
    if modality not in roles:
        return False, "not_acquired"
    if modality not in finding.modalities:
        return False, "cannot_show"
    for needed in finding.requires.get(modality, ()):
        if not roles[modality] & set(needed):
            return False, "lacks " + " ".join(needed)
    return True, ""
