"""Report → PDF by reportlab: letterhead, sections, key images, the banner on every page. Fonts are embedded, Chinese too."""

from __future__ import annotations

import os
from functools import cache
from io import BytesIO
from pathlib import Path
from xml.sax.saxutils import escape

import matplotlib
from PIL import Image as Picture
from reportlab.lib import colors
from reportlab.lib.enums import TA_CENTER
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFError, TTFont
from reportlab.platypus import BaseDocTemplate, Frame, Image, KeepTogether, PageTemplate, Paragraph, Spacer, Table

from ..case import Case
from ..errors import UserError
from ..report import Report
from .compose import day
from .key_images import KeyImage

CJK_FONTS = (
    "/usr/share/fonts-droid-fallback/truetype/DroidSansFallback.ttf", "/usr/share/fonts/truetype/droid/DroidSansFallback.ttf",
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf", "/usr/share/fonts/truetype/arphic/uming.ttc",
    "/Library/Fonts/Arial Unicode.ttf", "C:/Windows/Fonts/kaiu.ttf",
)  # fmt: skip
INK, ACCENT, PALE, WARN = (colors.HexColor(c) for c in ("#1b262c", "#0f6c7a", "#eef4f5", "#8a4b00"))
WORDS = {
    "en": {"title": "Radiology report", "patient": "Patient", "born": "Born", "sex": "Sex", "studies": "Studies", "state": "State",
           "signed": "Signed by", "images": "Key images", "model": "Model", "page": "Page", "case": "Case"},
    "zh-TW": {"title": "放射科報告", "patient": "病人", "born": "出生日期", "sex": "性別", "studies": "檢查", "state": "狀態",
              "signed": "簽署者", "images": "關鍵影像", "model": "模型", "page": "頁", "case": "個案"},
}  # fmt: skip
STATES = {
    "en": {"draft": "draft", "preliminary": "preliminary", "final": "final", "amended": "amended"},
    "zh-TW": {"draft": "草稿", "preliminary": "初步", "final": "定稿", "amended": "修訂"},
}


@cache
def _fonts(language: str) -> tuple[str, str]:
    """(regular, bold) names of registered, embeddable fonts. Raises UserError where Chinese has none."""
    if language.startswith("zh"):
        wanted = [os.environ.get("MEDFUSE_CJK_FONT", ""), *CJK_FONTS]
        for path in (p for p in wanted if p and Path(p).is_file()):
            try:
                pdfmetrics.registerFont(TTFont("medfuse-cjk", path))
            except TTFError:
                continue  # outlines that reportlab cannot embed; the next may be TrueType
            return "medfuse-cjk", "medfuse-cjk"
        raise UserError(
            "no font with Chinese was found for the PDF; install fonts-droid-fallback or name a TrueType file in MEDFUSE_CJK_FONT"
        )
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    pdfmetrics.registerFont(TTFont("medfuse", str(folder / "DejaVuSans.ttf")))
    pdfmetrics.registerFont(TTFont("medfuse-bold", str(folder / "DejaVuSans-Bold.ttf")))
    return "medfuse", "medfuse-bold"


def report_pdf(report: Report, case: Case, images: list[KeyImage], *, letterhead: str = "") -> bytes:
    """The PDF as bytes: the same input gives the same bytes. letterhead: the institution's own lines, else medfuse's."""
    regular, bold = _fonts(report.language)
    words = WORDS.get(report.language, WORDS["en"])
    wrap = "CJK" if report.language.startswith("zh") else None
    body = ParagraphStyle("body", fontName=regular, fontSize=9.5, leading=14, textColor=INK, wordWrap=wrap)
    small = ParagraphStyle("small", parent=body, fontSize=7.5, leading=10, textColor=colors.HexColor("#55636b"))
    head = ParagraphStyle("head", parent=body, fontName=bold, fontSize=10.5, leading=15, textColor=ACCENT, spaceBefore=9, spaceAfter=2)  # fmt: skip
    title = ParagraphStyle("title", parent=body, fontName=bold, fontSize=16, leading=21)
    banner = ParagraphStyle("banner", parent=body, fontName=bold, fontSize=8.5, leading=12, textColor=WARN, alignment=TA_CENTER)  # fmt: skip
    flow: list = [Paragraph(escape(words["title"]), title), Spacer(1, 2 * mm), _facts(report, case, words, body, bold)]
    flow += [Spacer(1, 3 * mm), *[Paragraph(escape(b), banner) for b in report.banner], Spacer(1, 1 * mm)]
    for section in report.sections:
        rows = [x for x in section.sentences if x.state != "rejected"]
        numbered = section.id == "impression" and len(rows) > 1
        parts = [Paragraph(f"{f'{n}. ' if numbered else ''}{escape(x.text)}", body) for n, x in enumerate(rows, 1)]
        flow.append(KeepTogether([Paragraph(escape(section.title), head), *parts[:2]]))
        flow += parts[2:]
    if images:
        flow += _pictures(images, words, head, small)
    flow += [Spacer(1, 4 * mm), Paragraph(escape(f"{words['model']}: {report.bundle} {report.bundle_hash[:12]}, {report.writer}"), small)]  # fmt: skip
    out = BytesIO()
    document = BaseDocTemplate(
        out, pagesize=A4, leftMargin=20 * mm, rightMargin=20 * mm, topMargin=26 * mm, bottomMargin=20 * mm,
        title=f"{words['title']} {report.case_id}", author="medfuse", subject=report.banner[0], invariant=1, lang=report.language,
    )  # fmt: skip

    def page(canvas, doc) -> None:
        canvas.saveState()
        canvas.setFillColor(ACCENT)
        canvas.rect(0, A4[1] - 16 * mm, A4[0], 16 * mm, stroke=0, fill=1)
        canvas.setFillColor(colors.white)
        canvas.setFont(bold, 12)
        canvas.drawString(20 * mm, A4[1] - 10.5 * mm, letterhead or "medfuse")
        canvas.setFont(regular, 8)
        canvas.drawRightString(A4[0] - 20 * mm, A4[1] - 10.5 * mm, f"{words['case']} {report.case_id}")
        canvas.setFillColor(WARN)
        canvas.setFont(bold, 7.5)
        canvas.drawCentredString(A4[0] / 2, 12 * mm, report.banner[0])
        canvas.setFillColor(INK)
        canvas.setFont(regular, 7.5)
        canvas.drawRightString(A4[0] - 20 * mm, 8 * mm, f"{words['page']} {doc.page}")
        canvas.restoreState()

    frame = Frame(document.leftMargin, document.bottomMargin, document.width, document.height, 0, 0, 0, 0)
    document.addPageTemplates(PageTemplate(frames=[frame], onPage=page))
    document.build(flow)
    return out.getvalue()


def _facts(report: Report, case: Case, words: dict, body: ParagraphStyle, bold: str) -> Table:
    dates: dict[str, set[str]] = {}
    for image in case.images:
        dates.setdefault(image.modality, set()).add(day(image.source.date))
    studies = ", ".join(f"{m} {' / '.join(sorted(d - {''}))}".strip() for m, d in dates.items())
    state = STATES.get(report.language, STATES["en"])[report.state]
    rows = [
        (words["patient"], case.patient_id or "-", words["state"], f"{state}, v{report.version}"),
        (words["born"], day(case.birth_date) or "-", words["sex"], case.sex or "-"),
        (words["studies"], studies or "-", words["signed"] if report.signed_by else "", report.signed_by),
    ]
    label = ParagraphStyle("label", parent=body, fontName=bold, fontSize=8, textColor=ACCENT)
    value = ParagraphStyle("value", parent=body, fontSize=8.5, leading=11)
    cells = [[Paragraph(escape(t), label if n % 2 == 0 else value) for n, t in enumerate(row)] for row in rows]
    return Table(cells, colWidths=[22 * mm, 72 * mm, 24 * mm, 52 * mm],
                 style=[("BACKGROUND", (0, 0), (-1, -1), PALE), ("VALIGN", (0, 0), (-1, -1), "TOP"), ("TOPPADDING", (0, 0), (-1, -1), 3), ("BOTTOMPADDING", (0, 0), (-1, -1), 3)])  # fmt: skip


def _pictures(images: list[KeyImage], words: dict, head: ParagraphStyle, small: ParagraphStyle) -> list:
    """Two in a row, each with what it shows."""
    width = 82 * mm
    cells = []
    for one in images:
        picture = Picture.open(BytesIO(one.png))
        height = min(width * picture.height / picture.width, 70 * mm)
        shown = Image(BytesIO(one.png), width=height * picture.width / picture.height, height=height)
        cells.append([shown, Paragraph(escape(one.label), small)])
    rows = [cells[i : i + 2] + [""] * (2 - len(cells[i : i + 2])) for i in range(0, len(cells), 2)]
    tables = [Table([row], colWidths=[86 * mm, 86 * mm], style=[("VALIGN", (0, 0), (-1, -1), "TOP")]) for row in rows]
    return [KeepTogether([Paragraph(escape(words["images"]), head), tables[0]]), *tables[1:]]
