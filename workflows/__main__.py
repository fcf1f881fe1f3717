"""`nnst VERB ...` and `python -m workflows VERB ...`: the command line, and the way to a verb."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import importlib
import json
import os
import sys
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from nnst import __version__, config
from nnst.errors import InputError, JobEnded, NnstError, TooManyBad
from workflows.commands import COMMANDS, Command, Options, Outcome

EXIT_FAILED, EXIT_USAGE, EXIT_BAD, EXIT_INTERRUPTED = 1, 2, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong usage or input,
    3 done with too many bad pictures, 130 interrupted."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(argv)
    except NnstError as error:
        print(f"nnst: {error}", file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        print("nnst: interrupted; run the same command again to go on", file=sys.stderr)
        return EXIT_INTERRUPTED
    except OSError as error:  # a full disk, a folder that may not be written
        print(f"nnst: {error}; put that right and run the same command again", file=sys.stderr)
        return EXIT_FAILED


def exit_code(error: NnstError) -> int:
    """The exit code that an error ends a command with."""
    if isinstance(error, JobEnded):
        return error.code
    if isinstance(error, InputError):
        return EXIT_USAGE
    return EXIT_BAD if isinstance(error, TooManyBad) else EXIT_FAILED


def dispatch(verb: str, values: Mapping[str, Any], options: Options | None = None) -> Outcome:
    """Run a verb with these settings (nested values, the rest default) in this process."""
    module = importlib.import_module(f"workflows.{verb.replace('-', '_')}")
    settings: Any = config.build(config_class(verb), values)
    return typing.cast(Outcome, module.run(settings, options or Options()))


def config_class(verb: str) -> type:
    """The config dataclass of a verb: `ScanConfig` of `workflows/scan.py` for scan."""
    module = importlib.import_module(f"workflows.{verb.replace('-', '_')}")
    return typing.cast(type, getattr(module, f"{verb.title().replace('-', '')}Config"))


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        _print(_overview())
        return 0
    if argv[0] in ("-V", "--version"):
        _print(f"nnst {__version__}")
        return 0
    verb, parsed = _parsed(argv)
    options = Options(dry_run=parsed.pop("dry_run"), fresh=parsed.pop("fresh"))
    as_json = parsed.pop("json")
    values = _values(parsed)
    _check_given(verb, values)
    outcome = _ran(verb, values, options)
    _print(json.dumps(outcome.document, indent=1) if as_json else outcome.text)
    if outcome.error is not None:
        raise outcome.error
    return 0


def _ran(verb: str, values: Mapping[str, Any], options: Options) -> Outcome:
    """What the verb did; inside a submitted job it is refused relative paths."""
    from nnst import storage  # not above: the overview needs neither
    from workflows import submitted

    with storage.lasting(submitted.lost_folder()):
        return dispatch(verb, values, options)


def check_command(argv: Sequence[str]) -> str:
    """The verb of a command that could be run. Raises InputError where it could not."""
    verb, parsed = _parsed(argv)
    for name in ("dry_run", "fresh", "json"):
        parsed.pop(name)
    values = _values(parsed)
    _check_given(verb, values)
    config.build(config_class(verb), values)
    return verb


def _parsed(argv: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The verb of a command, and what its arguments and flags say."""
    verb = argv[0]
    if verb not in COMMANDS:
        close = difflib.get_close_matches(verb, COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "nnst --help lists the verbs"
        raise InputError(f"no verb {verb!r}", hint)
    own, rest = list(argv[1:]), COMMANDS[verb].rest
    behind: list[str] = []
    if rest and "--" in own:  # argparse would take the flags in it for ours
        mark = own.index("--")
        own, behind = own[:mark], own[mark + 1 :]
    parsed = vars(_parser(verb, COMMANDS[verb]).parse_intermixed_args(own))
    return verb, parsed | ({rest: behind} if rest else {})


def _values(parsed: dict[str, Any]) -> dict[str, Any]:
    """Settings by precedence: file, then --set, then the flags that were given."""
    file, assignments = parsed.pop("config"), parsed.pop("set")
    values = config.override(config.read(file) if file else {}, assignments)
    given = {name: value for name, value in parsed.items() if value not in (None, [])}
    grouped = [f"{name}={given.pop(name)}" for name in list(given) if "." in name]
    return config.override(values, grouped) | given


def _check_given(verb: str, values: Mapping[str, Any]) -> None:
    """Raise when an argument is neither on the command line nor in the file."""
    command = COMMANDS[verb]
    words = {word.removesuffix("..."): word.upper() for word in command.positional}
    words |= {name: _flag(name) for name in command.flags}
    words |= {command.rest: "-- VERB ..."}
    required = {
        field.name for field in dataclasses.fields(config_class(verb)) if _is_required(field)
    }
    missing = [word for name, word in words.items() if name in required and name not in values]
    if missing:
        raise InputError(f"nnst {verb} lacks {' and '.join(missing)}", f"see nnst {verb} --help")


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _flag(name: str) -> str:
    """`--max-bad` of `fanout.max_bad`."""
    return f"--{name.rpartition('.')[2].replace('_', '-')}"


def _print(text: str) -> None:
    """Write a result to stdout. That its reader, `head` say, has seen enough is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python flushes once more as it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _overview() -> str:
    width = max(map(len, COMMANDS))
    verbs = "\n".join(f"  {verb:<{width}}  {item.summary}" for verb, item in COMMANDS.items())
    return (
        "nnst finds a logo in an archive of pictures.\n\n"
        f"usage: nnst VERB ...\n\nverbs:\n{verbs}\n\n"
        "nnst VERB --help says what a verb reads and writes, with an example.\n"
        "First time here: nnst demo"
    )


class _Parser(argparse.ArgumentParser):
    """Wrong usage is one line on stderr and exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog}: {message}", f"see {self.prog} --help")

    def print_help(self, file: Any = None) -> None:
        _print(self.format_help().rstrip())


def _parser(verb: str, command: Command) -> _Parser:
    cls = config_class(verb)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    parser = _Parser(
        prog=f"nnst {verb}",
        usage=_usage(verb, command, fields),
        description=command.summary,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_epilog(command, fields),
        allow_abbrev=False,
    )
    for word in command.positional:
        name = word.removesuffix("...")
        text = fields[name].metadata["help"].replace("%", "%%")
        # None is required here: a file of settings may hold it.
        nargs = "*" if word.endswith("...") else "?"
        parser.add_argument(name, metavar=name.upper(), help=text, nargs=nargs)
    for name in command.flags:
        _add_flag(parser, name, *_field(cls, name))
    _add_common(parser)
    return parser


def _usage(verb: str, command: Command, fields: Mapping[str, dataclasses.Field[Any]]) -> str:
    words = ["nnst", verb]
    for word in command.positional:
        optional = not _is_required(fields[word.removesuffix("...")])
        words.append(f"[{word.upper()}]" if optional else word.upper())
    required = [name for name in command.flags if name in fields and _is_required(fields[name])]
    words += [*(f"{_flag(name)} {name.upper()}" for name in required), "[flags]"]
    return " ".join([*words, "-- VERB ..."] if command.rest else words)


def _field(cls: type, name: str) -> tuple[dataclasses.Field[Any], Any]:
    """The field of this name, or of `group.name` in a group, and its type."""
    group, _, rest = name.partition(".")
    (field,) = (each for each in dataclasses.fields(cls) if each.name == group)
    hint = typing.get_type_hints(cls)[group]
    return _field(hint, rest) if rest else (field, hint)


def _add_flag(parser: _Parser, name: str, field: dataclasses.Field[Any], hint: Any) -> None:
    flag = _flag(name)
    text = field.metadata["help"].replace("%", "%%")
    if field.default not in (dataclasses.MISSING, None, "", ()):
        text += f" (default {field.default})"
    if hint is bool:
        parser.add_argument(flag, dest=name, action="store_true", default=None, help=text)
        return
    action = "append" if typing.get_origin(hint) is tuple else "store"
    parser.add_argument(flag, dest=name, action=action, metavar=field.name.upper(), help=text)


def _add_common(parser: _Parser) -> None:
    shared = parser.add_argument_group("flags of every verb")
    shared.add_argument("--config", metavar="FILE", help="a TOML file of settings")
    shared.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="one setting, see below"
    )
    shared.add_argument("--json", action="store_true", help="one JSON document on stdout")
    shared.add_argument("--dry-run", action="store_true", help="the plan and nothing else")
    shared.add_argument("--fresh", action="store_true", help="start the output folder anew")


def _epilog(command: Command, fields: Mapping[str, dataclasses.Field[Any]]) -> str:
    arguments = {word.removesuffix("...") for word in command.positional} | {*command.flags}
    arguments.add(command.rest)
    every = {name: line for field in fields.values() for name, line in _lines(field)}
    settings = [line for name, line in every.items() if name not in arguments]
    text = f"reads:   {command.reads}\nwrites:  {command.writes}\nexample: {command.example}"
    if command.rest:
        text += f"\n\nlast of all:\n{_lines(fields[command.rest])[0][1]}"
    return text + ("\n\nsettings (--set KEY=VALUE):\n" + "\n".join(settings) if settings else "")


def _lines(field: dataclasses.Field[Any], prefix: str = "") -> list[tuple[str, str]]:
    """Name and help of a setting, or of every setting of a group."""
    factory = field.default_factory
    if factory is not dataclasses.MISSING and dataclasses.is_dataclass(factory):
        inner = dataclasses.fields(typing.cast(type, factory))
        return [line for item in inner for line in _lines(item, f"{prefix}{field.name}.")]
    default = field.default
    if default is factory is dataclasses.MISSING:
        return [(prefix + field.name, f"  {prefix + field.name:<28} {field.metadata['help']}")]
    if isinstance(default, tuple):
        default = ",".join(map(str, default)) or "none"
    name = prefix + field.name
    return [(name, f"  {name:<28} {field.metadata['help']} (default {default})")]


if __name__ == "__main__":
    sys.exit(main())
