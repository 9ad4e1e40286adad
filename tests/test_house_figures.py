"""Each figure of the house counts a known fault in a made-up tree and leaves its clean neighbour alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import house
import pytest
from house_counts import House
from house_figures import FIGURES, main

KEYS = [
    "circles",
    "upward",
    "over_50_pct",
    "branches_over_15_pct",
    "unannotated",
    "public_without_docstring_pct",
    "lines_over_110",
    "tuple_assignments_pct",
    "untyped_public_returns",
    "training_loops",
    "case_roads",
    "modality_files",
    "sign_matrix_files",
    "json_without_schema",
]
FIGURE = {f.key: f for f in FIGURES}


def tree(root: Path, files: dict[str, str]) -> House:
    """A source tree of these files (path → text), read."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    return House(root)


def found(root: Path, key: str, files: dict[str, str]) -> list[str]:
    """ "path name" of each place that counts against a key."""
    return [f"{p.path} {p.name}" for p in FIGURE[key].places(tree(root, files))]


@pytest.fixture
def three_floors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The floors of the made-up trees, so that moves in the real house do not touch these tests."""
    monkeypatch.setattr(house, "FLOORS", [["apps/viewer"], ["top"], ["middle", "side"], ["io"]])


@pytest.mark.usefixtures("three_floors")
def test_circles(tmp_path):
    places = found(
        tmp_path,
        "circles",
        {
            "medfuse/middle/a.py": "from ..side import b",
            "medfuse/side/b.py": "def later() -> None:\n    from medfuse.middle.a import x",
            "medfuse/io/one.py": "from .two import x",
            "medfuse/io/two.py": "import medfuse.io.one",
            "medfuse/io/scan.py": """
                from typing import TYPE_CHECKING
                if TYPE_CHECKING:
                    from .entry import Entry
                """,
            "medfuse/io/entry.py": "from .scan import x",
            "medfuse/top/t.py": "from ..io import scan, entry",
        },
    )
    assert places == [
        "medfuse/middle/a.py rooms middle ↔ side",
        "medfuse/io/one.py modules medfuse.io.one ↔ medfuse.io.two",
        "medfuse/middle/a.py modules medfuse.middle.a ↔ medfuse.side.b",
    ]


@pytest.mark.usefixtures("three_floors")
def test_upward_imports(tmp_path):
    places = found(
        tmp_path,
        "upward",
        {
            "medfuse/__init__.py": "__version__ = '0'",
            "medfuse/io/__init__.py": "",
            "medfuse/io/scan.py": "from .. import __version__\nfrom ..top import run",
            "medfuse/io/door.py": "def go() -> None:\n    from apps.viewer.server import serve",
            "medfuse/side/b.py": "from ..middle import a\nfrom ..io.scan import x",
            "medfuse/middle/a.py": "",
            "medfuse/top/run.py": "from ..middle.a import x",
            "medfuse/top/__init__.py": "from .run import x",
            "medfuse/garage/car.py": "",
            "apps/viewer/server.py": "from medfuse.top import run",
        },
    )
    assert places == [
        "medfuse/garage/car.py the room garage is on no floor",
        "medfuse/io/door.py imports apps.viewer.server",
        "medfuse/io/scan.py imports medfuse.top.run",
    ]


def test_functions_over_50_lines_and_their_share(tmp_path):
    long, fits = "def long():\n" + "    x = 1\n" * 50, "def fits():\n" + "    x = 1\n" * 49
    files = {"medfuse/io/a.py": long + fits, "apps/viewer/b.py": fits + "class A:\n    def fits(self): ...\n"}
    assert found(tmp_path, "over_50_pct", files) == ["medfuse/io/a.py long"]
    assert FIGURE["over_50_pct"].value(House(tmp_path)) == 25


def test_branches(tmp_path):
    every_kind = """
        def {name}(x):
            if x: pass                        # 2, with the function itself
            elif x: pass                      # 3
            for i in x: pass                  # 4
            while x: pass                     # 5
            try: pass
            except ValueError: pass           # 6
            except OSError: pass              # 7
            match x:
                case 1: pass                  # 8
                case _: pass                  # 9
            y = 1 if x else 2                 # 10
            z = [a for a in x for b in a]     # 12
            def inside(x):
                return x and x and x          # 15
        """
    files = {
        "medfuse/a.py": dedent(every_kind.format(name="at_the_limit")),
        "medfuse/b.py": dedent(every_kind.format(name="over")) + "    if x: pass\n",
    }
    assert found(tmp_path, "branches_over_15_pct", files) == ["medfuse/b.py over"]


def test_functions_without_types(tmp_path):
    source = """
        class A:
            def method(self, x: int) -> None: ...
            @classmethod
            def made(cls) -> A: ...
            @staticmethod
            def loose(x) -> None: ...
            def silent(self): ...
        def fine(x: int, *rest: int, **named: int) -> None: ...
        def star(*rest) -> None: ...
        def outer() -> None:
            def inner(x) -> None: ...
        """
    assert found(tmp_path, "unannotated", {"medfuse/a.py": source}) == [
        "medfuse/a.py star",
        "medfuse/a.py A.loose",
        "medfuse/a.py A.silent",
        "medfuse/a.py outer.inner",
    ]


def test_public_functions_without_docstring(tmp_path):
    source = '''
        def told():
            """What it does."""
            def inside(): ...
        def untold(): ...
        def _private(): ...
        class A:
            def untold(self): ...
        class _Hidden:
            def untold(self): ...
        '''
    files = {"medfuse/a.py": source}
    assert found(tmp_path, "public_without_docstring_pct", files) == [
        "medfuse/a.py untold",
        "medfuse/a.py A.untold",
    ]
    assert FIGURE["public_without_docstring_pct"].value(House(tmp_path)) == 66.67


def test_long_lines(tmp_path):
    files = {
        "medfuse/a.py": "#" * 110 + "\n",
        "tests/test_a.py": "\n" + "#" * 111 + "\n",
        "benchmarks/b.py": "#" * 200,
        "docs/conf.py": "#" * 200,
    }
    assert found(tmp_path, "lines_over_110", files) == [
        "tests/test_a.py 111 characters",
        "benchmarks/b.py 200 characters",
    ]


def test_tuple_assignments(tmp_path):
    source = """
        a, b = 1, 2
        c, d = f()
        e = 1, 2
        for g, h in ((1, 2),): pass
        """
    assert found(tmp_path, "tuple_assignments_pct", {"medfuse/a.py": source}) == ["medfuse/a.py (a, b)"]
    assert FIGURE["tuple_assignments_pct"].value(House(tmp_path)) == 33.33


def test_untyped_public_returns(tmp_path):
    source = """
        Loose = dict[str, Any]
        Typed = dict[str, int]
        def bare() -> dict: ...
        def rows() -> list[dict]: ...
        def anything() -> typing.Any: ...
        def deep() -> tuple[Path, Iterator[dict] | None]: ...
        def hidden() -> Loose: ...
        def typed() -> dict[str, list[int]]: ...
        def named() -> Typed: ...
        def takes(x: dict) -> int: ...
        def as_json() -> dict: ...
        def _private() -> dict: ...
        """
    assert [p.split()[1] for p in found(tmp_path, "untyped_public_returns", {"medfuse/a.py": source})] == [
        "bare",
        "rows",
        "anything",
        "deep",
        "hidden",
    ]


def test_training_loops(tmp_path):
    source = """
        def train(optimiser):
            def once(loss):
                loss.backward()
            optimiser.step()
        def saliency(score):
            score.backward()
        class Service:
            def run(self):
                self.step()
        """
    assert found(tmp_path, "training_loops", {"medfuse/a.py": source}) == ["medfuse/a.py train"]


def test_roads_to_a_case(tmp_path):
    files = {
        "medfuse/case.py": "class Case:\n    def visible(self) -> Case: ...",
        "medfuse/io/read.py": """
            def open_case(source: Path) -> Case: ...
            def shortcut(path: Path) -> Case: ...
            def part(path: Path) -> Case: ...
            def _hidden(path: Path) -> Case: ...
            """,
        "medfuse/io/scan.py": "from .read import part\npart(1)",
        "medfuse/workflows/predict.py": """
            from ..io.read import open_case, shortcut
            def through_the_door(path: Path) -> Case:
                return open_case(path)
            def around(path: Path) -> tuple[Case, int] | None:
                return shortcut(path), 1
            def changed(case: Case) -> Case: ...
            """,
        "medfuse/library/cases.py": """
            def load_case(case_id: str) -> Case: ...
            def add_files(files: list[Path]) -> str:
                return keep(Case(files))
            """,
    }
    assert found(tmp_path, "case_roads", files) == [
        "medfuse/io/read.py open_case",
        "medfuse/io/read.py shortcut",
        "medfuse/library/cases.py add_files",
        "medfuse/workflows/predict.py around",
    ]


def test_files_that_name_a_modality(tmp_path):
    files = {
        "medfuse/a.py": 'if modality == "US" or "CT" in names: pass',
        "medfuse/b.py": 'def f():\n    "CT"\n    return "CT of the liver", US',
    }
    assert found(tmp_path, "modality_files", files) == ["medfuse/a.py CT, US in 2 places"]


@pytest.mark.parametrize(
    "source",
    [
        "m = np.diag([-1.0, -1, 1])",
        "m = points * (-1, -1, 1)",
        "m = [[-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]",
        "m[..., :2] *= -1",
    ],
)
def test_sign_matrices(tmp_path, source):
    files = {
        "medfuse/a.py": source,
        "medfuse/b.py": "m = np.diag([1, 1, -1]), (-1, -1), [[1, 0], [0, 1]]\nm[:2] *= 2",
    }
    assert found(tmp_path, "sign_matrix_files", files) == ["medfuse/a.py 1 of them"]


def test_json_without_schema(tmp_path):
    files = {
        "data_schemas/known.schema.json": "{}",
        "medfuse/io/a.py": '''
            """What is said of loud.json in words is not a file."""
            def save(out, model):
                (out / "known.json").write_text(json.dumps(model))
                put("unknown.json", model)
                tokenizer.save(str(out / "tokenizer.json"))
                raise UserError("no card.json here")
            def beside(out, x):
                out.with_suffix(".json").write_text(x)
            def numbered(out, n):
                return out / f"{n}.json"
            def to_a_persons_file(out, rows):
                out.write_text("".join(json.dumps(r) for r in rows))
            def shown(x):
                print(json.dumps(x))
            def kind(path):
                return path.suffix in (".json", ".jsonl") or path.suffix == ".json"
            ''',
        "medfuse/deidentify/folder.py": 'path = out / "report.json"',
    }
    assert sorted(found(tmp_path, "json_without_schema", files)) == [
        "medfuse/deidentify/folder.py deidentification (report.json)",
        "medfuse/io/a.py medfuse/io/a.py: in beside (in beside)",
        "medfuse/io/a.py medfuse/io/a.py: in numbered (in numbered)",
        "medfuse/io/a.py medfuse/io/a.py: in to_a_persons_file (in to_a_persons_file)",
        "medfuse/io/a.py unknown (unknown.json)",
    ]


LOOP = 'def fit(x: int) -> None:\n    """The loop."""\n    x.backward()\n    x.step()\n'
CLEAN = {
    "medfuse/io/read.py": 'def open_case(source: Path) -> Case:\n    """The door."""\n',
    "medfuse/training/loop.py": LOOP,
}


def test_check_names_what_is_missed(tmp_path, capsys):
    tree(tmp_path, CLEAN)
    assert main(["--check"], tmp_path) == 0
    assert capsys.readouterr().out == "every goal is met\n"
    (tmp_path / "medfuse/training/loop.py").write_text("def late():\n    return 1\n")
    assert main(["--check"], tmp_path) == 1
    assert capsys.readouterr().out.splitlines() == [
        "unannotated is 1, the goal is 0",
        "public_without_docstring_pct is 50, the goal is ≤ 5 %",
        "training_loops is 0, the goal is 1",
    ]


def test_list_names_places_by_room(tmp_path, capsys):
    source = "def loose(): ...\n"
    tree(
        tmp_path, {"medfuse/io/a.py": "\n" + source, "medfuse/batch/b.py": source, "apps/viewer/c.py": source}
    )
    assert main(["--list", "unannotated"], tmp_path) == 0
    assert capsys.readouterr().out.splitlines() == [
        "unannotated: 3",
        "  apps/viewer/c.py:1 loose",
        "  medfuse/batch/b.py:1 loose",
        "  medfuse/io/a.py:2 loose",
    ]


def test_the_script_itself_counts_this_house():
    script = Path(__file__).with_name("house_figures.py")
    done = subprocess.run([sys.executable, script, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert list(values) == KEYS
    assert values["circles"] == values["upward"] == 0
    # a counter that finds none of these in the real sources is blind
    assert all(values[k] >= 1 for k in ("training_loops", "case_roads", "modality_files"))


def test_the_table_has_a_row_for_each_key(tmp_path, capsys):
    tree(tmp_path, CLEAN)
    assert main([], tmp_path) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [r.split("`")[1] for r in rows[2:]] == KEYS
    assert "| `over_50_pct` | 0 % | ≤ 2 % |" in rows[4]
