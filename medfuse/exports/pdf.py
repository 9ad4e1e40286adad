"""Report → PDF by reportlab: letterhead, sections, key images, the banner on every page. Fonts are embedded,
Chinese too."""

from __future__ import annotations

import os
from functools import cache
from io import BytesIO
from pathlib import Path
from xml.sax.saxutils import escape

from PIL import Image as Picture
from reportlab.lib import colors
from reportlab.lib.enums import TA_CENTER
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFError, TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Frame,
    Image,
    KeepTogether,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
)

from ..case import Case
from ..display.key_images import KeyImage
from ..drafting.compose import day
from ..drafting.templates import labels, languages, sentences
from ..errors import UserError
from ..plotting import matplotlib
from ..report import Report, Section, SignedOff, Targets
from ..task import Task

CJK_FONTS = (
    "/usr/share/fonts-droid-fallback/truetype/DroidSansFallback.ttf",
    "/usr/share/fonts/truetype/droid/DroidSansFallback.ttf",
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",
    "/usr/share/fonts/truetype/arphic/uming.ttc",
    "/Library/Fonts/Arial Unicode.ttf",
    "C:/Windows/Fonts/kaiu.ttf",
)
INK, ACCENT, PALE, WARN = (colors.HexColor(c) for c in ("#1b262c", "#0f6c7a", "#eef4f5", "#8a4b00"))


@cache
def _fonts(language: str) -> tuple[str, str]:
    """(regular, bold) names of registered, embeddable fonts. Raises UserError where Chinese has none."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    pdfmetrics.registerFont(TTFont("medfuse", str(folder / "DejaVuSans.ttf")))
    pdfmetrics.registerFont(TTFont("medfuse-bold", str(folder / "DejaVuSans-Bold.ttf")))
    if language.startswith("zh"):
        wanted = [os.environ.get("MEDFUSE_CJK_FONT", ""), *CJK_FONTS]
        for path in (p for p in wanted if p and Path(p).is_file()):
            try:
                pdfmetrics.registerFont(TTFont("medfuse-cjk", path))
            except TTFError:
                continue  # outlines that reportlab cannot embed; the next may be TrueType
            return "medfuse-cjk", "medfuse-cjk"
        raise UserError(
            "no font with Chinese was found for the PDF; install fonts-droid-fallback or name a "
            "TrueType file in MEDFUSE_CJK_FONT"
        )
    return "medfuse", "medfuse-bold"


def _runs(text: str, font: str) -> list[tuple[str, str]]:
    """(font, part) in order: what ``font`` has no glyph for is set in the Latin one (fallback fonts hold CJK
    alone)."""
    glyphs = pdfmetrics.getFont(font).face.charToGlyph
    out: list[tuple[str, str]] = []
    for c in text:
        name = font if ord(c) in glyphs or c == " " else "medfuse"
        if c == " " and out:
            name = out[-1][0]
        if out and out[-1][0] == name:
            out[-1] = (name, out[-1][1] + c)
        else:
            out.append((name, c))
    return out


def _markup(text: str, style: ParagraphStyle) -> Paragraph:
    runs = _runs(text, style.fontName)
    parts = [escape(t) if f == style.fontName else f'<font name="{f}">{escape(t)}</font>' for f, t in runs]
    return Paragraph("".join(parts), style)


def _numbered(word: str, page: int) -> str:
    """A page's number in words: where the word says {n}, else behind it."""
    return word.replace("{n}", str(page)) if "{n}" in word else f"{word} {page}"


def _line(
    canvas: Canvas,
    x: float,
    y: float,
    text: str,
    font: str,
    size: float,
    *,
    right: bool = False,
    centre: bool = False,
) -> None:
    runs = _runs(text, font)
    width = sum(pdfmetrics.stringWidth(t, f, size) for f, t in runs)
    x -= width if right else width / 2 if centre else 0
    for f, t in runs:
        canvas.setFont(f, size)
        canvas.drawString(x, y, t)
        x += pdfmetrics.stringWidth(t, f, size)


def report_pdf(
    report: Report,
    case: Case,
    images: list[KeyImage],
    *,
    letterhead: str = "",
    signed: SignedOff | None = None,
    task: Task | None = None,
    measured: list[str] | None = None,
) -> bytes:
    """The PDF as bytes: the same input gives the same bytes. letterhead: the institution's own lines, else
    medfuse's. signed: by whom and when, which then stands under the text. task: whose templates name the
    labels in a language that medfuse has no words for. measured: a line for each measurement of a reader."""
    regular, bold = _fonts(report.language)
    words = labels(task, report.language, "pdf")
    words |= {f"state {k}": v for k, v in labels(task, report.language, "states").items()}
    wrap = "CJK" if report.language.startswith("zh") else None
    body = ParagraphStyle("body", fontName=regular, fontSize=9.5, leading=14, textColor=INK, wordWrap=wrap)
    small = ParagraphStyle(
        "small", parent=body, fontSize=7.5, leading=10, textColor=colors.HexColor("#55636b")
    )
    head = ParagraphStyle(
        "head",
        parent=body,
        fontName=bold,
        fontSize=10.5,
        leading=15,
        textColor=ACCENT,
        spaceBefore=9,
        spaceAfter=2,
    )
    title = ParagraphStyle("title", parent=body, fontName=bold, fontSize=16, leading=21)
    banner = ParagraphStyle(
        "banner", parent=body, fontName=bold, fontSize=8.5, leading=12, textColor=WARN, alignment=TA_CENTER
    )
    flow: list = [
        _markup(words["title"], title),
        Spacer(1, 2 * mm),
        _facts(report, case, words, body, bold, signed),
    ]
    flow += [Spacer(1, 3 * mm), *[_markup(b, banner) for b in report.banner], Spacer(1, 1 * mm)]
    for section in report.sections:
        flow += _section(section, head, body)
        if section.id == "comparison" and report.standing_targets is not None:
            flow.append(_targets(report.standing_targets, bold, body, small))
    if signed is not None:
        line = ParagraphStyle("signature", parent=body, fontName=bold, spaceBefore=10)
        flow.append(_markup(signed.line(report.language), line))
    if measured:
        lines = [_markup(line, small) for line in measured]
        flow += [KeepTogether([_markup(words["measured"], head), *lines[:2]]), *lines[2:]]
    if images:
        captions = _captions(images, task, report.language)
        flow += _pictures(images, captions, words, head, small)
    if report.footer:
        flow += [Spacer(1, 4 * mm), *[_markup(line, small) for line in report.footer]]
    if report.bundle:
        model = f"{words['model']}: {report.bundle} {report.bundle_hash[:12]}, {report.writer}"
        flow += [Spacer(1, 4 * mm), _markup(model, small)]
    out = BytesIO()
    document = BaseDocTemplate(
        out,
        pagesize=A4,
        leftMargin=20 * mm,
        rightMargin=20 * mm,
        topMargin=26 * mm,
        bottomMargin=20 * mm,
        title=f"{words['title']} {report.case_id}",
        author="medfuse",
        subject=report.banner[0],
        invariant=1,
        lang=report.language,
    )

    def page(canvas: Canvas, doc: BaseDocTemplate) -> None:
        canvas.saveState()
        canvas.setFillColor(ACCENT)
        canvas.rect(0, A4[1] - 16 * mm, A4[0], 16 * mm, stroke=0, fill=1)
        canvas.setFillColor(colors.white)
        _line(canvas, 20 * mm, A4[1] - 10.5 * mm, letterhead or "medfuse", "medfuse-bold", 12)
        _line(
            canvas,
            A4[0] - 20 * mm,
            A4[1] - 10.5 * mm,
            f"{words['case']} {report.case_id}",
            regular,
            8,
            right=True,
        )
        canvas.setFillColor(WARN)
        _line(canvas, A4[0] / 2, 12 * mm, report.banner[0], bold, 7.5, centre=True)
        canvas.setFillColor(INK)
        _line(canvas, A4[0] - 20 * mm, 8 * mm, _numbered(words["page"], doc.page), regular, 7.5, right=True)
        canvas.restoreState()

    frame = Frame(document.leftMargin, document.bottomMargin, document.width, document.height, 0, 0, 0, 0)
    document.addPageTemplates(PageTemplate(frames=[frame], onPage=page))
    document.build(flow)
    return out.getvalue()


def _section(section: Section, head: ParagraphStyle, body: ParagraphStyle) -> list:
    """A section's title and sentences. An impression stays on one page; of others, the title and the first
    two sentences do."""
    rows = [x for x in section.sentences if x.state != "rejected"]
    numbered = section.id == "impression" and len(rows) > 1
    parts = [_markup(f"{f'{n}. ' if numbered else ''}{x.text}", body) for n, x in enumerate(rows, 1)]
    if not parts:
        return []
    together = len(parts) if section.id == "impression" else 2
    return [KeepTogether([_markup(section.title, head), *parts[:together]]), *parts[together:]]


def _targets(found: Targets, bold: str, body: ParagraphStyle, small: ParagraphStyle) -> KeepTogether:
    """The targets over time as a table, the name of each in the widest column, and by which rule."""
    strong = ParagraphStyle("strong", parent=small, fontName=bold)
    cells = [[_markup(c, small if n else strong) for c in row] for n, row in enumerate(found.cells)]
    times = len(found.columns) - 1
    table = Table(
        cells,
        colWidths=[(170 - 24 * times) * mm, *[24 * mm] * times],
        style=[
            ("LINEBELOW", (0, 0), (-1, 0), 0.6, ACCENT),
            ("LINEBELOW", (0, 1), (-1, -1), 0.25, colors.lightgrey),
            ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
        ],
    )
    title = ParagraphStyle("targets", parent=body, fontName=bold, spaceBefore=4)
    return KeepTogether([_markup(found.title, title), table, _markup(found.rule, small)])


def _facts(
    report: Report,
    case: Case,
    words: dict,
    body: ParagraphStyle,
    bold: str,
    signed: SignedOff | None,
) -> Table:
    state = words[f"state {report.state}"]
    rows = [
        (words["patient"], case.patient_id or "-", words["state"], f"{state}, v{report.version}"),
        (words["born"], day(case.birth_date) or "-", words["sex"], case.sex or "-"),
        (
            words["studies"],
            _studies(case) or "-",
            words["signed"] if report.signed_by else "",
            report.signed_by,
        ),
    ]
    if signed is not None:
        rows.append(("", "", words["when"], signed.when))
    label = ParagraphStyle("label", parent=body, fontName=bold, fontSize=8, textColor=ACCENT)
    value = ParagraphStyle("value", parent=body, fontSize=8.5, leading=11)
    cells = [[_markup(t, label if n % 2 == 0 else value) for n, t in enumerate(row)] for row in rows]
    return Table(
        cells,
        colWidths=_widths(rows, bold),
        style=[
            ("BACKGROUND", (0, 0), (-1, -1), PALE),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("TOPPADDING", (0, 0), (-1, -1), 3),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
        ],
    )


def _widths(rows: list[tuple[str, str, str, str]], font: str) -> list[float]:
    """The widths of two columns of labels, each with its values beside it: no label breaks."""
    out: list[float] = []
    for column, least, both in ((0, 28.0, 94.0), (2, 24.0, 76.0)):
        longest = max(pdfmetrics.stringWidth(row[column], font, 8) for row in rows) / mm
        first = min(max(least, longest + 5), both / 2)
        out += [first * mm, (both - first) * mm]
    return out


def _studies(case: Case) -> str:
    """Each modality with the days of its images."""
    dates: dict[str, set[str]] = {}
    for image in case.images:
        dates.setdefault(image.modality, set()).add(day(image.source.date))
    return ", ".join(f"{m} {' / '.join(sorted(d - {''}))}".strip() for m, d in dates.items())


def _caption(one: KeyImage, task: Task | None, language: str) -> str:
    """What a picture shows, in the report's language where the task has it."""
    x = one.shows
    if x is None or task is None or language not in languages(task):
        return one.label
    s = sentences(task, language)
    place = (
        s.render("place_frame", n=x.n) if x.frame else s.render("place_slice", series=s.role(x.role), n=x.n)
    )
    name = [s.name(f) for f in task.findings if f.id == x.finding]
    return s.get("list.comma").join([*name, s.modality(x.modality), place])


def _captions(images: list[KeyImage], task: Task | None, language: str) -> list[str]:
    return [_caption(one, task, language) for one in images]


def _pictures(
    images: list[KeyImage], captions: list[str], words: dict, head: ParagraphStyle, small: ParagraphStyle
) -> list:
    """Two in a row, each with what it shows."""
    width = 82 * mm
    cells = []
    for one, caption in zip(images, captions, strict=True):
        picture = Picture.open(BytesIO(one.png))
        height = min(width * picture.height / picture.width, 62 * mm)
        shown = Image(BytesIO(one.png), width=height * picture.width / picture.height, height=height)
        cells.append([shown, _markup(caption, small)])
    rows = [cells[i : i + 2] + [""] * (2 - len(cells[i : i + 2])) for i in range(0, len(cells), 2)]
    tables = [
        Table([row], colWidths=[86 * mm, 86 * mm], style=[("VALIGN", (0, 0), (-1, -1), "TOP")])
        for row in rows
    ]
    return [KeepTogether([_markup(words["images"], head), tables[0]]), *tables[1:]]
