"""Reference reports of simulated patients: what an attentive reader with all the images would write.

Several phrasings a sentence; the last of each list is held out (used with ``held_out=True`` only), so that a text
model can be tested on wording it has never seen.
"""

from __future__ import annotations

import numpy as np

POSITIVE = {
    "simple_cyst": [
        "Well-defined simple cyst in the {lobe}, {mm} mm.",
        "A {mm} mm simple hepatic cyst is seen in the {lobe}.",
        "{lobe_c}: thin-walled fluid-filled lesion of {mm} mm without enhancement, a simple cyst.",
        "There is a {mm} mm water-density cyst within the {lobe}.",
    ],
    "septated_cyst": [
        "Septated cystic lesion in the {lobe} measuring {mm} mm.",
        "A {mm} mm cyst with internal septa lies in the {lobe}.",
        "Complex cystic lesion with thin septations in the {lobe}, {mm} mm.",
    ],
    "haemangioma": [
        "{mm} mm lesion in the {lobe} with peripheral nodular enhancement and fill-in, consistent with haemangioma.",
        "Haemangioma of {mm} mm in the {lobe}, T2 bright.",
        "Typical haemangioma in the {lobe}, {mm} mm, with centripetal filling.",
    ],
    "hcc_like": [
        "{mm} mm lesion in the {lobe} with arterial hyperenhancement and washout, suspicious for hepatocellular carcinoma.",
        "Hypervascular mass of {mm} mm in the {lobe} with portal venous washout.",
        "A {mm} mm arterially enhancing nodule that washes out is present in the {lobe}.",
    ],
    "metastasis_like": [
        "Hypovascular lesion with rim enhancement in the {lobe}, {mm} mm, suspicious for metastasis.",
        "{mm} mm hypoattenuating mass in the {lobe} with peripheral enhancement, likely a metastasis.",
        "Findings suggest hepatic metastasis in the {lobe}, {mm} mm.",
    ],
    "fnh_like": [
        "{mm} mm homogeneously arterially enhancing lesion in the {lobe} with central scar, compatible with focal nodular hyperplasia.",
        "Focal nodular hyperplasia of {mm} mm in the {lobe}.",
        "Lesion of {mm} mm with a central scar in the {lobe}, favouring FNH.",
    ],
    "calcified_granuloma": [
        "Calcified granuloma in the {lobe}, {mm} mm.",
        "A {mm} mm coarse calcification in the {lobe}, in keeping with old granulomatous disease.",
        "Punctate calcified focus of {mm} mm in the {lobe}.",
    ],
    "abscess": [
        "{mm} mm rim-enhancing fluid collection in the {lobe} with restricted diffusion, suspicious for abscess.",
        "Hepatic abscess of {mm} mm in the {lobe}.",
        "Thick-walled collection in the {lobe}, {mm} mm, suggesting an abscess.",
    ],
    "gallstone": [
        "Cholelithiasis.",
        "Gallstones are present in the gallbladder.",
        "Stones within the gallbladder lumen.",
    ],
    "dilated_ducts": [
        "Intrahepatic bile ducts are dilated.",
        "Intrahepatic biliary dilatation.",
        "Dilatation of the intrahepatic biliary tree.",
    ],
    "steatosis": [
        "Hepatic steatosis.",
        "Diffuse fatty infiltration of the liver.",
        "The liver shows fatty change.",
    ],
    "cirrhosis": [
        "Nodular liver contour, in keeping with cirrhosis.",
        "Cirrhotic liver morphology with splenomegaly.",
        "Shrunken nodular liver consistent with cirrhosis.",
    ],
    "iron": [
        "Signal loss on in-phase images indicates hepatic iron overload.",
        "Hepatic iron deposition.",
        "Findings of hepatic siderosis.",
    ],
    "ascites": [
        "Ascites is present.",
        "Free fluid around the liver.",
        "Perihepatic and paracolic free fluid.",
    ],
}
NEGATIVE = {
    "focal": [
        "No focal liver lesion.",
        "The liver contains no focal lesion.",
        "No discrete hepatic mass is identified.",
    ],
    "gallstone": ["No gallstones.", "The gallbladder is unremarkable.", "No cholelithiasis."],
    "dilated_ducts": [
        "The bile ducts are not dilated.",
        "No biliary dilatation.",
        "Bile ducts of normal calibre.",
    ],
    "diffuse": [
        "Normal liver parenchyma.",
        "No diffuse parenchymal disease.",
        "Liver texture is within normal limits.",
    ],
    "ascites": ["No ascites.", "No free fluid.", "There is no ascites."],
}


def _pick(rng: np.random.Generator, options: list[str], held_out: bool) -> str:
    return options[-1] if held_out else options[int(rng.integers(0, len(options) - 1))]


def report(rng: np.random.Generator, anatomy, *, held_out: bool = False) -> str:
    """Findings in random order of organs, as free text."""
    sentences = []
    for lesion in anatomy.lesions:
        lobe = "right hepatic lobe" if lesion.centre[0] > 38 else "left hepatic lobe"
        text = _pick(rng, POSITIVE[lesion.kind], held_out)
        sentences.append(text.format(lobe=lobe, lobe_c=lobe.capitalize(), mm=round(lesion.diameter)))
    if not anatomy.lesions:
        sentences.append(_pick(rng, NEGATIVE["focal"], held_out))
    rest = [
        _pick(rng, POSITIVE[f] if anatomy.findings[f] else NEGATIVE[f], held_out)
        for f in ("gallstone", "dilated_ducts", "ascites")
    ]
    diffuse = [_pick(rng, POSITIVE[f], held_out) for f in ("steatosis", "cirrhosis", "iron") if anatomy.findings[f]]
    rest += diffuse or [_pick(rng, NEGATIVE["diffuse"], held_out)]
    rng.shuffle(rest)
    return " ".join(sentences + rest)
