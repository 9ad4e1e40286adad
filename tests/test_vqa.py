"""Questions on pictures and on cases: the contract, the controls, and "cannot tell" as a real answer."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image as Picture
from sklearn.kernel_ridge import KernelRidge
from test_report import lesion, prediction
from typer.testing import CliRunner

from medfuse.bundles.bundle import load_bundle
from medfuse.cli import app
from medfuse.drafting.answer import asked_about, language_of
from medfuse.drafting.answer_written import answer
from medfuse.drafting.phrases import CANNOT_TELL_MODEL
from medfuse.errors import UserError, WrongUse
from medfuse.inference.predictor import Predicted
from medfuse.task import load_any_task, load_task
from medfuse.vqa.answerer import Answerer, examples, normalise
from medfuse.vqa.questions import read_questions
from medfuse.vqa.train import picture_folds

TASK = load_task("upper-abdomen")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Pictures of two kinds; the answer to one question depends on the picture alone, to another on the words
    alone."""
    folder = tmp_path_factory.mktemp("vqa")
    rng = np.random.default_rng(0)
    rows = []
    for n in range(40):
        kind = n % 2
        base = np.zeros((80, 80))
        base[(slice(10, 40) if kind else slice(40, 70)), 10:70] = 200
        Picture.fromarray((base + rng.normal(20, 6, base.shape)).clip(0, 255).astype(np.uint8)).save(
            folder / f"{n}.png"
        )
        common = {"image_name": f"{n}.png", "image_organ": "CHEST" if kind else "HEAD"}
        rows.append(
            {
                **common,
                "question": "What is shown here?",
                "answer": "Chest" if kind else "Head",
                "answer_type": "OPEN",
                "qid": n,
            }
        )
        rows.append(
            {
                **common,
                "question": "Is this a picture?",
                "answer": "Yes",
                "answer_type": "CLOSED",
                "qid": 100 + n,
            }
        )
    for name, part in (("train", rows[:60]), ("test", rows[60:])):
        (folder / f"{name}.json").write_text(json.dumps(part))
    return folder


def test_train_evaluate_and_ask(small, tmp_path):
    run = CliRunner().invoke
    out = tmp_path / "b"
    done = run(
        app,
        [
            "train",
            "vqa.yaml",
            "--manifest",
            str(small / "train.json"),
            "--images",
            str(small),
            "--out",
            str(out),
            "--minutes",
            "1",
            "--json",
        ],
    )
    assert json.loads(done.stdout)["bundle"] == str(out)
    done = run(
        app, ["evaluate", str(out), "--manifest", str(small / "test.json"), "--images", str(small), "--json"]
    )
    table = json.loads(done.stdout)
    assert {
        "open",
        "closed",
        "overall",
        "blank",
        "shuffled",
        "shuffled_within_organ",
        "question_only",
    } <= set(table)
    assert table["overall"] == 100.0
    assert table["question_only"] == pytest.approx(75.0, abs=25.1)
    assert table["shuffled"] < 100.0
    assert table["shuffled_within_organ"] == 100.0  # within an organ these pictures are alike
    done = run(app, ["ask", str(small / "39.png"), "What is shown here?", "--bundle", str(out), "--json"])
    found = json.loads(done.stdout)
    assert found["answer"] == "chest"
    assert 0 < found["probability"] <= 1


def test_saving_changes_no_answer(small, tmp_path):
    task = load_any_task("vqa")
    data = examples(read_questions(small / "train.json", small), small)
    model = Answerer.fit(task, data)
    model.save(tmp_path)
    again = Answerer.load(tmp_path, task)
    x = data.features[data.picture]
    assert again.predict(data.questions, x) == model.predict(data.questions, x)
    assert np.allclose(again.scores(data.questions, x), model.scores(data.questions, x), atol=0.02)


def test_the_regression_is_scikit_learns(small):
    task = load_any_task("vqa")
    data = examples(read_questions(small / "train.json", small), small)
    model = Answerer.fit(task, data)
    k = model.kernel(data.questions, data.features[data.picture], own=True)
    classes, y = np.unique(data.answers, return_inverse=True)
    reference = KernelRidge(alpha=task.ridge, kernel="precomputed").fit(k, np.eye(len(classes))[y])
    assert np.allclose(model.coefficients, reference.dual_coef_, atol=1e-3)
    assert np.allclose(k, k.T, atol=1e-4)


def test_folds_keep_a_picture_on_one_side():
    picture = np.repeat(np.arange(17), 3)
    fold = picture_folds(picture, 1)
    assert all(len(set(fold[picture == p])) == 1 for p in range(17))
    assert set(fold) == set(range(5))


def test_bad_input_is_one_sentence(small, tmp_path):
    with pytest.raises(WrongUse, match="no such folder"):
        read_questions(small / "train.json", tmp_path / "nowhere")
    (tmp_path / "pictures").mkdir()
    with pytest.raises(UserError, match="30 of its pictures are not in"):
        read_questions(small / "train.json", tmp_path / "pictures")
    (tmp_path / "q.json").write_text('[{"question": "x"}]')
    with pytest.raises(UserError, match="each row needs image_name"):
        read_questions(tmp_path / "q.json", small)
    (tmp_path / "pictures" / "0.png").write_bytes(b"not a picture")
    (tmp_path / "q.json").write_text('[{"image_name": "0.png", "question": "x", "answer": 3}]')
    rows = read_questions(tmp_path / "q.json", tmp_path / "pictures")
    assert rows[0].answer == "3"
    with pytest.raises(UserError, match="is not a picture"):
        examples(rows, tmp_path / "pictures")
    with pytest.raises(WrongUse, match="is a task of kind vqa"):
        load_task("vqa")
    assert normalise(" Right  Lung. ") == "right lung"


def ask(question, p=None, *, lesions=(), **more):
    return answer(Predicted(prediction(p, lesions=lesions, **more), []), load_bundle(), question)


@pytest.mark.parametrize(
    ("question", "p", "expected"),
    [
        ("Is there ascites?", {"ascites": 0.9}, "yes"),
        ("Is there ascites?", {"ascites": 0.02}, "no"),
        ("有腹水嗎？", {"ascites": 0.9}, "是"),
        ("Are there gallstones?", {"gallstone": 0.8}, "yes"),
        ("Is there a focal liver lesion?", {}, "no"),
        ("What did the patient eat?", {}, "cannot tell from these images"),
        ("Is there splenomegaly?", {}, "cannot tell from this model"),
        ("How sure are you about the ascites?", {"ascites": 0.9}, "90%"),
        ("What is the probability of cirrhosis?", {"cirrhosis": 0.1}, "10%"),
        ("有腹水的機率是多少？", {"ascites": 0.9}, "90%"),
        ("What are the findings?", {}, "No abnormality among the findings that were assessed."),
        ("How large is the simple cyst?", {}, "cannot tell from these images"),
    ],
)
def test_questions_on_a_case(question, p, expected):
    assert ask(question, p).answer == expected


@pytest.mark.parametrize(
    ("question", "why"),
    [
        ("Is there hydronephrosis?", "does not ask this"),
        ("Is there a cyst in the kidney?", "does not look at the kidney"),
        ("腎臟有囊腫嗎？", "does not look at the kidney"),
        ("有腎水腫嗎？", "does not ask this"),
        ("Is the lesion malignant and what should be done next?", "asks for advice"),
        ("這個病灶是惡性的嗎？下一步該如何處置？", "asks for advice"),
        ("Is there ascites and where is the cyst?", "one at a time"),
        ("有腹水嗎？有脂肪肝嗎？", "one at a time"),
        ("Is the focal liver lesion malignant?", "benign or malignant"),
        ("局部肝病灶是惡性的嗎？", "does not ask this|benign or malignant"),
        ("Is there no ascites?", "in the negative"),
        ("沒有腹水嗎？", "in the negative"),
        ("Is ascites absent?", "in the negative"),
        ("Why is there ascites?", "for a cause"),
        ("Is the ascites due to cirrhosis?", "for a cause"),
        ("Could the cyst be compressing the ducts?", "for a cause"),
        ("為什麼有腹水？", "for a cause"),
        ("腹水是由肝硬化引起的嗎？", "for a cause"),
        ("腹水的原因是什麼？", "for a cause"),
        ("Has the cyst grown?", "for a change"),
        ("Is the ascites new?", "for a change"),
        ("囊腫有變大嗎？", "for a change"),
        ("Is there ascites and a cyst?", "one at a time"),
        ("Are there gallstones or ascites?", "one at a time"),
        ("有腹水和囊腫嗎？", "one at a time"),
        ("Ignore what was said. Is there ascites?", "one at a time"),
        ("Should the cyst be drained?", "asks for advice"),
        ("Is it safe to discharge the patient?", "asks for advice"),
        ("Would you order an MRI?", "asks for advice"),
        ("囊腫需要引流嗎？", "asks for advice"),
        ("病人可以出院嗎？", "asks for advice"),
        ("How long will the patient live?", "for an outlook"),
        ("Is the ascites severe?", "not its degree"),
        ("腹水嚴重嗎？", "not its degree"),
        ("Are there more than two cysts?", "ask how many"),
        ("Is the lesion an adenoma?", "whether it is adenoma"),
        ("What type of lesion is it?", "does not ask this of a finding"),
        ("單純性囊腫比較大嗎？", "a length in figures"),
        ("Is the simple cyst large?", "a length in figures"),
        ("Is there ascites or a pleural effusion?", "does not ask about pleural effusion"),
        ("What is the LI-RADS category?", "not its degree"),
    ],
)
def test_questions_that_are_not_answered_say_why(question, why):
    """Outside the task, advice, several questions in one, and malignancy: no yes or no is claimed."""
    p = {"focal_lesion": 0.99, "simple_cyst": 0.9, "ascites": 0.9}
    found = ask(question, p, lesions=[lesion()])
    assert found.answer == CANNOT_TELL_MODEL[language_of(question)]
    assert found.probability is None
    assert re.search(why, found.why)


def test_size_side_and_number_come_from_lesion_masks():
    one = lesion().model_copy(update={"side": "right"})
    p = {"simple_cyst": 0.95, "focal_lesion": 0.97}
    assert ask("How large is the simple cyst?", p, lesions=[one]).answer == "32 × 22 mm"
    assert ask("Which lobe is the cyst in, where is the simple cyst?", p, lesions=[one]).answer == "right"
    assert ask("How many focal liver lesions are there?", p, lesions=[one]).answer == "1"
    assert ask("單純性囊腫在哪裡？", p, lesions=[one]).answer == "右側"
    assert ask("Where is the simple cyst?", p, lesions=[one]).evidence == [one.place]


def test_of_several_lesions_the_largest_counts_and_those_of_a_narrower_name_do():
    """Solid lesions were no focal ones: one of seven was counted, and the largest was half the largest."""
    several = [("CT", "solid_lesion", "right", 64.0), ("CT", "focal_lesion", "right", 32.0)]
    several += [("MR", "solid_lesion", "left", 42.0)]
    rows = [
        lesion(f, mm).model_copy(update={"id": f"{m}-{n}", "modality": m, "side": side})
        for n, (m, f, side, mm) in enumerate(several)
    ]
    p = {"focal_lesion": 0.99, "solid_lesion": 0.95}

    def said(question):
        return ask(question, p, lesions=rows).answer

    assert said("How large is the largest focal liver lesion?") == "64 × 22 mm"
    assert said("How many liver lesions are there on CT?") == "2"
    assert said("What is the size of the liver lesion in the left lobe?") == "42 × 22 mm"
    assert said("Where is the liver lesion?") == "right and left"
    assert said("Is the liver lesion larger than 5 cm?") == "yes"


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Is there a simple cyst in the left lobe?", "no"),
        ("Is the simple cyst in the right lobe?", "yes"),
        ("單純性囊腫在左葉嗎？", "否"),
        ("Is the simple cyst larger than 5 cm?", "no"),
        ("Is the simple cyst larger than 20 mm?", "yes"),
        ("Is the simple cyst smaller than 5 cm?", "yes"),
        ("Is the simple cyst seen on CT?", "yes"),
        ("Is the simple cyst visible on ultrasound?", "cannot tell from these images"),
        ("Which modality shows the simple cyst?", "CT"),
        ("單純性囊腫大於五公分嗎？", "否"),
        ("What are the findings?", "Simple cyst is present"),
        ("有什麼發現？", "可見單純性囊腫"),
        ("What is there?", "Simple cyst is present"),
        ("What do you see on these images?", "Simple cyst is present"),
        ("Describe the findings", "Simple cyst is present"),
        ("看到什麼？", "可見單純性囊腫"),
        ("哪個檢查看得到單純性囊腫？", "電腦斷層"),
    ],
)
def test_a_side_a_length_and_a_modality_are_held_against_what_was_outlined(question, expected):
    """Each was answered by whether there is a cyst at all."""
    one = lesion().model_copy(update={"side": "right"})
    own = {"simple_cyst": 0.95, "focal_lesion": 0.97}
    made = prediction(own, lesions=[one]).model_copy(update={"subset_probability": {"CT": own}})
    found = answer(Predicted(made, []), load_bundle(), question)
    assert found.answer == expected, found


@pytest.mark.attack
def test_no_question_holds_a_pattern_for_long():
    """In a process of its own, which is ended where a pattern's time grows with the square of a question."""
    asks = (
        "import re\n"
        "from medfuse.drafting import questions\n"
        "for words in ('how long ', '以及', '病灶是', 'lesion really '):\n"
        "    for pattern in vars(questions).values():\n"
        "        if isinstance(pattern, re.Pattern):\n"
        "            pattern.search(words * 40_000)"
    )
    subprocess.run([sys.executable, "-c", asks], check=True, timeout=25)


def test_a_stored_prediction_answers_without_the_network(viewer_library):
    """Loading the network's libraries alone took longer than an answer may."""
    home, _, case = viewer_library
    asks = (
        "import sys\n"
        "from medfuse.commands import ask\n"
        f"ask.ask({case.case_id!r}, 'Is there ascites?', as_json=True)\n"
        "print([n for n in ('torch', 'monai', 'scipy', 'pydicom', 'nibabel') if n in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", asks],
        env={**os.environ, "MEDFUSE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    said, loaded = run.stdout.splitlines()
    assert json.loads(said)["source"] == "findings"
    assert loaded == "[]"


def test_cannot_tell_is_an_answer():
    assert ask(
        "Is there a focal liver lesion?", modalities={"US": "present", "CT": "absent", "MR": "absent"}
    ).answer.startswith("cannot tell")
    found = ask("Is there hepatic iron overload?", {"iron": 0.9}, not_assessed=("iron",))
    assert (found.answer, found.probability) == ("cannot tell from these images", None)
    outside = ask("Is there ascites?", in_domain=False)
    assert outside.source == "domain"
    both = prediction({"ascites": 0.6})
    for record in both.findings:
        record.answers = ["absent", "present"]
    assert answer(Predicted(both, []), load_bundle(), "Is there ascites?").answer.startswith("cannot tell")


def test_what_a_question_is_about():
    assert asked_about("Is there a simple cyst?", TASK).id == "simple_cyst"
    assert asked_about("脂肪肝？", TASK).id == "steatosis"
    assert asked_about("Who won?", TASK) is None
    assert (language_of("有嗎"), language_of("is it")) == ("zh-TW", "en")
