"""A message names only what works if followed: what messages name is there, and each remedy is followed.

Texts are found in the source, so a message that is added later is asked the same. `mistakes/` holds, by rooms
of the package, one row for each remedy: the mistake, what the message must say, and that being done.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest
import typer

import grokinterp as gi
from grokinterp.cli import app
from grokinterp.models import KINDS
from grokinterp.models.hooked import HookedTransformer
from grokinterp.tasks import TASKS, task_parameters
from grokinterp.training.config import SnapshotConfig, TrainingConfig
from mistakes import NOT_FOLLOWED, ROOMS, Mistake, World
from test_hub import hub  # noqa: F401  a fixture

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PACKAGE = Path(gi.__file__).parent
VERBS = (
    "add annotate ask begin call change check choose define end fetch Fetch fit free give install keep leave "
    "load make mend move name narrow open pass push put record register remove rename replay restore return "
    "run save say Say see set start stop take train try unpack use wait widen write"
)
REMEDY = re.compile(
    rf"(?:[:;.,] |\bor |^(?!train)(?=(?:\S+ ){{3}}))(?:{VERBS.replace(' ', '|')}) \S"
    r"|\b(?:needs|with|or) --[a-z]|--[a-z-]+ or|--\w+ (?:asks|prints|fetches)|`(?:grokinterp|hf) "
    r"|: grokinterp |^Next: |\bgi\.\w+\(|did you mean|such as |= asks for|pip install"
)
"""An imperative behind a colon, a semicolon or a comma; a command, a function, an option, an example."""
NO_MESSAGES = [
    "cli/index.py", "training/presets.py", "report/replay_page.py", "report/words.py", "report/page.py",
    "report/drawing.py",
]  # fmt: skip
"""Prose of pages and tables."""
QUIET = {"typer.Option", "typer.Argument", "command", "measure", "claim", "asks"}
"""Calls whose texts are no messages: help of options, examples of commands, what a measure is."""


@dataclass(frozen=True)
class Text:
    """A text of the source that is no docstring.

    Attributes:
        place: the file and the line at which it begins.
        words: it, with {} where something is put in; where that is `nearest(...)`, what it says.
        may_be_message: whether somebody who makes a mistake may read it.
    """

    place: str
    words: str
    may_be_message: bool

    @property
    def pattern(self) -> re.Pattern[str]:
        """What it looks like with anything put in."""
        parts = (re.escape(" ".join(f"<{part}>".split()))[1:-1] for part in self.words.split("{}"))
        return re.compile(".*".join(parts), re.DOTALL)


@cache
def texts() -> list[Text]:
    """Every text of the package."""
    return [
        text
        for file in sorted(PACKAGE.rglob("*.py"))
        for text in _texts_in(ast.parse(file.read_text()), file.relative_to(PACKAGE).as_posix())
    ]


def _texts_in(node: ast.AST, file: str, said: bool = True) -> Iterator[Text]:
    if isinstance(node, ast.Call) and ast.unparse(node.func) in QUIET:
        said = False
    if isinstance(node, ast.keyword) and node.arg in ("doc", "ref", "help", "unit"):
        said = False
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple):
        return  # the shape of a tensor, in an annotation
    if isinstance(node, ast.JoinedStr):
        yield Text(f"{file}:{node.lineno}", "".join(map(_words, node.values)), said)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield Text(f"{file}:{node.lineno}", node.value, said)
    for child in ast.iter_child_nodes(node):
        is_docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        is_part = isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)
        if not is_docstring and not is_part:
            yield from _texts_in(child, file, said)


def _words(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    is_nearest = isinstance(part, ast.FormattedValue) and ast.unparse(part.value).startswith("nearest(")
    return "; did you mean '{}'?" if is_nearest else "{}"


def remedies() -> list[Text]:
    """Texts of messages that say what to do."""
    return [
        text
        for text in texts()
        if text.may_be_message
        and " " in text.words.strip()
        and "\n\n" not in text.words
        and text.place.partition(":")[0] not in NO_MESSAGES
        and REMEDY.search(text.words)
    ]


# What messages name is there


COMMANDS: dict[str, typer.core.TyperCommand] = typer.main.get_command(app).commands
OPTIONS = {
    name: {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for name, command in COMMANDS.items()
}
ANYWHERE = {"--help", "--debug", "--version", "--install-completion", "--show-completion"}
ANYWHERE |= {"--address"}  # of Ray
CSS = ["report/drawing.py", "report/palette.py"]
"""Where two dashes begin the name of a colour or a length."""
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
SECTIONS = {"training": TrainingConfig, "snapshots": SnapshotConfig}
OBJECTS = {"task": gi.Task, "model": HookedTransformer}
"""What the names of sections are in Python. A file is model.safetensors; run.json has other keys."""
CLASSES = {"gi": gi, "run": gi.Run, "view": gi.View}


@cache
def dotted_keys() -> dict[str, set[str]]:
    """The keys of each section of a configuration, of any task and any kind of network; and what is called as
    it in Python has behind its dot."""
    keys = {section: set(model.model_fields) for section, model in SECTIONS.items()}
    keys["model"] = {key for kind in KINDS.values() for key in kind.model_fields}
    keys["task"] = {"name"} | {key for name in TASKS for key in task_parameters(name).model_fields}
    return {section: each | set(dir(OBJECTS.get(section))) for section, each in keys.items()}


def wrong_commands(words: str) -> Iterator[str]:
    """Commands that are not there, and options that a command has not."""
    for quoted, name, rest in re.findall(r"(`?)\bgrokinterp ([a-z]+)\b([^`\n]*)", words):
        if name not in COMMANDS:
            if quoted:
                yield f"no command {name}"
            continue
        arguments = rest.partition("#")[0]
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", arguments):
            if option not in OPTIONS[name] | ANYWHERE:
                yield f"grokinterp {name} has no {option}"
    for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", words):
        if option not in set().union(*OPTIONS.values(), ANYWHERE):
            yield f"no command has {option}"


def wrong_names(words: str) -> Iterator[str]:
    """Names of the API that are not there, and arguments that a function does not take."""
    for home, name, call in re.findall(r"(?<![\w./])(gi|run|view)\.([A-Za-z_][\w.]*)(\([^()]*\))?", words):
        if home != "gi" and not call:
            continue
        thing = CLASSES[home]
        for part in name.rstrip(".").split("."):
            if isinstance(thing, cached_property | property):
                break  # what that gives is not of this package, or is made later
            if not hasattr(thing, part) and part not in getattr(thing, "__annotations__", {}):
                yield f"no {home}.{name}"
                break
            thing = getattr(thing, part, None)
        else:
            taken = inspect.signature(thing).parameters if call else {}
            for argument in re.findall(r"\b(\w+)=", call):
                if argument not in taken and not any(
                    each.kind == each.VAR_KEYWORD for each in taken.values()
                ):
                    yield f"{home}.{name} takes no {argument}"


def wrong_keys(words: str) -> Iterator[str]:
    """Dotted keys that no section of a configuration has."""
    known = dotted_keys()
    dotted = rf"(?<![\w./@{{])(?<!run\.json: )({'|'.join(known)})\.(?!safetensors)([a-z]\w*)(\{{\}})?"
    for section, key, is_begun in re.findall(dotted, words):
        if not any(each.startswith(key) if is_begun else each == key for each in known[section]):
            yield f"no key {section}.{key}"


def wrong_files(words: str) -> Iterator[str]:
    """Pages that are not there, and extras that the package has not."""
    for page in re.findall(r"\bdocs/[\w/-]+\.md", words):
        if not (ROOT / page).is_file():
            yield f"no {page}"
    for extra in re.findall(r"grokinterp\[(\w+)\]", words):
        if extra not in EXTRAS:
            yield f"no extra {extra}"


@pytest.mark.parametrize("wrong", [wrong_commands, wrong_names, wrong_keys, wrong_files])
def test_what_a_text_names_is_there(wrong):
    """Of all texts of the package: messages, help, reports."""
    problems = [
        f"{text.place}: {problem}: {text.words!r}"
        for text in texts()
        if text.place.partition(":")[0] not in CSS
        for problem in wrong(text.words)
    ]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (wrong_commands, "give what `grokinterp fetch RUN` made"),
        (wrong_commands, "`grokinterp ls --believe`"),
        (wrong_commands, "leave out --no-forensic"),
        (wrong_names, "gi.reply(run) gives one"),
        (wrong_names, "gi.train(config, folder=...)"),
        (wrong_names, "run.snapshot(3)"),
        (wrong_keys, "set training.learning_rate"),
        (wrong_keys, "choose another task.modulus"),
        (wrong_keys, "call model.sett_{}(True) first"),
        (wrong_files, "as docs/imports.md shows"),
        (wrong_files, "pip install 'grokinterp[clearml]'"),
    ],
)
def test_a_text_that_names_what_is_not_there_is_found(wrong, words):
    assert list(wrong(words))


# What messages say to do works


@pytest.fixture
def world(tmp_path, grokinterp, hub, monkeypatch) -> World:  # noqa: F811
    """Where mistakes are made, a folder in place of the hub."""
    monkeypatch.chdir(tmp_path)
    return World(tmp_path, grokinterp)


def room_of(text: Text) -> str:
    """The room of the package that a text is in; a file of its own is of the API."""
    first = text.place.partition(":")[0].split("/")
    return first[0] if len(first) > 1 else "api"


def problems_with(mistake: Mistake, world: World, said: list[str]) -> Iterator[str]:
    """Makes a mistake, and does what the message says; what goes wrong in that."""
    world.clear()
    try:
        mistake.make(world)
    except (gi.GrokinterpError, UserWarning, ValueError) as error:
        message = " ".join(str(error).split())
    except Exception as error:
        yield f"{mistake.name}: {type(error).__name__}: {error}"
        return
    else:
        message = world.said
    if (found := re.search(mistake.says, message)) is None:
        yield f"{mistake.name}: it does not say {mistake.says!r}: {message}"
        return
    said.append(message)
    for follow in mistake.follow:
        try:
            follow(world, found)
        except Exception as error:
            yield f"{mistake.name}: {message!r} was followed, and: {type(error).__name__}: {error}"


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_message_says_to_do_works_when_it_is_done(room, world):
    """Each remedy of a room is followed."""
    said: list[str] = []
    problems = [problem for mistake in ROOMS[room] for problem in problems_with(mistake, world, said)]
    for text in remedies():
        if room_of(text) != room or text.words in NOT_FOLLOWED:
            continue
        if not any(map(text.pattern.search, said)):
            problems.append(f"{text.place}: no row of mistakes/ follows {text.words!r}")
    assert not problems, "\n".join(problems)


def test_every_remedy_is_of_a_room_that_is_followed():
    assert {room_of(text) for text in remedies()} <= ROOMS.keys()
    assert NOT_FOLLOWED.keys() <= {text.words for text in remedies()}
