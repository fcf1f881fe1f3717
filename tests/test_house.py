"""The house: which module may know which, and that none does anything before it is asked to.

Everything here is read from the source, so a new module is held to it from its first line.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# The reading order: a module imports only what stands before it. A package is one floor.
FLOORS = (
    "errors",
    "stopwatch",
    "config",
    "boxes",
    "records",
    "storage",
    "ledger",
    "images",
    "archive",
    "imglab",
    "formats",
    "crops",
    "scenes",
    "web",
    "models",
    "pyramid",
    "windows",
    "nms",
    "detector",
    "evaluation",
    "training",
    "mining",
    "report",
    "review",
    "pages",  # static files
)
NOT_IN_NNST = ("ray", "mlflow", "workflows", "argparse", "rich")  # where and how, not what
ONLY_IN = {
    "ray": (  # tasks; Train; Tune; jobs
        "workflows/fanout/",
        "workflows/trainer/",
        "workflows/tuner/",
        "workflows/jobs.py",
    ),
    "mlflow": ("workflows/tracking.py", "workflows/tracking/"),
}
NO_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "tools", "lib"}
MOST_LINES, MOST_PARAMETERS = 60, 7


def sources(*folders: str) -> list[Path]:
    """The Python files of these folders."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    """The path from the project's root, as people write it."""
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def base_of(node: ast.ImportFrom, package: list[str]) -> str:
    """The module that `from ... import` names; each dot but the first leaves one package."""
    above = package[: len(package) - node.level + 1] if node.level else []
    return ".".join([*above, node.module] if node.module else above)


def imports_of(tree: ast.AST, package: str) -> Iterator[str]:
    """Every dotted name that the code imports, wherever it stands: in a function, under
    TYPE_CHECKING, by a relative import or through importlib."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = base_of(node, package.split("."))
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            argument = node.args[0]
            yield str(argument.value) if isinstance(argument, ast.Constant) else ""


def imports_in(path: Path) -> set[str]:
    """What a file of the project imports."""
    package = ".".join(path.relative_to(ROOT).parent.parts)
    return set(imports_of(tree_of(path), package))


def floor_of(path: Path) -> str:
    """The module of nnst, or the package, that a file belongs to."""
    return path.relative_to(ROOT / "nnst").parts[0].removesuffix(".py")


def within(name: str, package: str) -> bool:
    """Whether a dotted name is the package or something in it."""
    return name == package or name.startswith(f"{package}.")


NNST = [path for path in sources("nnst") if path != ROOT / "nnst" / "__init__.py"]
VERBS = [
    path
    for path in sources("workflows")
    if any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in tree_of(path).body)
]


def test_the_reader_of_imports_sees_every_form() -> None:
    """Else the tests below would pass by not looking."""
    code = """
import a, a.b as c
from typing import TYPE_CHECKING
from d.e import f, g
from . import h
from .i import j
from ..k import l
if TYPE_CHECKING:
    import m
def function():
    import n
    class Inner:
        from o import p
importlib.import_module("q.r")
import_module("s")
"""
    found = set(imports_of(ast.parse(code), "x.y"))
    expected = "a a.b typing.TYPE_CHECKING d.e.f d.e.g x.y.h x.y.i.j x.k.l m n o.p q.r s"
    assert found == set(expected.split())


def test_there_is_a_house_to_look_at() -> None:
    assert len(NNST) >= 6
    assert len(set(FLOORS)) == len(FLOORS)


# --- Floors


def test_every_module_of_nnst_has_its_floor() -> None:
    assert [name_of(path) for path in NNST if floor_of(path) not in FLOORS] == []


def climbs(path: Path) -> list[str]:
    """The imports of a file that reach its own height or above."""
    own = floor_of(path)
    below = set(FLOORS[: FLOORS.index(own)] if own in FLOORS else FLOORS)
    if path.parent != ROOT / "nnst":
        below.add(own)  # files of one package may know each other
    named = [name.split(".") for name in imports_in(path) if within(name, "nnst")]
    return [
        f"{name_of(path)} imports {'.'.join(parts)}"
        for parts in named
        if len(parts) > 1 and parts[1] not in below and not parts[1].startswith("__")
    ]


def test_a_module_of_nnst_imports_only_what_stands_above_it_in_the_list() -> None:
    assert [climb for path in NNST for climb in climbs(path)] == []


def test_nnst_knows_no_cluster_no_tracking_and_no_command_line() -> None:
    found = [
        f"{name_of(path)} imports {name}"
        for path in sources("nnst")
        for name in sorted(imports_in(path))
        if any(within(name, banned) for banned in NOT_IN_NNST)
    ]
    assert found == []


def test_nnst_imports_nothing_whose_name_is_made_up_at_run_time() -> None:
    """The tests above cannot see such a name."""
    assert [name_of(path) for path in sources("nnst") if "" in imports_in(path)] == []


@pytest.mark.parametrize("package", ONLY_IN)
def test_one_module_knows_the_cluster_and_one_the_tracking(package: str) -> None:
    found = [
        name_of(path)
        for path in sources("nnst", "workflows")
        if any(within(name, package) for name in imports_in(path))
    ]
    assert [name for name in found if not name.startswith(ONLY_IN[package])] == []


def test_verbs_meet_through_files_and_never_import_each_other() -> None:
    """Nor does a module that verbs share import one: it would tie them together."""
    names = {f"workflows.{path.stem}" for path in VERBS} - {"workflows.__main__"}
    found = [
        f"{name_of(path)} imports {name}"
        for path in sources("workflows")
        for name in sorted(imports_in(path))
        for verb in names
        if within(name, verb)
    ]
    assert found == []


# --- One way to fan out: shard functions, the ledger, the fan-out, and nothing beside

COMMITS = {"commit", "succeed"}  # of a ledger
# The demo's set of scenes is drawn by one process, and is a ledger without shards.
MAY_COMMIT = ("workflows/fanout/", "workflows/demo.py")
OTHER_WAYS = ("multiprocessing", "concurrent.futures", "joblib", "subprocess.Popen", "os.fork")


def called_in(path: Path) -> set[str]:
    """The last word of every call of a file: `commit` of `ledger.commit(receipt)`."""
    calls = [node.func for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
    named = [each.attr for each in calls if isinstance(each, ast.Attribute)]
    return {*named, *(each.id for each in calls if isinstance(each, ast.Name))}


def shard_functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [each for each in functions_of(path) if each.name.endswith("_shard")]


def test_only_the_fan_out_commits_what_shards_come_to() -> None:
    files = sources("workflows")
    found = [name_of(path) for path in files if COMMITS & called_in(path)]
    assert [name for name in found if not name.startswith(MAY_COMMIT)] == []
    assert "workflows/fanout/fanning.py" in found  # the reader of calls does see them


def test_every_function_of_a_shard_is_plain_and_handed_to_the_fan_out() -> None:
    """It is named where `fan_out` or `run_tasks` is called, in a verb or in what verbs share."""
    names = {each.name: path for path in sources("workflows") for each in shard_functions(path)}
    assert names.keys() >= {"crop_shard", "scan_shard", "mine_shard"}
    texts = [path for path in sources("workflows") if {"fan_out", "run_tasks"} & called_in(path)]
    sent = {
        node.id
        for path in texts
        for call in ast.walk(tree_of(path))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "partial"
        for node in call.args[:1]
        if isinstance(node, ast.Name)
    }
    assert names.keys() <= sent
    for name, path in names.items():
        (function,) = (each for each in shard_functions(path) if each.name == name)
        assert [arg.arg for arg in parameters_of(function)][1:] == ["shard", "inputs"], name


WRITES = ("write_part", "write_parts")


def test_parts_are_written_by_functions_of_shards_alone() -> None:
    found = {
        f"{name_of(path)}: {function.name}"
        for path in sources("workflows")
        for function in functions_of(path)
        if any(
            isinstance(node, ast.Call) and ast.unparse(node.func).endswith(WRITES)
            for node in ast.walk(function)
        )
    }
    assert [name for name in sorted(found) if not name.endswith("_shard")] == []
    assert len(found) >= 3


def test_no_verb_spreads_work_in_a_way_of_its_own() -> None:
    found = [
        f"{name_of(path)} imports {name}"
        for path in sources("workflows")
        for name in sorted(imports_in(path))
        if any(within(name, other) for other in OTHER_WAYS)
    ]
    assert found == []


def test_places_hold_no_python() -> None:
    assert [name_of(path) for path in sources("cluster")] == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    files = sources("nnst", "workflows", "tests")
    parts = {part.removesuffix(".py") for path in files for part in path.relative_to(ROOT).parts}
    assert sorted(parts & NO_NAMES) == []


# --- Nothing happens at import

IMPORT_ALL = """
import importlib, logging, os, signal, sys, threading, warnings

def state():
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    folders = (".", os.environ["HOME"])
    return {
        "environment": dict(os.environ),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "log handlers": [h for log in loggers for h in getattr(log, "handlers", ())],
        "level of the log": logging.getLogger().level,
        "files": sorted(os.path.join(*e) for f in folders for d, ds, fs in os.walk(f)
                        for e in [(d, n) for n in ds + fs]),
        "warning filters": list(warnings.filters),
        "signal handlers": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)],
        "import path": list(sys.path),
        "working directory": os.getcwd(),
    }

theirs, ours = (names.split(",") for names in sys.argv[1:])
for name in theirs:  # what other packages do when they are imported is not for us to judge
    try:
        importlib.import_module(name)
    except ImportError:
        pass
for stream in (sys.stdout, sys.stderr):
    print("OURS", file=stream, flush=True)
before = state()
for name in ours:
    importlib.import_module(name)
    after = state()
    for key in before:
        if before[key] != after[key]:
            print(f"{name} changes {key}")
    before = after
"""


def dotted(path: Path) -> str:
    """The name by which a file is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_at_import(paths: list[Path]) -> set[str]:
    """Modules of other packages that these files import outside any function."""
    found: set[str] = set()
    for path in paths:
        for node in tree_of(path).body:
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    ours = ("nnst", "workflows", "__future__")
    return {name for name in found if not any(within(name, own) for own in ours)}


def test_nothing_happens_at_import(tmp_path: Path) -> None:
    """No file, no word, no thread, no changed environment, no logging set up."""
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    home.mkdir()
    paths = sources("nnst", "workflows")
    environment = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(home)}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            IMPORT_ALL,
            ",".join(sorted(imported_at_import(paths))),
            ",".join(dotted(path) for path in paths),
        ],
        cwd=work,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )
    said = [stream.partition("OURS\n")[2] for stream in (done.stdout, done.stderr)]
    assert said == ["", ""]
    assert done.returncode == 0, done.stderr


# --- Size and manners of the code


def functions_of(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def parameters_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    """All parameters but self and cls."""
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    starred = [each for each in (given.vararg, given.kwarg) if each]
    first = {"self", "cls"} & {each.arg for each in named[:1]}
    return [*named[len(first) :], *starred]


def test_no_function_is_longer_than_a_page() -> None:
    found = [
        f"{name_of(path)}: {function.name} has {length} lines"
        for path in sources("nnst", "workflows")
        for function in functions_of(path)
        if (length := (function.end_lineno or 0) - function.lineno + 1) > MOST_LINES
    ]
    assert found == []


def test_no_function_takes_more_than_seven_parameters() -> None:
    found = [
        f"{name_of(path)}: {function.name} takes {count}"
        for path in sources("nnst", "workflows")
        for function in functions_of(path)
        if (count := len(parameters_of(function))) > MOST_PARAMETERS
    ]
    assert found == []


def public_of(
    body: list[ast.stmt],
) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Public functions and classes, and the public functions of those classes."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("_"):
                continue
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public_of(node.body)


def test_every_module_says_what_it_is_for() -> None:
    found = [path for path in sources("nnst", "workflows") if not ast.get_docstring(tree_of(path))]
    assert [name_of(path) for path in found] == []


def test_every_public_function_and_class_of_nnst_has_a_docstring() -> None:
    inherited = ("forward", "__")  # torch's own name for what a network does
    found = [
        f"{name_of(path)}: {node.name}"
        for path in sources("nnst")
        for node in public_of(tree_of(path).body)
        if not ast.get_docstring(node) and not node.name.startswith(inherited)
    ]
    assert found == []


def test_every_function_of_nnst_is_annotated_in_full() -> None:
    found = [
        f"{name_of(path)}: {function.name}"
        for path in sources("nnst", "workflows")
        for function in functions_of(path)
        if function.returns is None
        or not all(parameter.annotation for parameter in parameters_of(function))
    ]
    assert found == []


# --- No trace of the machine it was written on

# Ray's container image has a home of its own, and tests have one for a person who is not real.
PLACE = re.compile(r"(?<![\w.})*-])/(?:work|root|home(?!/ray\b|/me\b)|tmp/venv)/")


def texts() -> Iterator[tuple[str, str]]:
    """Each text file of the project: its name and its lines."""
    folders = ("nnst", "workflows", "cluster", "tests", ".ci")
    below = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    for path in sorted([*ROOT.glob("*.*"), *below]):
        if not path.is_file() or path.name == ".gitignore" or "__pycache__" in path.parts:
            continue  # .gitignore writes the project's own folders in this way
        try:
            yield name_of(path), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("open('/wo" + "rk/main/a')", True),
        ("cd /ro" + "ot/.cache", True),
        ("/ho" + "me/anna/pictures", True),
        ("/home/ray/nnst", False),
        ("/home/me/pictures", False),
        ("../work/crops", False),
        ("work/crops", False),
        ("https://example.org/home/index.html", False),
        ("{root}/work/crops", False),
    ],
)
def test_a_place_on_one_machine_is_told_from_a_place_in_the_project(
    text: str, expected: bool
) -> None:
    assert bool(PLACE.search(text)) is expected


def test_no_file_names_a_place_on_one_machine() -> None:
    found = [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if PLACE.search(line)
    ]
    assert found == []
