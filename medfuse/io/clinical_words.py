"""Words of a disease, a question or a body part in a series' name, which say nothing of how it was acquired.

"portal hypertension" is no portal phase, "T2DM" no T2 weighting, "native kidney" no scan without contrast.
They are taken out before a role is looked for.
"""

from __future__ import annotations

import re
from functools import cache


def _any(words: str) -> str:
    """One pattern for any of these, which are parted by lines and semicolons."""
    return "(?:" + "|".join(w.strip() for w in re.split("[;\n]", words) if w.strip()) + ")"


# In these patterns < and > are the borders of a word as in `roles`, and a space is any gap between words.
# What stands behind these is what somebody wants to know.
ASKED = _any(
    r"""
    r/o; rule out; ruled out; query; \?; eval for; evaluate for; evaluation for; assess for; assessment of
    history of; hx; h/o; s/p; status post; suspected; susp; suspicion of; known; indication; concern for
    follow.?up of; follow.?up for; d/t; due to
    """
)
# endings and words of what ails somebody, was done to them, or lies in them
AILS = _any(
    r"""
    \w*(osis|oses|itis|[ae]mia|opathy|ectomy|plasty|otomy|ostomy|oma|omas|spasms?|rrhage|rrhagic|aneurysms?)
    hypertension; hypotension; occlu\w*; thromb\w*; embol\w*; steno\w*; dissect\w*; bleed\w*; ha?emorrh?\w*
    malform\w*; insuffic\w*; diseas\w*; injur\w*; ruptur\w*; shunt\w*; fistul\w*; calcif\w*; anomal\w*
    invasion; invaded; invades; graft\w*; stent\w*; access; lines?; ports?; catheters?; sinus(es)?; congestion
    outflow; stasis; ulcers?; pressures?; ablat\w*; isolation; mapping; tumou?rs?; cancers?; cirrhosis
    compression
    obstruct\w*; supply; anatomy; returns?; drainage; cava; wall; tree; spin; switch; duplex; doppler; insult
    blood.?gas(es)?; infarct\w*; abscess(es)?; trauma; leaks?; tears?; lacerations?; pain; failure
    transplant\w*; (re)?vascular\w*
    """
)
VESSELS_OF = _any(
    """
    carotid; renal; coronary; cor; vertebral; basilar; pulm\\w*; iliac; femoral; popliteal; mesenteric
    cerebral; cranial; limb; leg; arm; uterine; peripheral; subclavian; umbilical; spinal; bronchial; temporal
    radial; brachial; dural; jugular; deep; hepatic; splenic; ovarian; saphenous; sagittal
    """
)
LATE = _any(
    r"""
    developmental; development; growth; motor; speech; global; mental; language; psychomotor; trigger; trig
    prep; time; td; dwell; echo; resp\w*
    """
)
DELAYED = _any(
    r"""
    time; alternating; (un)?ion; non.?union; heal\w*; onset; puberty; milestones?; diagnos\w*; presentation
    reaction; gastric; emptying; wound; closure; development; speech; walking; isch\w*; neuro\w*
    """
)
NATIVE = _any(
    r"""
    kidneys?; hips?; valves?; vessels?; lungs?; knees?; joints?; liver; space; res\w*; matrix; ventricle
    aort\w*; arter\w*; vein\w*; bone; tissue; american
    """
)
PHASES = "(portal|port|arterial|art|a|venous|ven|vein|pv)"
# what makes the name of a phase something else, by what stands before or behind it
NO_PHASE = (
    rf"<{PHASES}> ((vein|venous|tract|system)> )?{AILS}>",
    rf"<{VESSELS_OF} (arterial|art|venous|ven)>(?![ _-]*(phase|ph>|delay))",
    "<(arterio|arterial|intra|trans|cerebro|veno) venous>|<intra arterial>|<portal (tract|system|triad)s?>",
    r"<venous (blood|samples?|sampling|puncture)>|<state of the art>|<art(ifact|efact)? (reduction|corr\w*)>",
    r"<(no|without|not|missed|omit(ted)?|skip(ped)?|w/?o) (the )?(early |late )?"
    r"(portal|arterial|art|venous|delay(ed)?)( venous)?( phase)?>",
    rf"<{LATE} delay\w*|<delay(ed)? ({DELAYED}|{AILS})>",
    rf"<late (effects?|onset|complications?|seque\w*|toxicity|preterm|recurren\w*|{AILS})>",
    rf"<plain (films?|x.?rays?|radiographs?|old)>|<native {NATIVE}>",
)
SPINE = _any(
    "level; vertebra\\w*; body; (compression |burst )?fractures?; lesions?; disc; nerve; root; cord; spine"
)
# levels of the spine, stages of a tumour, diabetes, joints, vitamins, and other words that begin as these do
NO_WEIGHTING = (
    rf"<[ct]\d{{1,2}} ?(-|–|/|to|through|thru) ?(t|l|s|th)\d{{1,2}}(?!\d)|<t[1-9]\d(?!\d)|<t[12] {SPINE}>",
    r"<t[12][abc]?[ ,]?n[0-3x][abc]?([ ,]?m[01x])?>|<t2 ?dm>|<t[12] (diabet\w*|dm)>",
    r"<(stage|grade) t[12][abc]?>",
    r"<c[ .-]?diff>|<diff(erential)? (dx|diag\w*|count)>|<tensor (fasci\w*|tympani|veli)|<parkinson\w* pd>",
    "<proton (therapy|beam|pump|spectro|mrs)|<bold (print|text)>",
    r"<(mcp|pip|dip|hallux|thumb|toe|finger) ip>|<ip joints?>|<in phase (enc\w*|dir\w*|over\w*|fov)",
    r"<vit(amin)?[ .]*b ?12>|<b12>|<b_12>|<hla.?b\d+>|<hep(atitis)?[ .]*b>",
)


@cache
def _pattern(words: str) -> re.Pattern[str]:
    text = re.sub(r"(?<!\?)<", r"(?<![a-z])", words).replace(">", r"(?![a-z])")
    return re.compile(re.sub(r"(?<!\[) (?![?.])", "[ _-]+", text))


def acquisition_words(text: str) -> str:
    """One attribute's text, in small letters, without what it says of the patient."""
    left = _pattern(f"<{ASKED}>").split(text, maxsplit=1)[0]
    for words in (*NO_PHASE, *NO_WEIGHTING):
        left = _pattern(words).sub(" ", left)
    return left
