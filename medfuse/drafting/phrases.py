"""Fixed phrases of answers, in each language."""

from __future__ import annotations

CANNOT_TELL = {"en": "cannot tell from these images", "zh-TW": "由這些影像無法判斷"}
CANNOT_TELL_MODEL = {"en": "cannot tell from this model", "zh-TW": "由此模型無法判斷"}
YES_NO = {"en": ("no", "yes"), "zh-TW": ("否", "是")}
# the first banner of every report, before and after it is signed
UNSIGNED = {
    "en": "Research draft, not for clinical use. To be read and signed by a radiologist.",
    "zh-TW": "研究用草稿，不得用於臨床。須由放射科醫師閱讀並簽署。",
}
SIGNED = {"en": "Research report, not for clinical use.", "zh-TW": "研究用報告，不得用於臨床。"}
SIDES = {"en": {"right": "right", "left": "left"}, "zh-TW": {"right": "右側", "left": "左側"}}
