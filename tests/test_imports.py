"""Imports run in no circle and downwards only; and every module can be the first one that is imported.

Read off the syntax trees, so that imports inside functions and for type checkers alone count too.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import squish_pl

PACKAGE = Path(squish_pl.__file__).parent
ROOT = "squish_pl"

#: Rooms from top to bottom; each imports from those below it alone, and from none beside it.
LAYERS: list[set[str]] = [
    {ROOT},  # names for users, looked up when they are asked for
    {"__main__"},
    {"cli", "integrations"},  # the latter stands for itself: nothing imports it
    {"app"},
    {"benchmark", "callbacks"},
    {"module"},
    {"rl"},
    {"policy"},
    {"score"},
    {"types"},
    {"budget"},
    {"lm"},
    {"files", "parallel"},
    {"errors", "seeds", "markdown"},
]
DATA_IMPORTS = {"types", "budget", "lm", "parallel", "errors"}
DATA_IMPORTED_BY = {ROOT, "benchmark", "callbacks", "cli"}
WITH_LIGHTNING = {"module", "data", "callbacks", "cli"}

Graph = Mapping[str, set[str]]

_FIRST_SCRIPT = """
import importlib, pkgutil, sys
import squish_pl

names = [module.name for module in pkgutil.walk_packages(squish_pl.__path__, "squish_pl.")]
elsewhere = {"inspect_ai", "verifiers"}  # whose integrations are there for those who have them
come = 0
for name in names:
    for loaded in [other for other in sys.modules if other.partition(".")[0] == "squish_pl"]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in elsewhere:
            raise
    come += 1
print(come)
"""


def modules(folder: Path) -> dict[str, Path]:
    """The files of a package by their modules' names."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        name = ".".join(path.relative_to(folder.parent).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imported(path: Path) -> set[str]:
    """Full names of all that a file imports: "a.b" for `from a import b`, whether b is a module or not."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def file_graph(folder: Path) -> dict[str, set[str]]:
    """Which module of a package imports which others of it."""
    known = modules(folder)

    def home(name: str) -> str:
        return name if name in known else name.rpartition(".")[0]  # a name out of a module

    return {
        module: {home(name) for name in imported(path) if home(name) in known} - {module}
        for module, path in known.items()
    }


def room(module: str) -> str:
    """The folder or file directly under the package that a module belongs to."""
    return module.split(".")[1] if "." in module else ROOT


def room_graph(files: Graph) -> dict[str, set[str]]:
    """Which room imports which others. `__version__` and the like do not make the root a room below."""
    graph: dict[str, set[str]] = {room(module): set() for module in files}
    for module, others in files.items():
        graph[room(module)] |= {room(other) for other in others} - {room(module), ROOT}
    return graph


def circle(graph: Graph) -> list[str]:
    """One way from a node back to itself, [a, b, a]; empty if there is none."""
    done: set[str] = set()

    def visit(node: str, way: list[str]) -> list[str]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node in done:
            return []
        for other in sorted(graph[node]):
            if found := visit(other, [*way, node]):
                return found
        done.add(node)
        return []

    for node in sorted(graph):
        if found := visit(node, []):
            return found
    return []


def upwards(files: Graph) -> list[str]:
    """Imports that do not go to a room below, as "module imports module"."""
    height = {name: -depth for depth, layer in enumerate(LAYERS) for name in layer}

    def allowed(above: str, below: str) -> bool:
        if above == "data":
            return below in DATA_IMPORTS
        if below == "data":
            return above in DATA_IMPORTED_BY
        return height[below] < height[above]

    return [
        f"{module} imports {other}"
        for module, others in sorted(files.items())
        for other in sorted(others)
        if room(other) not in (room(module), ROOT) and not allowed(room(module), room(other))
    ]


def lightning_importers(paths: Iterable[tuple[str, Path]]) -> set[str]:
    return {
        room(module)
        for module, path in paths
        if any(name.split(".")[0] in ("lightning", "pytorch_lightning") for name in imported(path))
    }


def test_no_circle_between_files() -> None:
    found = circle(file_graph(PACKAGE))
    assert not found, f"files import one another in a circle: {' -> '.join(found)}"


def test_no_circle_between_rooms() -> None:
    found = circle(room_graph(file_graph(PACKAGE)))
    assert not found, f"rooms import one another in a circle: {' -> '.join(found)}"


def test_imports_go_downwards() -> None:
    files = file_graph(PACKAGE)
    unknown = {room(module) for module in files} - set().union(*LAYERS) - {"data"}
    assert not unknown, f"rooms without a place in LAYERS: {sorted(unknown)}"
    found = upwards(files)
    assert not found, "imports that go up or sideways:\n" + "\n".join(found)


def test_the_package_lends_its_version_alone() -> None:
    """Any other name of it would be a way up that no import shows."""
    known = modules(PACKAGE)
    names = {name.split(".", 1)[1] for path in known.values() for name in imported(path) if name.startswith(f"{ROOT}.")}
    assert {name for name in names if "." not in name and f"{ROOT}.{name}" not in known} == {"__version__"}


def test_lightning_stays_in_its_rooms() -> None:
    assert lightning_importers(modules(PACKAGE).items()) <= WITH_LIGHTNING


def test_circles_and_ways_up_are_found(tmp_path: Path) -> None:
    """What the tests above look for, in a package that has all of it."""
    sources = {
        "__init__.py": "from squish_pl.module import Thing",
        "module.py": "from squish_pl.rl import steps\nimport lightning",
        "rl/__init__.py": "",
        "rl/steps.py": "def late():\n    import squish_pl.lm.model as model",
        "rl/more.py": "from squish_pl.data.texts import Text",
        "lm/__init__.py": "",
        "lm/model.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from squish_pl.rl.more import Name",
        "lm/head.py": "from squish_pl.lm.tail import a\nfrom lightning.pytorch import Trainer",
        "lm/tail.py": "from squish_pl.lm import head\nfrom squish_pl import __version__",
        "data/texts.py": "from squish_pl.score import Score\nfrom squish_pl.budget import Budget",
        "score.py": "",
        "budget.py": "",
    }
    for name, source in sources.items():
        (tmp_path / ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ROOT / name).write_text(source)
    files = file_graph(tmp_path / ROOT)
    assert files["squish_pl.rl.steps"] == {"squish_pl.lm.model"}
    assert files["squish_pl.lm.tail"] == {"squish_pl.lm.head", ROOT}
    assert circle(room_graph(files)) == ["lm", "rl", "lm"]
    assert circle({module: files[module] - {ROOT} for module in files}) == [
        "squish_pl.lm.head",
        "squish_pl.lm.tail",
        "squish_pl.lm.head",
    ]
    assert upwards(files) == [
        "squish_pl.data.texts imports squish_pl.score",
        "squish_pl.lm.model imports squish_pl.rl.more",
        "squish_pl.rl.more imports squish_pl.data.texts",
    ]
    assert lightning_importers(modules(tmp_path / ROOT).items()) == {"module", "lm"}


def test_every_module_can_come_first() -> None:
    # in a process of its own: modules that are loaded twice would be strangers to those of other tests
    run = subprocess.run([sys.executable, "-c", _FIRST_SCRIPT], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) == len(modules(PACKAGE)) - 1  # all but the package itself
