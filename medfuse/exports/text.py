"""Report → plain text."""

from __future__ import annotations

from ..report import Report, SignedOff


def report_text(report: Report, signed: SignedOff | None = None) -> str:
    """A report as plain text, under its banners, its signature at the end; rejected sentences stay out."""
    lines = [f"*** {b} ***" for b in report.banner]
    lines += ["", f"{report.case_id}   [{report.state}, version {report.version}]"]
    for section in report.sections:
        lines += ["", section.title.upper() if report.language == "en" else section.title]
        rows = [x for x in section.sentences if x.state != "rejected"]
        numbered = section.id == "impression" and len(rows) > 1
        lines += [f"{f'{n}. ' if numbered else ''}{x.text}" for n, x in enumerate(rows, 1)]
        if section.id == "comparison":
            lines += _targets(report)
    lines += ["", *report.footer] if report.footer else []
    lines += ["", signed.line(report.language)] if signed else []
    lines += ["", *[f"*** {b} ***" for b in report.banner[:1]]]
    lines += [f"{report.bundle} {report.bundle_hash[:12]}"] if report.bundle else []
    return "\n".join(lines) + "\n"


def _targets(report: Report) -> list[str]:
    """The targets over time, one line each."""
    found = report.standing_targets
    return ["", found.title, *(" | ".join(row) for row in found.cells), found.rule] if found else []
