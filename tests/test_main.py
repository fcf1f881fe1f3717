"""The command line: help, wrong use, precedence of settings, streams and exit codes.

`nnst` is the fixture that runs a command in this process; where a fresh one matters, as for what
help imports, it is a child.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import shlex
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from nnst import __version__, config
from nnst.errors import ConfigError, InputError, JobFailed, NnstError, PlanChanged, TooManyBad
from workflows import __main__ as command_line
from workflows import commands
from workflows.__main__ import config_class, dispatch, main
from workflows.commands import COMMANDS, Options, Outcome

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "ray", "mlflow")

SHARED = "--config --dry-run --fresh --help --json --set"
FLAGS = {  # held here, so that a new flag is a decision: most settings are for --set
    "demo": "--out",
    "collect": "--allow-private --contact --format --imglab --max-bad --out --refresh"
    " --retry-failed",
    "crop": "--background --beside --max-bad --negative-label --out --window",
    "train": "--background --epochs --gpus-per-worker --model --name --rounds --seed --workers",
    "compare-models": "--background --base --epochs --models --name --seed --workers",
    "mine": "--max-bad --min-width --model --out",
    "scan": "--max-bad --min-width --model --out --since",
    "evaluate": "--learning-curve --target-precision --unlisted",
    "bench": "--min-width --model --threads",
    "report": "--beside --heat --threshold --thumbnails",
    "explain": "--detections --threshold",
    "export": "--boxes-upright --out --threshold --to",
    "convert": "--boxes-upright --pictures --to",
    "label": "--model --out --port",
    "review": "--against --port --reviewer --to",
    "compare": "--out --thumbnails",
    "promote": "--force",
    "pretrain": "--background --leave-out --out",
    "tune": "--at-once --background --base --epochs --model --name --seed --space --trials"
    " --workers",
    "submit": "--address --detach --model --out --stop",  # some of them are of its example
    "status": "",
    "ui": "--port",
}
ARGUMENTS = {
    "demo": (),
    "collect": ("sources...",),
    "crop": ("truth...",),
    "train": ("crops...",),
    "compare-models": ("crops...",),
    "mine": ("archive",),
    "scan": ("archive",),
    "evaluate": ("scan", "truth"),
    "bench": ("archive",),
    "report": ("scan",),
    "explain": ("scan", "image"),
    "export": ("scan",),
    "convert": ("source", "out"),
    "label": ("pictures",),
    "review": ("scan", "out"),
    "compare": ("a", "b"),
    "promote": ("name", "version"),
    "pretrain": ("marks",),
    "tune": ("crops...",),
    "submit": (),
    "status": ("out",),
    "ui": (),
}


def said(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python ARGUMENTS` in a child, from the project's root."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def help_of(verb: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What `nnst VERB --help` prints."""
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


# --- Help


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]], ids=str)
def test_the_overview_names_every_verb_with_its_sentence(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for verb, command in COMMANDS.items():
        assert f"  {verb} " in out
        assert command.summary in out


@pytest.mark.parametrize("verb", COMMANDS)
def test_help_of_a_verb_teaches_it(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence, what is read, what is written, an example, and every setting there is."""
    text, command = help_of(verb, capsys), COMMANDS[verb]
    assert text.startswith(f"usage: nnst {verb}")
    for line in (
        command.summary,
        f"reads:   {command.reads}",
        f"writes:  {command.writes}",
        f"example: {command.example}",
    ):
        assert line in text.splitlines()
    assert command.summary.count(". ") == 0
    assert command.summary.endswith(".")
    for key in settings_of(config_class(verb)):
        flag = f"--{key.rpartition('.')[2].replace('_', '-')} "
        assert f"  {key} " in text or flag in text or key.upper() in text


def settings_of(cls: type) -> list[str]:
    """The dotted names of all settings of a config dataclass, with their help checked."""
    names = []
    for field in dataclasses.fields(cls):
        factory: Any = field.default_factory
        if dataclasses.is_dataclass(factory):
            names += [f"{field.name}.{name}" for name in settings_of(factory)]
        else:
            assert field.metadata["help"], field.name
            names.append(field.name)
    return names


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_flags_of_a_verb_are_these(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = set(help_of(verb, capsys).replace(",", " ").replace("[", " ").split())
    flags = {word for word in words if word.startswith("--") and len(word) > 2}
    assert flags == set(f"{FLAGS[verb]} {SHARED}".split())
    assert COMMANDS[verb].positional == ARGUMENTS[verb]


def test_every_verb_is_in_the_tables_above() -> None:
    assert set(FLAGS) == set(ARGUMENTS) == set(COMMANDS)


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_example_in_the_help_gives_settings_that_the_verb_takes(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as the verb's own work, which is left out here; test_scan and others do that."""
    taken: list[Any] = []

    def run(settings: Any, options: Options) -> Outcome:
        taken.append(settings)
        return Outcome({}, "")

    monkeypatch.setattr(importlib.import_module(f"workflows.{verb.replace('-', '_')}"), "run", run)
    program, *words = shlex.split(COMMANDS[verb].example)
    assert (program, words[0]) == ("nnst", verb)
    assert main(words) == 0
    assert isinstance(taken[0], config_class(verb))


@pytest.mark.parametrize("verb", ["", *COMMANDS])
def test_help_needs_neither_torch_nor_ray_nor_mlflow(verb: str) -> None:
    """They take seconds to import. Nor may the modules of a verb import them on their own."""
    code = f"""
import sys
from workflows.__main__ import main
try:
    main({[verb, "--help"] if verb else ["--help"]})
except SystemExit:
    pass
print(*[name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""
    done = said("-c", code)
    assert done.returncode == 0
    assert done.stderr == "\n"
    assert "usage: nnst" in done.stdout


def test_the_overview_imports_no_verb() -> None:
    code = """
import sys
from workflows.__main__ import main
main(["--help"])
print(*sorted(name for name in sys.modules if name.startswith(("workflows", "nnst", "numpy"))))
"""
    loaded = said("-c", code).stdout.splitlines()[-1].split()
    assert loaded == [
        *("nnst", "nnst.config", "nnst.errors", "workflows", "workflows.__main__"),
        "workflows.commands",
    ]


def test_python_m_workflows_is_the_same_as_nnst() -> None:
    script = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["nnst"]
    assert metadata.EntryPoint("nnst", script, "console_scripts").load() is main
    assert (
        said("-m", "workflows", "--help").stdout
        == said(
            "-c", "import sys; from workflows.__main__ import main; sys.exit(main(['--help']))"
        ).stdout
    )
    assert said("-m", "workflows", "scam").returncode == 2


def test_the_version_is_the_packages_own(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--version", "-V"):
        assert main([flag]) == 0
        assert capsys.readouterr() == (f"nnst {__version__}\n", "")


# --- Wrong use

WRONG = {
    "unknown verb": (["scam"], "no verb 'scam'; did you mean 'scan'?"),
    "verb like no other": (["xyzzy"], "no verb 'xyzzy'; nnst --help lists the verbs"),
    "missing argument": (
        ["scan", "--model", "m/", "--out", "o"],
        "nnst scan lacks ARCHIVE; see nnst scan --help",
    ),
    "missing flags": (
        ["scan", "photos"],
        "nnst scan lacks --model and --out; see nnst scan --help",
    ),
    "missing everything": (["evaluate"], "nnst evaluate lacks SCAN and TRUTH; see nnst evaluate"),
    "missing arguments of many": (["train"], "nnst train lacks CROPS... and --name; see"),
    "one argument too many": (
        ["report", "scan", "other"],
        "nnst report: unrecognized arguments: other; see nnst report --help",
    ),
    "unknown flag": (
        ["report", "scan", "--thumb", "3"],
        "nnst report: unrecognized arguments: --thumb",
    ),
    "flag of another verb": (["report", "scan", "--out", "x"], "unrecognized arguments: --out"),
    "flag without its value": (["ui", "--port"], "nnst ui: argument --port: expected one argument"),
    "no whole number": (["ui", "--port", "five"], "port cannot be 'five'; it takes a whole number"),
    "out of range": (["report", "scan", "--thumbnails", "-1"], "thumbnails must be 0 or more"),
    "not among the choices": (
        ["evaluate", "scan", "truth.xml", "--unlisted", "maybe"],
        "unlisted cannot be 'maybe'; one of skip, negative",
    ),
    "no setting": (
        ["report", "scan", "--set", "thumbnale=3"],
        "no setting 'thumbnale'; did you mean 'thumbnails'?",
    ),
    "no setting of a group": (
        ["scan", "a", "--model", "m/", "--out", "o", "--set", "fanout.cpu=3"],
        "no setting 'cpu' in fanout; did you mean 'cpus'?",
    ),
    "no group": (
        ["report", "scan", "--set", "page.size=3"],
        "no setting 'page'; known are beside, heat, scan, threshold, thumbnails",
    ),
    "no assignment": (["report", "scan", "--set", "thumbnails"], "write --set key=value"),
    "no number": (
        ["crop", "t.xml", "--out", "o", "--set", "validation_share=nan"],
        "validation_share cannot be 'nan'; it takes a finite number",
    ),
    "share beyond one": (
        ["crop", "t.xml", "--out", "o", "--set", "validation_share=1"],
        "validation_share must be in [0, 1), got 1.0",
    ),
    "bad share of the fan-out": (
        ["crop", "t.xml", "--out", "o", "--set", "fanout.max_bad=5"],
        "max_bad must be in [0, 1], got 5.0",
    ),
    "bad share by its flag": (
        ["crop", "t.xml", "--out", "o", "--max-bad", "a few"],
        "max_bad in fanout cannot be 'a few'; it takes a finite number",
    ),
    "fewer than no CPUs": (
        ["crop", "t.xml", "--out", "o", "--set", "fanout.cpus=-1"],
        "cpus and gpus must be 0 or more",
    ),
    "nothing in flight": (
        ["crop", "t.xml", "--out", "o", "--set", "fanout.in_flight=0"],
        "in_flight must be 1 or more, got 0",
    ),
    "both or neither source": (["crop", "--out", "o"], "give truth files, or a background archive"),
    "a window that is none": (
        ["crop", "--background", ".", "--out", "o", "--window", "75by22"],
        "cannot use '75by22' as a window; write WIDTHxHEIGHT, as in 75x22",
    ),
    "fewer than no workers": (
        ["train", "crops", "--name", "m", "--workers", "-1"],
        "workers and gpus_per_worker must be 0 or more",
    ),
    "fewer than no epochs": (
        ["train", "crops", "--name", "m", "--epochs", "-1"],
        "epochs and seed must be 0 or more",
    ),
    "no round of a cascade": (
        ["train", "crops", "--name", "m", "--rounds", "0"],
        "rounds 1 or more",
    ),
    "a share of nothing": (
        ["train", "crops", "--name", "m", "--set", "share=0"],
        "share must be above 0 and at most 1, got 0.0",
    ),
    "a part of a cascade without size": (
        ["train", "crops", "--name", "m", "--set", "cascade.scout_area=0"],
        "scout_area must be 1 or more, got 0",
    ),
    "a part of a cascade as a model": (
        ["train", "crops", "--name", "m", "--model", "scout"],
        "model cannot be 'scout'; one of cascade, lenet, mlp",
    ),
    "nothing to mine": (
        ["mine", "photos", "--model", "m/", "--out", "o", "--set", "per_picture=0"],
        "per_picture and shard_images must be 1 or more",
    ),
    "a name that cannot be": (
        ["train", "crops", "--name", "a/b"],
        "'a/b' cannot be the name of a model; use letters",
    ),
    "no settings file": (
        ["report", "scan", "--config", "none.toml"],
        "no file none.toml; give --config the path of a TOML file",
    ),
    "no such crop set": (["train", "nowhere", "--name", "m"], "nowhere is no crop folder"),
    "no such scan": (["report", "nowhere"], "nowhere is no scan folder"),
    "no such scan to evaluate": (["evaluate", "nowhere", "t.xml"], "nowhere is no scan folder"),
    "no such truth": (["crop", "nowhere.xml", "--out", "o"], "nowhere.xml"),
    "no such archive": (
        ["scan", "nowhere", "--model", "{model}", "--out", "o"],
        "there is no file or folder {here}/nowhere; check the path",
    ),
    "no such model": (["scan", ".", "--model", "nowhere/", "--out", "o"], "is not the folder of"),
    "no such model by name": (
        ["scan", ".", "--model", "nobody", "--out", "o"],
        "no model 'nobody'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_one_line_that_says_what_and_what_to_do(
    case: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mark_model: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    arguments, expected = WRONG[case]
    places = {"model": mark_model, "here": str(tmp_path)}
    assert main([argument.format(**places) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("nnst: ")
    assert expected.format(**places) in err
    assert os.listdir(tmp_path) == []  # nothing half-written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"thumbnails = ", "settings.toml is not TOML"),
        (b"thumbnails = 'x'\n\xff", "cannot read settings.toml"),
        (b"thumbnale = 3", "no setting 'thumbnale'; did you mean 'thumbnails'?"),
        (b"[thumbnails]\na = 3", "thumbnails cannot be"),
    ],
    ids=["no TOML", "no UTF-8", "unknown key", "a table for a number"],
)
def test_a_bad_settings_file_is_named(
    text: bytes,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("settings.toml").write_bytes(text)
    assert main(["report", "scan", "--config", "settings.toml"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert expected in err
    assert len(err.splitlines()) == 1


def test_wrong_use_of_the_program_itself_shows_no_traceback() -> None:
    done = said("-m", "workflows", "scan", "--colour")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == "nnst: nnst scan: unrecognized arguments: --colour; see nnst scan --help\n"
    )


# --- Settings by precedence, through a verb of this file's own


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Options]]:
    """What reached `nnst scan`, which does nothing here."""
    found: list[tuple[Any, Options]] = []

    def run(settings: Any, options: Options) -> Outcome:
        found.append((settings, options))
        return Outcome({"logo": "é", "pictures": 3}, "3 pictures")

    monkeypatch.setattr(importlib.import_module("workflows.scan"), "run", run)
    return found


def test_a_flag_wins_over_set_and_set_over_the_file(
    taken: list[tuple[Any, Options]], tmp_path: Path
) -> None:
    file = tmp_path / "scan.toml"
    file.write_text(
        "model = 'file'\nout = 'file'\nmin_width = 1\nshard_images = 1\nlevels_per_octave = 1\n"
        "[fanout]\nin_flight = 3\ncpus = 0.5\n"
    )
    words = ["scan", "photos", "--config", str(file), "--min-width", "3"]
    sets = ["min_width=2", "shard_images=2", "fanout.cpus=2", "shard_images=4"]
    assert main([*words, *(word for each in sets for word in ("--set", each))]) == 0
    settings, options = taken[0]
    assert (settings.archive, settings.model, settings.out) == ("photos", "file", "file")
    assert settings.min_width == 3  # the flag
    assert settings.shard_images == 4  # the last --set
    assert settings.levels_per_octave == 1  # the file
    assert (settings.fanout.cpus, settings.fanout.in_flight) == (2.0, 3)
    assert settings.iou_threshold == 0.3  # nobody
    assert options == Options(dry_run=False, fresh=False)


def test_a_flag_of_a_group_wins_too_and_leaves_the_rest_of_its_group(
    taken: list[tuple[Any, Options]],
) -> None:
    words = ["scan", "photos", "--model", "m/", "--out", "o", "--max-bad", "0.5"]
    assert main([*words, "--set", "fanout.max_bad=0.1", "--set", "fanout.cpus=2"]) == 0
    fanout = taken[0][0].fanout
    assert (fanout.max_bad, fanout.cpus, fanout.in_flight) == (0.5, 2.0, 2)


def test_a_file_may_hold_all_that_a_verb_needs(
    taken: list[tuple[Any, Options]], tmp_path: Path
) -> None:
    file = tmp_path / "scan.toml"
    file.write_text("archive = 'photos'\nmodel = 'pare'\nout = 'work'\n")
    assert main(["scan", "--config", str(file), "--dry-run", "--fresh"]) == 0
    assert taken[0][0].archive == "photos"
    assert taken[0][1] == Options(dry_run=True, fresh=True)


def test_arguments_and_flags_may_come_in_any_order(
    monkeypatch: pytest.MonkeyPatch, taken: list[tuple[Any, Options]]
) -> None:
    assert main(["scan", "--model", "m", "photos", "--out", "o"]) == 0
    assert main(["scan", "--out", "o", "--model", "m", "photos"]) == 0
    assert taken[0] == taken[1]
    found: list[Any] = []
    evaluate = importlib.import_module("workflows.evaluate")
    monkeypatch.setattr(evaluate, "run", lambda settings, _: found.append(settings) or NOTHING)
    assert main(["evaluate", "scan", "--unlisted", "negative", "truth.xml"]) == 0
    assert (found[0].scan, found[0].truth, found[0].unlisted) == ("scan", "truth.xml", "negative")


NOTHING = Outcome({}, "")


def test_a_flag_that_may_be_repeated_gathers_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    crop = importlib.import_module("workflows.crop")
    monkeypatch.setattr(crop, "run", lambda settings, _: found.append(settings) or NOTHING)
    flags = ["--negative-label", "not, logo", "--negative-label", "other"]
    assert main(["crop", "a.xml", *flags, "b.xml", "--out", "o"]) == 0
    assert found[0].truth == ("a.xml", "b.xml")
    assert found[0].negative_label == ("not, logo", "other")
    assert main(["crop", "--background", "photos", "--out", "o"]) == 0
    assert (found[1].truth, found[1].background) == ((), "photos")


# --- Streams and exit codes


def test_json_is_one_document_on_stdout(
    taken: list[tuple[Any, Options]], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["scan", "photos", "--model", "m", "--out", "o"]
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"logo": "é", "pictures": 3}
    assert err == ""
    assert main(words) == 0
    assert capsys.readouterr() == ("3 pictures\n", "")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("no file x", "check the path"), 2),
        (ConfigError("no setting 'x'"), 2),
        (PlanChanged("o holds another job", "give --fresh"), 2),
        (JobFailed("3 shards failed", "run it again"), 1),
        (TooManyBad("9 of 10 pictures are bad", "look at them"), 3),
        (NnstError("something else"), 1),
        (KeyboardInterrupt(), 130),
        (OSError(28, "No space left on device", "/full"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_every_way_to_fail_has_its_exit_code_and_one_line(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(settings: Any, options: Options) -> Outcome:
        raise error

    monkeypatch.setattr(importlib.import_module("workflows.report"), "run", run)
    assert main(["report", "scan"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    what = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
    assert err.startswith(f"nnst: {what}")


def test_work_that_is_done_with_too_many_bad_pictures_shows_its_result_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = Outcome({"bad": 9}, "9 bad", TooManyBad("9 of 10 pictures are bad", "look at them"))
    monkeypatch.setattr(importlib.import_module("workflows.report"), "run", lambda *_: outcome)
    assert main(["report", "scan"]) == 3
    assert capsys.readouterr() == ("9 bad\n", "nnst: 9 of 10 pictures are bad; look at them\n")


def test_a_fault_of_our_own_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs its traceback."""
    monkeypatch.setattr(importlib.import_module("workflows.report"), "run", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["report", "scan"])


@pytest.mark.parametrize("words", [["--help"], ["scan", "--help"], ["--version"]], ids=" ".join)
def test_a_reader_that_has_seen_enough_is_no_error(words: list[str]) -> None:
    """As `nnst --help | head -1`: the pipe is closed before anything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    # Unbuffered, the error would come at once; as it is, Python meets it when it ends.
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-m", "workflows", *words],
        cwd=ROOT,
        env=buffered,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


# --- The way in for verbs that run others


def test_dispatch_refuses_settings_that_do_not_exist() -> None:
    with pytest.raises(ConfigError, match="did you mean 'thumbnails'"):
        dispatch("report", {"scan": "x", "thumbnale": 3})
    with pytest.raises(ConfigError, match="no value for 'scan'"):
        dispatch("report", {})


def test_dispatch_hands_settings_and_options_on(taken: list[tuple[Any, Options]]) -> None:
    values = {"archive": "a", "model": "m", "out": "o", "fanout": {"cpus": 2}}
    outcome = dispatch("scan", values, Options(fresh=True))
    assert outcome.document["pictures"] == 3
    assert taken == [(config.build(config_class("scan"), values), Options(fresh=True))]


def test_the_names_in_the_table_are_settings_of_the_verbs() -> None:
    for verb, command in commands.COMMANDS.items():
        every = settings_of(config_class(verb))
        names = {*every, *(name.partition(".")[0] for name in every)}
        arguments = {word.removesuffix("...") for word in command.positional}
        assert arguments | set(command.flags) <= names, verb
    assert command_line.EXIT_INTERRUPTED == 130
