"""Real wrapping: prefixes, heads with tensors of their own, axes of length 1, tied embeddings, positions that
are not read, objects beside the weights, and texts as Windows saves them."""

from __future__ import annotations

import argparse
import array
import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import ipaddress
import json
import operator
import os
import pathlib
import pickle
import random
import time
import types
import uuid

import numpy as np
import pandas as pd
import pytest
import torch

import foreign_formats as formats
import grokinterp as gi
from grokinterp import controls
from grokinterp.errors import GrokinterpError, UsageError
from grokinterp.foreign import read_foreign
from grokinterp.importing.convert import key_pattern
from grokinterp.importing.mapping import built_in
from grokinterp.importing.places import objects_in
from grokinterp.importing.snapshots import networks_in, state_dicts
from grokinterp.importing.wrapping import unwrapped
from grokinterp.models import ModelConfig
from grokinterp.tasks import make_task
from test_foreign_files import Call

P = 7
W = {name: weight.float() for name, weight in controls.clock(P, (1, 2)).weights.items()}


def imported(content, folder, name="run", **options):
    torch.save(content, folder / "theirs.pt")
    given = {"forensics": False, "task": "modular_addition", "progress": False}
    return gi.import_checkpoint(folder / "theirs.pt", folder / name, **{**given, **options})


def said(run) -> str:
    return "\n".join(run.imported["assumed"])


def assert_clock(run, weights=W):
    """It has these weights, and is right on all pairs."""
    for name, weight in run.state_dict(-1 if run.steps == [-1] else run.steps[-1]).items():
        torch.testing.assert_close(weight, weights[name].to(weight.dtype), rtol=0, atol=0)
    assert float(gi.measure("accuracy", run.view(-1)).sel(part="all")) == 1


# Prefixes

PREFIXES = ["_orig_mod.", "module.", "module._orig_mod.", "model.", "net.transformer.", "pl/", "self_"]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_any_prefix_before_all_keys_is_taken_off_and_said(tmp_path, prefix):
    run = imported({"model": {prefix + name: weight for name, weight in W.items()}}, tmp_path)
    assert_clock(run)
    assert "which was taken off" in said(run)


def test_wrappers_around_parts_are_taken_off(tmp_path):
    around = {
        name.replace("blocks.0.", "blocks.0._orig_mod.").replace("mlp.", "mlp._checkpoint_wrapped_module.")
        for name in W
    }
    run = imported(dict(zip(sorted(around), [W[name] for name in sorted(W)], strict=True)), tmp_path)
    assert_clock(run)
    assert "have '_checkpoint_wrapped_module' and '_orig_mod' in them" in said(run)


def test_a_file_of_lightning_is_read_and_the_rest_named(tmp_path):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))])
    content = {
        "epoch": 3,
        "global_step": 400,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {f"model.{name}": weight for name, weight in W.items()}
        | {"loss_fn.weight": torch.ones(P), "train_acc.correct": torch.tensor(3)},
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.1), "monitor": "loss"}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [],
        "hparams_name": "config",
        "hyper_parameters": argparse.Namespace(lr=1e-3),
    }
    run = imported(content, tmp_path)
    assert run.steps == [3]
    assert_clock(run)
    assert (
        "the keys of its state dict begin with 'model.', which was taken off; 2 beside them do not"
        in said(run)
    )
    assert "loss_fn.weight" in said(run)
    assert "callbacks" in said(run)
    assert "global_step, 400, was not taken for a step" in said(run)


def test_an_average_under_a_prefix_of_its_own_is_left_out(tmp_path):
    content = {f"model.{name}": weight for name, weight in W.items()}
    content |= {f"ema_model.{name}": weight * 2 for name, weight in W.items()}
    run = imported(content, tmp_path)
    assert_clock(run)
    assert "average over steps" in said(run)


def test_of_two_prefixes_a_mapping_says_which(tmp_path):
    content = {f"{who}.{name}": weight for who in ("student", "teacher") for name, weight in W.items()}
    with pytest.raises(UsageError, match=r'like = "transformer_lens"\) says it, prefix = "teacher\."'):
        imported(content, tmp_path)
    (tmp_path / "m.toml").write_text('like = "transformer_lens"\nprefix = "student."\n')
    run = imported(content, tmp_path, layout=str(tmp_path / "m.toml"))
    assert_clock(run)
    assert "beside them do not, and were left out" in said(run)


def under(prefix, weights=W):
    return {prefix + name: weight for name, weight in weights.items()}


COUNT = {"n_averaged": torch.tensor(5)}
LOSS = torch.ones(P)
BESIDE = {
    "AveragedModel": ({**COUNT, **under("module.")}, ["n_averaged"], True),
    "AveragedModel of what was compiled": ({**COUNT, **under("module._orig_mod.")}, ["n_averaged"], True),
    "its prefix taken off": ({**COUNT, **W}, ["n_averaged"], True),
    "an EMA that wraps": ({"initted": torch.tensor(True), **under("ema_model.")}, ["initted"], False),
    "compiled, beside a loss": (
        {**under("_orig_mod."), "criterion.weight": LOSS},
        ["criterion.weight"],
        False,
    ),
    "a loss and a metric alone": (
        {**W, "loss_fn.weight": LOSS, "metrics.total": torch.tensor(1.0)},
        ["loss_fn.weight", "metrics.total"],
        False,
    ),
    "compiled inside": (
        {**under("module._orig_mod."), "module.criterion.weight": LOSS, "module.probe.weight": LOSS},
        ["module.criterion.weight", "module.probe.weight"],
        False,
    ),
    "compiled inside of a module": (
        {**under("net._orig_mod."), "net.probe.weight": LOSS},
        ["net.probe.weight"],
        False,
    ),
    "more beside it than in it": (
        {**under("_orig_mod."), **{f"probes.{i}": LOSS for i in range(40)}},
        [f"probes.{i}" for i in range(40)],
        False,
    ),
    "parallel, beside a loss": ({**under("module."), "log_vars": LOSS}, ["log_vars"], False),
}


@pytest.mark.parametrize("form", BESIDE)
def test_what_stands_beside_a_network_is_none_of_its_weights(form):
    content, others, is_average = BESIDE[form]
    (network,) = networks_in(built_in()["transformer_lens"], content, state_dicts(content))
    assert network.state.keys() == W.keys()
    assert sorted((*network.wrapping.outside, *network.wrapping.beside)) == sorted(others)
    assert network.wrapping.is_average == is_average


def test_an_average_of_torch_is_read_alone_and_left_out_beside_a_network(tmp_path):
    average = {**COUNT, **under("module.")}
    run = imported({"model": average, "epoch": 3}, tmp_path)
    assert_clock(run)
    assert "average of networks over steps" in said(run)
    assert "left out: model.n_averaged (1 tensor): beside the network in one dict" in said(run)
    twice = {**W, "unembed.W_U": W["unembed.W_U"] * 2}
    run = imported({"model": W, "other": {**COUNT, **under("module.", twice)}, "epoch": 3}, tmp_path, "both")
    assert_clock(run)
    assert run.steps == [3]


def test_keys_that_fit_as_they_are_have_no_prefix():
    patterns = [key_pattern(name) for name in W]
    (one,) = unwrapped(W, patterns)
    assert (one.prefix, one.wrappers, one.outside, one.sentence()) == ("", (), (), None)
    (one,) = unwrapped({**W, "a.stranger": W["embed.W_E"]}, patterns)
    assert "a.stranger" in one.state  # which is then refused


# Keys of heads, axes of length 1, tied embeddings


def mapped(tmp_path, text: str) -> str:
    (tmp_path / "m.toml").write_text(f'like = "transformer_lens"\n{text}')
    return str(tmp_path / "m.toml")


HEADS = {
    "Linear": ("heads.{head}.Q.weight", "d_head d_model", lambda w: w.T),
    "plain": ("Q_{head}", "d_model d_head", lambda w: w),
    "layer and head": ("layers.{layer}.head{head}.q", "d_head d_model", lambda w: w.T),
    "head before layer": ("h{head}.l{layer}.q", "d_head d_model", lambda w: w.T),
    "with an axis of length 1": ("heads.{head}.Q", "d_model d_head", lambda w: w[None]),
}


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("form", HEADS)
def test_a_tensor_for_each_head(tmp_path, form, first):
    key, axes, turned = HEADS[form]
    theirs = {name: weight for name, weight in W.items() if not name.endswith("W_Q")}
    for head, weight in enumerate(W["blocks.0.attn.W_Q"]):
        theirs[key.replace("{head}", str(head + first)).replace("{layer}", "0")] = turned(weight).contiguous()
    layout = mapped(
        tmp_path, f'[weights]\n"blocks.{{layer}}.attn.W_Q" = {{ key = "{key}", axes = "{axes}" }}'
    )
    assert_clock(imported(theirs, tmp_path, layout=layout))


def test_a_head_that_is_missing_is_named(tmp_path):
    layout = mapped(
        tmp_path,
        '[weights]\n"blocks.{layer}.attn.W_Q" = { key = "heads.{head}.Q", axes = "d_model d_head" }',
    )
    theirs = {name: weight for name, weight in W.items() if not name.endswith("W_Q")}
    theirs |= {f"heads.{head}.Q": W["blocks.0.attn.W_Q"][0] for head in (0, 2)}
    with pytest.raises(UsageError, match=r"has no heads\.1\.Q"):
        imported(theirs, tmp_path, layout=layout)
    layout = mapped(
        tmp_path,
        '[weights]\n"blocks.{layer}.attn.W_Q" = { key = "h.{head}", axes = "head d_model d_head" }',
    )
    with pytest.raises(UsageError, match="leave head out of axes"):
        imported(theirs, tmp_path, layout=layout)


ONES = {
    "pos_embed.W_pos": lambda w: w[None],
    "embed.W_E": lambda w: w[:, None],
    "unembed.W_U": lambda w: w[..., None],
    "blocks.0.mlp.b_in": lambda w: w[None, None],
    "blocks.0.attn.W_Q": lambda w: w[:, None],
}


@pytest.mark.parametrize("name", ONES)
def test_axes_of_length_1_are_left_out_and_said(tmp_path, name):
    run = imported({**W, name: ONES[name](W[name])}, tmp_path)
    assert_clock(run)
    assert f"{name} without its axes of length 1" in said(run)


@pytest.mark.parametrize("text", ["tied = true", "[model]\ntied = true"])
@pytest.mark.parametrize("beside", [False, True])
def test_tied_embeddings_are_said_in_one_word(tmp_path, text, beside):
    weights = formats.random_weights(
        ModelConfig(d_model=8, n_heads=2, d_mlp=16, d_vocab_out=P + 1), make_task("modular_addition", p=P)
    )
    weights["unembed.W_U"] = weights["embed.W_E"].T
    theirs = {name: weight for name, weight in weights.items() if beside or name != "unembed.W_U"}
    run = imported(theirs, tmp_path, layout=mapped(tmp_path, text), believe=True)
    assert torch.equal(run.state_dict(0)["unembed.W_U"], weights["unembed.W_U"])
    assert "tied embeddings, W_U = W_E^T" in said(run)
    other = {**weights, "unembed.W_U": weights["unembed.W_U"] * 2}
    with pytest.raises(UsageError, match=r"is no copy of embed\.W_E"):
        imported(other, tmp_path, layout=mapped(tmp_path, text), believe=True, name="other")


def test_the_message_without_a_readout_says_how_to_tie_it(tmp_path):
    with pytest.raises(UsageError, match=r"no unembed\.W_U: .*, a mapping says tied = true"):
        imported({name: weight for name, weight in W.items() if name != "unembed.W_U"}, tmp_path)


# Positions and tokens that are not used


@pytest.mark.parametrize("more", [1, 2, 7])
def test_positions_behind_an_example_are_left_out_and_said(tmp_path, more):
    rows = torch.cat([W["pos_embed.W_pos"], torch.ones(more, W["pos_embed.W_pos"].shape[1])])
    run = imported({**W, "pos_embed.W_pos": rows}, tmp_path)
    assert run.task.layout == "a b ="
    assert_clock(run)
    which = "row 3 is left out" if more == 1 else f"rows 3 to {2 + more} are left out"
    assert f"of {3 + more} rows the first 3 are read; {which}" in said(run)


# Objects


class Schedule:
    """What somebody wrote."""

    def __init__(self) -> None:
        self.warmup = 10


OPTIMIZER = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1, momentum=0.9)
OPTIMIZER.param_groups[0]["params"][0].grad = torch.ones(2)
OPTIMIZER.step()
OBJECTS = {
    "torch.optim.sgd.SGD": OPTIMIZER,
    "torch.optim.lr_scheduler.CosineAnnealingLR": torch.optim.lr_scheduler.CosineAnnealingLR(OPTIMIZER, 10),
    "torch.nn.modules.loss.CrossEntropyLoss": torch.nn.CrossEntropyLoss(),
    "torch.amp.grad_scaler.GradScaler": torch.amp.GradScaler("cpu"),
    "datetime.datetime": datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
    "datetime.timedelta": datetime.timedelta(1),
    "uuid.UUID": uuid.uuid4(),
    "decimal.Decimal": decimal.Decimal("0.1"),
    "collections.deque": collections.deque([1, 2]),
    "numpy.datetime64": np.datetime64("2026-01-01"),
    "numpy.str_": np.str_("adam"),
    f"{__name__}.Schedule": Schedule(),
    "numpy.random._pickle.__generator_ctor": np.random.default_rng(0),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", OBJECTS)
def test_objects_beside_the_weights_are_left_unread_and_named(tmp_path, name, new):
    torch.save(
        {"model": W, "epoch": 5, "extra": OBJECTS[name], "score": np.float64(0.5)},
        tmp_path / "theirs.pt",
        _use_new_zipfile_serialization=new,
    )
    options = {"task": "modular_addition", "forensics": False}
    run = gi.import_checkpoint(tmp_path / "theirs.pt", tmp_path / "run", **options)
    assert_clock(run)
    assert f"left unread: extra ({name})" in said(run)


def warm_up(step, warm):
    return min(1.0, step / warm)


@dataclasses.dataclass
class History:
    losses: list


@dataclasses.dataclass
class Settings:
    lr: float = 0.1


class Phase(enum.Enum):
    LATE = 1


class Flags(enum.IntFlag):
    A = 1


class ByName:
    """Which takes what it is made of by name."""

    def __new__(cls, *, a):
        return super().__new__(cls)

    def __getnewargs_ex__(self):
        return (), {"a": 1}


class Many(dict):
    pass


Point = collections.namedtuple("Point", "a b")
BY_STEP = pd.DataFrame({"step": [0, 1], "loss": [1.0, 2.0], "note": ["a", "b"]})
MORE_OBJECTS = {
    "builtins.divmod": divmod,
    "builtins.int": int,
    "builtins.bytearray": bytearray(b"a"),
    "builtins.range": range(3),
    "builtins.complex": 1j,
    "builtins.Ellipsis": ...,
    "json.dumps": json.dumps,
    "functools.partial": functools.partial(warm_up, warm=10),
    "torch.optim.lr_scheduler.LambdaLR": torch.optim.lr_scheduler.LambdaLR(
        OPTIMIZER, functools.partial(warm_up, warm=10)
    ),
    "torch.optim.swa_utils.SWALR": torch.optim.swa_utils.SWALR(OPTIMIZER, 0.1),
    "torch.torch_version.TorchVersion": torch.__version__,
    "operator.itemgetter": operator.itemgetter(1),
    "array.array": array.array("d", [1.0]),
    "time.struct_time": time.localtime(),
    "ipaddress.IPv4Address": ipaddress.ip_address("127.0.0.1"),
    "random.Random": random.Random(0),
    "collections.ChainMap": collections.ChainMap({"a": 1}),
    f"{__name__}.History": History([1.0]),
    f"{__name__}.Phase": Phase.LATE,
    f"{__name__}.Flags": Flags.A,
    f"{__name__}.Many": Many(a=1),
    f"{__name__}.Point": Point(1, 2),
    f"{__name__}.ByName": ByName(a=1),
    f"{__name__}.warm_up": warm_up,
    "numpy.random._pickle.__randomstate_ctor": np.random.RandomState(0),
    "numpy.ndarray": np.array([{}, None], dtype=object),
    "numpy.str_": np.str_("a"),
    "numpy.float32": np.float32,
    "numpy.complex128": np.complex128(1j),
    "numpy.ma.core._mareconstruct": np.ma.array([1.0, 2.0], mask=[0, 1]),
    "numpy.rec.recarray": np.rec.array([(1, 2.0)]),
    "pandas.DataFrame": BY_STEP,
    "pandas.Series": BY_STEP["loss"],
    "pandas._libs.tslibs.timestamps._unpickle_timestamp": pd.Timestamp("2026-01-01"),
}
"""Objects by their names; some of the libraries change where they stand from version to version."""


def read_with(folder, extra, protocol=None):
    """What is read of a file with something beside its weights, and the objects left unread in it."""
    content = {"model": {"w": torch.zeros(2)}, "extra": extra, "after": [1, extra, 2.5]}
    if protocol is None:
        torch.save(content, folder / "x")
    else:
        (folder / "x").write_bytes(pickle.dumps(content, protocol))
    found = read_foreign(folder / "x")
    assert list(found) == list(content)
    assert (list(found["model"]), found["after"][0], found["after"][2]) == (["w"], 1, 2.5)
    return found, dict(objects_in(found))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("protocol", [None, 4])
@pytest.mark.parametrize("name", MORE_OBJECTS)
def test_whatever_stands_beside_the_weights_is_left_unread_and_named(name, protocol, tmp_path):
    _, unread = read_with(tmp_path, MORE_OBJECTS[name], protocol)
    called = unread["extra",].replace("_array_reconstructor", "array").replace("_operator", "operator")
    called = (
        called.replace("core.frame.", "")
        .replace("core.series.", "")
        .replace("numpy._core.records", "numpy.rec")
    )
    assert called == name
    assert unread["after", 1] == unread["extra",]


READ = {
    "a namespace": (argparse.Namespace(lr=0.1, to=argparse.Namespace(a=1)), {"lr": 0.1}),
    "a simple one": (types.SimpleNamespace(lr=0.1), {"lr": 0.1}),
    "settings of one's own": (Settings(), {"lr": 0.1}),
    "a path": (pathlib.PurePosixPath("a/b"), "a/b"),
    "a number of numpy": (np.float32(0.5), 0.5),
    "a default dict": (collections.defaultdict(functools.partial(dict, a=1), a=[1.0]), {"a": [1.0]}),
    "a dict of ints": (collections.defaultdict(int, a=1), {"a": 1}),
    "an ordered dict": (collections.OrderedDict(a=1), {"a": 1}),
    "a counter": (collections.Counter("aab"), {"a": 2, "b": 1}),
    "keys that are objects": (collections.Counter({Phase.LATE: 3}), {f"({__name__}.Phase 0)": 3}),
    "dates in pairs as keys": ({(1, datetime.date(2026, 1, 1)): 3}, {"(datetime.date 0)": 3}),
    "a set of objects": ({Phase.LATE}, {f"({__name__}.Phase 0)"}),
}


@pytest.mark.parametrize("protocol", [None, 4])
@pytest.mark.parametrize("name", READ)
def test_what_is_data_beside_the_weights_is_read(name, protocol, tmp_path):
    content, expected = READ[name]
    found, _ = read_with(tmp_path, content, protocol)
    extra = getattr(found["extra"], "fields", found["extra"])
    assert ({key: extra[key] for key in expected} if isinstance(expected, dict) else extra) == expected


def test_objects_that_are_read_as_data_and_those_that_are_keys_are_named(tmp_path):
    extra = {"args": argparse.Namespace(func=divmod, lr=0.1), "seen": {Phase.LATE: 1}}
    run = imported({"model": W, "epoch": 5, **extra}, tmp_path)
    assert_clock(run)
    assert "read as data alone, as no code of a file is run: args (argparse.Namespace)" in said(run)
    assert f"left unread: args.func (builtins.divmod), seen ({__name__}.Phase as a key)" in said(run)


@pytest.mark.parametrize(
    "asks",
    [
        Call(divmod, "a"),
        Call(operator.methodcaller("touch"), "a"),
        Call(json.dumps, {}),
        Call(functools.partial(divmod, "a")),
        Call(pathlib.Path.touch, "a"),
        Call(pickle.loads, b"a"),
        Call(random._os.system, "a"),
        Call(pd.read_pickle, "a"),
        Call(torch.load, "a"),
        os.system,
        eval,
    ],
    ids=range(11),
)
@pytest.mark.parametrize("protocol", [None, 4])
def test_what_no_honest_file_asks_to_run_is_refused(asks, protocol, tmp_path):
    with pytest.raises(GrokinterpError, match=r"asks to run .*nothing was executed"):
        read_with(tmp_path, asks, protocol)


def test_a_whole_model_is_named_with_what_to_save(tmp_path):
    for content in (torch.nn.Linear(2, 2), {"model": torch.nn.Linear(2, 2), "epoch": 1}):
        with pytest.raises(GrokinterpError, match=r"torch\.nn\.modules\.linear\.Linear"):
            imported(content, tmp_path)
    with pytest.raises(
        UsageError, match=r"its model is a torch\.nn\.modules\.linear\.Linear.*: save model\.state"
    ):
        imported({"model": torch.nn.Linear(2, 2)}, tmp_path)


# Texts

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_toml_is_read_in_every_encoding_that_editors_write(grokinterp, tmp_path, encoding):
    text = '# café\r\nlike = "transformer_lens"\r\ndoc = "näher"\r\n'
    (tmp_path / "m.toml").write_bytes(text.encode(encoding))
    assert_clock(imported(W, tmp_path, layout=str(tmp_path / "m.toml")))
    (tmp_path / "c.toml").write_bytes("[training]\r\nsteps = 7\r\n".encode(encoding))
    code, out, err = grokinterp(
        "train", "modular_addition", "--config", tmp_path / "c.toml", "--dry-run", "--p", 7
    )
    assert code == 0, err
    assert "7" in out


def test_text_that_is_no_text_is_one_line(tmp_path):
    (tmp_path / "m.toml").write_bytes(b'doc = "\xff\xfe\x80"')
    with pytest.raises(UsageError, match="cannot read the mapping"):
        imported(W, tmp_path, layout=str(tmp_path / "m.toml"))
