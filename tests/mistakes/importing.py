"""Checkpoints of other people: layouts, tasks, directories, and runs recorded from their loops."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import foreign_formats as formats
import grokinterp as gi
from grokinterp import controls
from grokinterp.importing.mapping import built_in, layout_named, read_layout
from grokinterp.models import network_config
from test_irreps import quaternions
from test_numbering import lookup_of, of_two_signs

from .api import mapping_of, saved
from .base import World, mistake
from .foreign import by_torch, imported, weights

TASK = "--task modular_addition --set task.p=13 --no-forensics"
LIKE = r'mapping \(a file NAME\.toml that begins with like = "\w+"\)'
SOURCE = 'doc = "x"\n[weights]\n"embed.W_E" = {{ key = "W", {} }}\n'
"""A mapping of one weight."""


def source(rest: str, before: str = "") -> Any:
    """A mapping whose one weight is described so."""
    return read_layout(before + SOURCE.format(rest), "mine.toml")


def source_of_heads(axes: str) -> Any:
    """A mapping of one weight of every head."""
    key = '"blocks.{layer}.attn.W_Q" = { key = "{layer}.{head}.q", '
    return read_layout(f'doc = "x"\n[weights]\n{key}axes = "{axes}" }}\n', "mine.toml")


def random_weights(p: int = 13) -> dict[str, torch.Tensor]:
    return dict(controls.random_network(p).weights)


@contextmanager
def locked(folder: Path) -> Any:
    """A directory whose lock another holds."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield folder


def while_locked(folder: Path, locks: Path, do: Any) -> Any:
    with locked(locks):
        return do(folder)


def record(w: World, out: Path, **changed: Any) -> gi.Run:
    """One call of a training loop."""
    network = changed.pop("network", w.clock.model)
    return gi.record(network, changed.pop("task", w.clock.task), changed.pop("step", 10), out, **changed)


def recorded(w: World, out: Path | None = None) -> Path:
    """A directory with one snapshot."""
    out = out or w.new()
    record(w, out)
    return out


def unregistered() -> gi.Task:
    return gi.Task.of_function(lambda a, b: (a + b) % 13, 13, layout="a b =")


def registered(w: World) -> gi.Run:
    """A snapshot of a network on a task of one's own, that is known by name."""

    @gi.task
    def sums_of_mine() -> gi.Task:
        return unregistered()

    try:
        return record(w, w.new(), task=gi.make_task("sums_of_mine"))
    finally:
        gi.TASKS.pop("sums_of_mine")


MAPPINGS = [
    mistake(
        "heads in the key and in the axes",
        lambda w: source_of_heads("head d_model d_head"),
        r"\{head\} in the key says that the tensor there is one head's: leave (head) out of axes",
        lambda w, m: source_of_heads("head d_model d_head".replace(f"{m[1]} ", "", 1)),
    ),
    mistake(
        "axes that are none",
        lambda w: source('axes = "vocab, d_model"'),
        r"needs names of axes, such as '(.+?)'",
        lambda w, m: read_layout(
            f'doc = "x"\n[weights]\n"blocks.{{layer}}.attn.W_O" = {{ key = "W", axes = "{m[1]}" }}\n',
            "mine.toml",
        ),
    ),
    mistake(
        "an unknown axis",
        lambda w: source('axes = "vocab d_modell"'),
        r"unknown axis 'd_modell'; did you mean '(\w+)'",
        lambda w, m: source(f'axes = "vocab {m[1]}"'),
    ),
    mistake(
        "a part that is none",
        lambda w: source('axes = "(part vocab) d_model", part = "first"'),
        r"needs a part such as '(.+?)'",
        lambda w, m: source(f'axes = "(part vocab) d_model", part = "{m[1]}"'),
    ),
    mistake(
        "the name of a file of settings alone",
        lambda w: read_layout(
            f'{SOURCE.format(AXES_OF_E)}[contents]\nsettings_file = "config.json"\n', "mine.toml"
        ),
        r"needs two names, such as '(.+?)'",
        lambda w, m: read_layout(
            f'{SOURCE.format(AXES_OF_E)}[contents]\nsettings_file = "{m[1]}"\n', "mine.toml"
        ),
    ),
    mistake(
        "an unknown kind of network",
        lambda w: source(AXES_OF_E, 'kind = "transformr"\n'),
        r"unknown kind 'transformr'; did you mean '(\w+)'",
        lambda w, m: source(AXES_OF_E, f'kind = "{m[1]}"\n'),
    ),
    mistake(
        "numbers of tokens without that of elements",
        lambda w: source(AXES_OF_E, 'tokens = "a b =@13"\n'),
        r"give p, or write @p\+1 and of p\+4",
        lambda w, m: source(AXES_OF_E, 'tokens = "a b =@13"\np = 13\n'),
        lambda w, m: source(AXES_OF_E, 'tokens = "a b =@p+1 of p+4"\n'),
    ),
    mistake(
        "an unknown weight",
        lambda w: read_layout(
            'doc = "x"\n[weights]\n"embed.W_EE" = { key = "W", axes = "vocab d_model" }\n', "m.toml"
        ),
        r"unknown name 'embed\.W_EE'; did you mean '([\w.]+)'",
        lambda w, m: read_layout(
            f'doc = "x"\n[weights]\n"{m[1]}" = {{ key = "W", axes = "vocab d_model" }}\n', "m.toml"
        ),
    ),
    mistake(
        "an unknown layout",
        lambda w: w.cli("import {} --layout nandda --out {}", by_torch(w), w.new()),
        r"unknown layout 'nandda'; did you mean '(\w+)'\?; or give the path of a mapping file, NAME(\.toml)",
        lambda w, m: layout_named(m[1]),
        lambda w, m: w.cli(
            "import {} --layout {} {} --out {}".replace("{} --out", TASK + " --out"),
            saved(w, {own(name): weight for name, weight in weights(w).items()}),
            w.file(mapping_of(w), m[2]),
            w.new(),
        ),
    ),
    mistake(
        "a mapping like an unknown one",
        lambda w: read_layout('like = "nandda"\n', "mine.toml"),
        r"like: no built-in layout 'nandda'; did you mean '(\w+)'",
        lambda w, m: read_layout(f'like = "{m[1]}"\n', "mine.toml"),
    ),
    mistake(
        "a mapping that says what shapes say",
        lambda w: w.cli(
            "import {} --layout {} --out {} " + TASK,
            by_torch(w),
            w.file('like = "transformer_lens"\n[model]\nd_vocab_out = 13\n', ".toml"),
            w.new(),
        ),
        r"its mapping says (d_vocab_out) under \[model\], which .*: leave it out",
        lambda w, m: w.cli(
            "import {} --layout {} --out {} " + TASK,
            by_torch(w),
            w.file('like = "transformer_lens"\n', ".toml"),
            w.new(),
        ),
    ),
]
TOKENS_OF_20 = 'p = 7\ntokens = "a b =@7 of 20"'
AXES_OF_E = 'axes = "vocab d_model"'


def own(name: str) -> str:
    return name.replace(".", "_")


IMPORTS = [
    mistake(
        "noise of an imported network",
        lambda w: gi.import_checkpoint(
            by_torch(w),
            w.new(),
            task={"name": "modular_addition", "p": 13, "noise": {"kind": "uniform", "share": 0.1}},
        ),
        r"task\.noise: .*: leave it out",
        lambda w, m: imported(w, by_torch(w)),
    ),
    mistake(
        "an import into a run that was trained",
        lambda w: w.cli("import {} --out {} " + TASK, by_torch(w), w.run.path),
        r"holds a run that was trained, not this import: choose another directory",
        lambda w, m: w.cli("import {} --out {} " + TASK, by_torch(w), w.new()),
    ),
    mistake(
        "an import into what a training loop recorded",
        lambda w: w.cli("import {} --out {} " + TASK, by_torch(w), recorded(w)),
        r"holds a run that gi\.record made, not this import: choose another directory",
        lambda w, m: w.cli("import {} --out {} " + TASK, by_torch(w), w.new()),
    ),
    mistake(
        "an import into another import",
        lambda w: w.cli(
            "import {} --out {} " + TASK, by_torch(w), imported(w, saved(w, random_weights_as_asked())).path
        ),
        r"holds the import of .* with another file.*: choose another directory",
        lambda w, m: w.cli("import {} --out {} " + TASK, by_torch(w), w.new()),
    ),
    mistake(
        "a file of names that nobody knows",
        lambda w: w.cli("import {} --out {}", saved(w, {own(n): x for n, x in weights(w).items()}), w.new()),
        r"write a mapping as (docs/import\.md) shows, and give it with --layout FILE\.toml",
        lambda w, m: w.cli(
            "import {} --layout {} --out {} " + TASK,
            saved(w, {own(n): x for n, x in weights(w).items()}),
            w.file(mapping_of(w), ".toml"),
            w.new(),
        ),
    ),
    mistake(
        "a network that was not trained",
        lambda w: w.cli("import {} --out {} " + TASK, as_said(w, random_weights()), w.new()),
        r"the import is not believed: .*: if it is as it should be, import it with (--task) and (--believe)",
        lambda w, m: w.cli(
            "import {} --out {} {} modular_addition {} --set task.p=13 --no-forensics",
            as_said(w, random_weights()),
            w.new(),
            m[1],
            m[2],
        ),
    ),
]


def folder_of(w: World, *names: str) -> Path:
    """A folder of checkpoints of these names."""
    folder = w.new()
    folder.mkdir()
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        torch.save(weights(w), folder / name)
    return folder


def one(w: World, files: Any, **options: Any) -> gi.Run:
    """The run of one file or several."""
    task = {"name": "modular_addition", "p": 13}
    return gi.import_checkpoint(files, w.new(), task=task, forensics=False, progress=False, **options)


def of_two_networks(w: World) -> Path:
    """A file with the keys of two under prefixes of their own."""
    return saved(w, {f"{who}.{key}": x for who in ("student", "teacher") for key, x in weights(w).items()})


def of_at_most_one(do: Any) -> Any:
    """Does something where a folder may hold one checkpoint."""
    with mock.patch("grokinterp.importing.several._MOST_FILES", 1):
        return do()


SEVERAL = [
    mistake(
        "an import of no file",
        lambda w: one(w, []),
        r"no file is named: name one, several, or a folder of them",
        lambda w, m: one(w, [by_torch(w)]),
        lambda w, m: one(w, sorted(folder_of(w, "1.pt", "2.pt").iterdir())),
        lambda w, m: one(w, folder_of(w, "1.pt", "2.pt")),
    ),
    mistake(
        "a file that is named twice",
        lambda w: one(w, [file := by_torch(w), file]),
        r"is named twice: name it once",
        lambda w, m: one(w, [by_torch(w)]),
    ),
    mistake(
        "a folder of very many checkpoints",
        lambda w: of_at_most_one(lambda: one(w, folder_of(w, "1.pt", "2.pt", "3.pt"))),
        r"it has 3 checkpoints: name some of them",
        lambda w, m: of_at_most_one(
            lambda: one(w, sorted(folder_of(w, "1.pt", "2.pt", "3.pt").iterdir())[:2])
        ),
    ),
    mistake(
        "two networks in one state dict",
        lambda w: one(w, of_two_networks(w)),
        r'a mapping \(a file NAME\.toml that begins with (like = "\w+")\) says it, (prefix = "\w+\.")',
        lambda w, m: one(w, of_two_networks(w), layout=w.file(f"{m[1]}\n{m[2]}\n", ".toml")),
    ),
    mistake(
        "two networks in one file",
        lambda w: one(w, saved(w, {"alice": weights(w), "bob": weights(w)})),
        r'\(a file NAME\.toml that begins with (like = "\w+")\) says it, (contents\.weights = "\w+")',
        lambda w, m: one(
            w,
            saved(w, {"alice": weights(w), "bob": weights(w)}),
            layout=w.file(f"{m[1]}\n{m[2]}\n", ".toml"),
        ),
    ),
    mistake(
        "a folder of the folders of two runs",
        lambda w: one(w, folder_of(w, "a/epoch_1.pt", "b/epoch_1.pt")),
        r"lie in a and b, .*: import each by itself, as (\S+), or name the files that are of one",
        lambda w, m: one(w, Path(m[1])),
        lambda w, m: one(w, sorted(folder_of(w, "a/epoch_1.pt", "a/epoch_2.pt").glob("a/*"))),
    ),
    mistake(
        "files of two runs",
        lambda w: one(w, sorted(folder_of(w, "a/epoch_1.pt", "b/epoch_1.pt").glob("*/*"))),
        r"files of a and b have the same names, .*: import those of each by itself",
        lambda w, m: one(w, sorted(folder_of(w, "a/epoch_1.pt", "b/epoch_1.pt").glob("a/*"))),
    ),
    mistake(
        "files named by dates",
        lambda w: w.cli(
            "import {} --out {} " + TASK, folder_of(w, "2026-01-02.pt", "2026-01-03.pt"), w.new()
        ),
        r"a date or a time in their names \(2026-01-02\.pt\), .*: to say the steps, name files as (epoch\S+)",
        lambda w, m: one(w, folder_of(w, m[1], "epoch_200.pt")),
    ),
    mistake(
        "a folder without a checkpoint",
        lambda w: one(w, folder_of(w, "weights.of_mine")),
        r"no file in it ends as checkpoints do .*: name the file",
        lambda w, m: one(w, folder_of(w, "weights.of_mine") / "weights.of_mine"),
    ),
    mistake(
        "a file that holds no state dict",
        lambda w: one(w, saved(w, {"epoch": 3})),
        r"it holds no state dict, .*: save model\.(state_dict)\(\)",
        lambda w, m: one(w, saved(w, getattr(w.clock.model, m[1])())),
    ),
]
SHOWN = [
    mistake(
        "what is in a run on the hub",
        lambda w: gi.show("hf://user/shown"),
        r"lies on the hub: `grokinterp (pull hf://user/shown --out) DIR` fetches it",
        lambda w, m: (
            w.cli("push {} user/shown", w.run.path)
            and w.cli(m[1] + " {}", out := w.new())
            and w.cli("show {}", out)
        ),
    ),
    mistake(
        "what is in an empty folder",
        lambda w: gi.show(folder_of(w)),
        r"holds no file and no run: give a run directory, or a checkpoint file",
        lambda w, m: gi.show(w.run.path),
        lambda w, m: gi.show(by_torch(w)),
    ),
    mistake(
        "what is in a folder of runs",
        lambda w: w.cli("show {}", recorded(w, folder_of(w) / "one").parent),
        r"one: grokinterp (ls \S+) lists them",
        lambda w, m: w.cli(m[1]),
    ),
]


def as_said(w: World, weights: dict[str, torch.Tensor], **beside: Any) -> Path:
    """A file that says what its network is, so that few ways to read it are tried."""
    return saved(w, {"model": weights, "config": {"act_fn": "relu", "normalization_type": None}, **beside})


def random_weights_as_asked() -> dict[str, torch.Tensor]:
    """A network that adds, other than that of `by_torch`."""
    return dict(controls.clock(13, (1, 3)).weights)


def random(name: str, **parameters: Any) -> dict[str, torch.Tensor]:
    """A network that is not trained, on a task."""
    config = network_config({"d_model": 8, "n_heads": 2, "d_mlp": 8})
    return config.initial_weights(gi.make_task(name, **parameters).reads, 0)


def without_settings(w: World) -> tuple[Path, Path]:
    """A checkpoint whose settings are elsewhere, and these."""
    folder = w.new()
    folder.mkdir()
    weights = formats.without_biases(random("modular_addition", p=13, layout="a b"), but=".mlp.")
    file = formats.pizza(folder, weights, attn_coeff=1)
    return file, (folder / "config_abc123.json").rename(folder / "elsewhere.json")


def command(w: World, file: Path, rest: str = "") -> str:
    """Imports a file as is typed, into a new directory."""
    return w.cli(f"import {{}} --out {{}} --no-forensics {rest}", file, w.new())


def sums(w: World, file: Path, rest: str = "") -> str:
    """The same of a network that adds digits."""
    few = "--task digit_addition --set task.examples=100 --set task.per_class=20"
    with mock.patch("grokinterp.importing.sequences._MOST_TRIALS", 12):
        return command(w, file, f"{few} {rest}")


def of_spare_tokens(w: World) -> Path:
    """A network of 7 elements that has 20 tokens, not trained."""
    known = random_weights(7)
    return as_said(
        w,
        {**known, "embed.W_E": torch.cat([known["embed.W_E"], torch.rand(12, known["embed.W_E"].shape[1])])},
    )


def of_other_losses(w: World) -> Path:
    losses = {"train_losses": [3.0], "train_indices": torch.arange(60)}
    return as_said(w, dict(w.clock.weights), **losses)


def mapping(w: World, text: str) -> Path:
    return w.file(f'like = "transformer_lens"\n{text}\n', ".toml")


def with_a_second_layout(do: Any) -> Any:
    """Does something where two layouts read the same files."""
    both = dict.fromkeys(["transformer_lens", "second"], built_in()["transformer_lens"])
    with mock.patch("grokinterp.importing.recognition.built_in", return_value=both):
        return do()


def of_digits(w: World, weights: Any = None) -> Path:
    return as_said(w, dict((weights or controls.adder(2)).weights))


MANY = "a b =@7 of 30"
"""Two operands of 7 elements, and many more tokens."""


def of_eigenvalues() -> dict[str, torch.Tensor]:
    """Two stacks of layers that are not trained, for matrices."""
    sizes = {"d_model": 8, "n_heads": 2, "d_mlp": 8, "n_layers": 1, "decoder_layers": 1}
    config = network_config({"kind": "encoder_decoder", **sizes})
    return config.initial_weights(gi.make_task("eigenvalues").reads, 0)


def of_a_part(w: World) -> Path:
    """A network that gives 6 for every third pair, and else the sum of 7 elements; it has 11 tokens."""
    answers = gi.make_task("modular_addition", p=7).table.flatten().clone()
    answers[::3] = 6
    known = lookup_of(answers.reshape(7, 7))
    unused = torch.zeros(3, known["embed.W_E"].shape[1], dtype=torch.float64)
    return as_said(w, {**known, "embed.W_E": torch.cat([known["embed.W_E"], unused])})


def of_two_tasks(w: World) -> Path:
    """A network that adds at one sign and subtracts at the other."""
    both = (gi.make_task(f"modular_{name}", p=5).table for name in ("addition", "subtraction"))
    return as_said(w, of_two_signs(5, *both))


def of_ones_own(w: World, table: torch.Tensor) -> gi.Run:
    """A network of a table, imported where that is a task, which is not asked for."""

    @gi.task
    def table_of_mine(p: int = len(table), layout: str = "a b =") -> gi.Task:
        return gi.Task.of_function(lambda a, b: int(table[a, b]), p, layout=layout)

    try:
        run = gi.import_checkpoint(as_said(w, lookup_of(table)), w.new(), forensics=False)
        assert run.config.task["name"] == "table_of_mine"
    finally:
        gi.TASKS.pop("table_of_mine")
    return run


ASKED_FOR = [
    mistake(
        "a checkpoint without its settings",
        lambda w: command(w, without_settings(w)[0], "--task modular_addition --believe"),
        r"it needs its settings, .*: give them with (--config-file)",
        lambda w, m: command(
            w, (both := without_settings(w))[0], f"--task modular_addition --believe {m[1]} {both[1]}"
        ),
    ),
    mistake(
        "shapes of a task that is no operation",
        lambda w: command(w, as_said(w, of_eigenvalues())),
        r"those of eigenvalues have these shapes: say so with (--task eigenvalues)",
        lambda w, m: command(w, as_said(w, of_eigenvalues()), f"{m[1]} --believe"),
    ),
    mistake(
        "shapes that no task has by itself",
        lambda w: command(w, as_said(w, random("modular_addition", p=7, layout=MANY))),
        r"say of which task it is with (--task) NAME and (--set task\.)KEY=VALUE, or how it is read with a "
        r"mapping that has other `tokens` \(a file NAME\.toml that begins with like = ",
        lambda w, m: command(
            w,
            as_said(w, random("modular_addition", p=7, layout=MANY)),
            f"{m[1]} modular_addition {m[2]}p=7 {m[2]}layout='{MANY}' --believe",
        ),
        lambda w, m: command(
            w,
            as_said(w, random("modular_addition", p=7, layout=MANY)),
            f"--layout {mapping(w, f'p = 7{chr(10)}tokens = {MANY!r}')} --task modular_addition --believe",
        ),
    ),
    mistake(
        "a task of another size",
        lambda w: command(
            w, as_said(w, random("reverse", n=3, v=4)), "--task reverse --set task.n=3 --set task.v=5"
        ),
        r"needs 6 tokens, and the network has 5: say another size with (--set task\.)KEY=VALUE",
        lambda w, m: command(
            w, as_said(w, random("reverse", n=3, v=4)), f"--task reverse {m[1]}n=3 {m[1]}v=4 --believe"
        ),
    ),
    mistake(
        "another number of digits",
        lambda w: sums(w, of_digits(w), "--set task.n=1"),
        r"it is right on 1\.000 with n = (\d+), order = (\w+), layout = (.*): ask for that, or for less",
        lambda w, m: sums(
            w, of_digits(w), f"--set task.n={m[1]} --set task.order={m[2]} --set 'task.layout={m[3]}'"
        ),
        lambda w, m: sums(w, of_digits(w), f"--set task.n={m[1]}"),
    ),
    mistake(
        "a network that does not add digits",
        lambda w: sums(w, of_digits(w, controls.random_like(controls.adder(2))), "--set task.n=2"),
        rf"say it with (--set task\.)KEY=VALUE or a {LIKE}, or import it as it stands with (--believe)",
        lambda w, m: sums(w, of_digits(w, controls.random_like(controls.adder(2))), f"{m[1]}n=2 {m[2]}"),
    ),
    mistake(
        "shapes of digits that are not added",
        lambda w: with_few_trials(lambda: command(w, of_digits(w, controls.random_like(controls.adder(2))))),
        r"a mapping with other `tokens`, or (--task), could say how it is to be read",
        lambda w, m: sums(w, of_digits(w), "--set task.n=2"),
    ),
    mistake(
        "more signs than tokens",
        lambda w: sums(w, of_ten_tokens(w), f"--layout {mapping(w, 'tokens = ' + repr('a + b ='))}"),
        r"no way to write a question goes with the 10 tokens .*: say one with --set (task\.layout)='\.\.\.'",
        lambda w, m: sums(w, of_ten_tokens(w), f"--set '{m[1]}=a b' --believe"),
    ),
    mistake(
        "more tokens than elements and signs",
        lambda w: command(w, of_spare_tokens(w)),
        rf"under no number of elements .*: say what it is with a {LIKE} that gives its tokens",
        lambda w, m: command(
            w,
            of_spare_tokens(w),
            f"--layout {mapping(w, TOKENS_OF_20)} --task modular_addition --believe",
        ),
    ),
    mistake(
        "a network of a part of a task, with tokens that are never used",
        lambda w: command(w, of_a_part(w)),
        r"has tokens that are never used .*\. If it is so, say it with (--set task\.)p=N and "
        r"--set task\.layout='\.\.\.', or import it as it stands with (--believe)",
        lambda w, m: command(
            w, of_a_part(w), f"--task modular_addition {m[1]}p=7 {m[1]}layout='a b = of 11' {m[2]}"
        ),
        lambda w, m: command(w, of_a_part(w), m[2]),
    ),
    mistake(
        "a group that is no task",
        lambda w: command(w, as_said(w, lookup_of(quaternions()))),
        r"In Python its operation can be made a task \(@gi\.task, docs/how-to\.md\), and is then tried; or "
        r"import it as it stands, with (--task) and (--believe)",
        lambda w, m: of_ones_own(w, quaternions()),
        lambda w, m: command(w, as_said(w, lookup_of(quaternions())), f"{m[1]} group_composition {m[2]}"),
    ),
    mistake(
        "a network of two tasks",
        lambda w: command(w, of_two_tasks(w)),
        r"say which is to be imported with (--task .*) or (--task .*)",
        lambda w, m: [command(w, of_two_tasks(w), task) for task in m.groups()],
    ),
    mistake(
        "a network of which several tasks could be",
        lambda w: command(w, as_said(w, random("group_composition", group="S3")), "--believe"),
        r"say which with (--task)",
        lambda w, m: command(
            w,
            as_said(w, random("group_composition", group="S3")),
            f"{m[1]} group_composition --set task.group=S3 --believe",
        ),
    ),
    mistake(
        "losses that are not those of the network",
        lambda w: command(w, of_other_losses(w), "--task modular_addition --set task.p=13"),
        rf"with --task, --config-file or a {LIKE}; or import it as it stands with (--believe)",
        lambda w, m: command(w, of_other_losses(w), f"--task modular_addition --set task.p=13 {m[1]}"),
    ),
    mistake(
        "a file that fits two layouts",
        lambda w: with_a_second_layout(lambda: command(w, by_torch(w), TASK)),
        r"it fits the layouts (\w+) and (\w+): say which with (--layout)",
        lambda w, m: command(w, by_torch(w), f"{TASK} {m[3]} {m[1]}"),
    ),
    mistake(
        "an import while another process imports",
        lambda w: while_locked(
            w.new(), (out := w.here / "busy") / ".importing", lambda _: imported_into(w, out)
        ),
        r"another process is importing into \S+: wait for it, or choose another directory",
        lambda w, m: imported_into(w, w.here / "busy"),
        lambda w, m: imported_into(w, w.new()),
    ),
]


def imported_into(w: World, out: Path) -> gi.Run:
    return gi.import_checkpoint(by_torch(w), out, task={"name": "modular_addition", "p": 13}, forensics=False)


def with_few_trials(do: Any) -> Any:
    with mock.patch("grokinterp.importing.sequences._MOST_TRIALS", 12):
        return do()


def of_ten_tokens(w: World) -> Path:
    known = dict(controls.adder(2).weights)
    return as_said(w, {**known, "embed.W_E": known["embed.W_E"][:10]})


RECORDS = [
    mistake(
        "a run that another process records",
        lambda w: while_locked(out := recorded(w), out, lambda folder: record(w, folder, step=20)),
        r"another process is writing this run: wait for it",
        lambda w, m: record(w, recorded(w), step=20),
    ),
    mistake(
        "a step that was recorded before",
        lambda w: record(w, recorded(w), step=5),
        r"record a later step, or begin in another directory",
        lambda w, m: record(w, recorded(w), step=20),
        lambda w, m: record(w, w.new(), step=5),
    ),
    mistake(
        "a perceptron without its section",
        lambda w: record(w, w.new(), network=controls.gromov(7, 24).model, task=controls.gromov(7, 24).task),
        r"say what it is with (config)=, a section \[model\]",
        lambda w, m: record(
            w,
            w.new(),
            network=(v := controls.gromov(7, 24)).model,
            task=v.task,
            **{m[1]: {"kind": "mlp", "d_mlp": 24, "act_fn": "square", "embedding": "one_hot"}},
        ),
    ),
    mistake(
        "a loop in the directory of another run",
        lambda w: record(w, w.run.path, step=30),
        r"holds a run .*: choose another directory",
        lambda w, m: record(w, w.new(), step=30),
    ),
    mistake(
        "a task that is not known by name",
        lambda w: record(w, w.new(), task=unregistered()),
        r"register it with @gi\.task, and give what make_task makes",
        lambda w, m: registered(w),
    ),
    mistake(
        "a configuration that is none",
        lambda w: gi.record(w.view.model, w.view.task, 0, w.new(), config=3),
        r"needs a section \[model\] such as \{'kind': '(\w+)', 'd_mlp': (\d+)\}, or a "
        r"HookedTransformerConfig",
        lambda w, m: network_config({"kind": m[1], "d_mlp": int(m[2])}),
        lambda w, m: gi.record(w.view.model, w.view.task, 0, w.new(), config=w.view.model.cfg),
    ),
]

IMPORTING = [*MAPPINGS, *IMPORTS, *SEVERAL, *SHOWN, *ASKED_FOR, *RECORDS]
