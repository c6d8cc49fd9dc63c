"""What is in other people's files beside one network: snapshots in every form, losses in every form, and an
account of all the rest."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import foreign_formats as formats
import grokinterp as gi
from grokinterp import controls
from grokinterp.errors import GrokinterpError, UsageError
from grokinterp.foreign import Record, read_foreign
from grokinterp.importing.mapping import built_in
from grokinterp.importing.places import Account
from grokinterp.importing.series import thinning
from grokinterp.importing.snapshots import networks_in, state_dicts
from grokinterp.models import ModelConfig
from grokinterp.report import save_replay
from grokinterp.runs.account import steps_in_words
from grokinterp.tasks import make_task, order
from test_import import MAPPING

ROOT = Path(__file__).parents[1]
CHECKPOINTS = ROOT / os.environ.get("GROKINTERP_CHECKPOINTS", "../shared/checkpoints")
P = 7
ADDITION = make_task("modular_addition", p=P)
SMALL = ModelConfig(d_model=12, n_heads=2, d_head=5, d_mlp=20)
W = [formats.random_weights(SMALL, ADDITION, seed) for seed in range(5)]
LENS = built_in()["transformer_lens"]
OTHER = formats.random_weights(SMALL.model_copy(update={"d_mlp": 24}), ADDITION)


def imported(content, folder, **options):
    file = folder / "theirs.pth"
    torch.save(content, file)
    given = {"forensics": False, "progress": False, "task": "modular_addition", "believe": True, **options}
    return gi.import_checkpoint(file, folder / "run", **given)


def said(run) -> str:
    return "\n".join(run.imported["assumed"])


def assert_networks(run, expected):
    """The run's snapshots are these networks, at these steps and no others."""
    assert run.steps == sorted(expected)
    for step, which in expected.items():
        for name, weight in run.state_dict(step).items():
            assert torch.equal(weight, W[which][name]), (step, name)


# An account of the file, by a walk of the test's own


def leaves(value, path=()):
    """Every tensor and every list of numbers, with the keys that lead to it."""
    if isinstance(value, torch.Tensor):
        yield path, value.double().flatten().numpy()
    elif isinstance(value, np.ndarray):
        yield path, value.astype(float).ravel()
    elif (
        isinstance(value, list | tuple | set)
        and value
        and all(isinstance(item, int | float) for item in value)
    ):
        yield path, np.array(list(value), dtype=float)
    else:
        inside = value.fields if isinstance(value, Record) else value
        for key, child in (
            inside.items()
            if isinstance(inside, dict)
            else enumerate(inside if isinstance(inside, list | tuple) else ())
        ):
            yield from leaves(child, (*path, key))


def numbers_of(run):
    """Every number that the run took over."""
    parts = [np.array(run.steps, dtype=float), run.history.to_numpy(dtype=float).ravel()]
    parts += [
        weight.double().numpy().ravel() for step in run.steps for weight in run.state_dict(step).values()
    ]
    parts += [
        np.ravel(value).astype(float)
        for value in run.imported["training"].values()
        if not isinstance(value, str)
    ]
    parts += [rows.double().numpy() for rows in ((run.split.train, run.split.test) if run.split else ())]
    return np.unique(np.concatenate(parts))


def unaccounted(run, content):
    """The places of leaves of which some number is not in the run, and which are not named as left out."""
    taken = numbers_of(run)
    named = [place for entry in run.imported["left_out"] for place in entry["places"]]
    taken = np.union1d(
        taken,
        [float(n.replace(",", "")) for place in named for n in re.findall(r" \(step ([\d,]+)\)$", place)],
    )
    named = [re.sub(r" \(step [\d,]+\)$", "", place) for place in named]
    missing = []
    for path, values in leaves(content):
        dotted = ".".join(map(str, path))
        is_named = any(
            place == "the file itself" or fnmatch.fnmatchcase(dotted + ".", f"{place}.*") for place in named
        )
        finite = values[np.isfinite(values)]
        if not is_named and not np.isin(finite, taken).all():
            missing.append(dotted)
    return missing


def assert_all_accounted(run, content):
    assert unaccounted(run, content) == []
    for entry in run.imported["left_out"]:
        assert entry["reason"]
        assert entry["tensors"] or entry["lists"]
        named = entry["places"][:6]
        assert any(
            entry["reason"] in sentence and all(p in sentence for p in named)
            for sentence in run.imported["assumed"]
        )


# Snapshots


STEPS = torch.tensor([0, 100])
FORMS = {
    "dict by number": {"model": W[2], "epoch": 200, "checkpoints": {0: W[0], 100: W[1]}},
    "dict by digits": {"model": W[2], "epoch": 200, "checkpoints": {"0": W[0], "100": W[1]}},
    "dict by words": {"model": W[2], "epoch": 200, "snapshots": {"epoch_0": W[0], "epoch_100": W[1]}},
    "dict by padded words": {"model_state_dict": W[2], "step": 200, "history": {"step000000": W[0],
    "step000100": W[1]}},
    "dict by names of files": {"checkpoints": {"model_0.pt": W[0], "model_100.pt": W[1],
    "model_200.pt": W[2]}},
    "dict by floats": {"checkpoints": {0.0: W[0], 100.0: W[1], 200.0: W[2]}},
    "unsorted dict": {"checkpoints": {200: W[2], 0: W[0], 100: W[1]}},
    "dict of dicts": {"checkpoints": {n * 100: {"model": W[n], "train_loss": 1.0} for n in range(3)}},
    "the file is a dict by number": {0: W[0], 100: W[1], 200: W[2]},
    "the file is a dict by words": {"epoch 0": {"state_dict": W[0]}, "epoch 100": {"state_dict": W[1]},
    "epoch 200": {"state_dict": W[2]}},
    "list beside steps": {"checkpoints": W[:3], "checkpoint_epochs": [0, 100, 200]},
    "list beside an array": {"state_dicts": W[:3], "epochs": np.array([0, 100, 200])},
    "list beside a tensor of another name": {"weights_history": W[:3], "saved_steps": torch.tensor([0, 100,
    200])},
    "list in a dict": {"trajectory": {"steps": [0, 100, 200], "states": W[:3]}},
    "list, and the last again": {"model": W[2], "epoch": 200, "checkpoints": W[:3], "checkpoint_epochs": [0,
    100, 200]},
    "list, and a later one": {"model": W[2], "epoch": 200, "checkpoints": W[:2], "checkpoint_epochs": [0,
    100]},
    "list beside steps, losses beside others": {
        "checkpoints": W[:3], "checkpoint_epochs": [0, 100, 200], "epochs": [0, 50], "train_losses": [2.5,
        1.5],
    },
    "pairs": {"checkpoints": [(0, W[0]), (100, W[1]), (200, W[2])]},
    "pairs the other way round": {"snapshots": [[W[0], 0], [W[1], 100], [W[2], 200]]},
    "pairs with tensors": {"checkpoints": [(torch.tensor(n * 100), W[n]) for n in range(3)]},
    "triples with a loss": {"checkpoints": [(n * 100, W[n], 2.0) for n in range(3)]},
    "the file is a list of pairs": [(0, W[0]), (100, W[1]), (200, W[2])],
    "list of dicts": {"checkpoints": [{"epoch": n * 100, "model": W[n]} for n in range(3)]},
    "list of dicts with other words": {"ckpts": [{"global_step": n * 100, "state_dict": W[n],
    "loss": 0.5} for n in range(3)]},
    "list of networks with their step among the weights": {"checkpoints": [{**W[n], "epoch": n * 100,
    "note": "x"} for n in range(3)]},
    "the last among everything": {**W[2], "epoch": 200, "checkpoints": {0: W[0], 100: W[1]}},
    "the file is a list of dicts": [{"step": n * 100, "model_state_dict": W[n]} for n in range(3)],
    "list of dicts in no order": {"checkpoints": [{"epoch": n * 100, "model": W[n]} for n in (2, 0, 1)]},
    "the first, best and last": {"init_state_dict": W[0], "best_model": W[1], "best_epoch": 100,
    "model": W[2], "epoch": 200},
    "best in a dict of its own": {"best": {"epoch": 100, "model": W[1]}, "model": W[2], "epoch": 200,
    "initial": W[0]},
    "best by another word": {
        "best_state": W[1], "epoch_of_best": 100, "final_state": W[2], "epoch": 200, "init": {"epoch": 0,
        "model": W[0]},
    },
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_snapshots_in_every_form(tmp_path, form):
    run = imported(FORMS[form], tmp_path)
    assert_networks(run, {0: 0, 100: 1, 200: 2})
    assert all(run.step_known(step) for step in run.steps)
    assert "does not say" not in said(run)
    assert_all_accounted(run, FORMS[form])


AVERAGE = "an average over steps, and no network of one step"
NO_STEP = "the file does not say of which step it is"
LEFT_OUT = {
    "ema": ({"model": W[2], "epoch": 200, "ema_model": W[3]}, "ema_model", AVERAGE),
    "averaged": ({"model": W[2], "epoch": 200, "swa": {"epoch": 200, "model": W[3]}}, "swa.model (step 200)",
    AVERAGE),
    "best without step": ({"model": W[2], "epoch": 200, "best_model": W[3]}, "best_model", NO_STEP),
    "best in a dict without step": ({"model": W[2], "epoch": 200, "best": {"model": W[3], "loss": 0.1}},
    "best.model", NO_STEP),
    "teacher": ({"model": W[2], "epoch": 200, "teacher": W[3]}, "teacher", NO_STEP),
    "other seeds": ({"model": W[2], "epoch": 200, "seeds": {0: W[3]}}, "seeds.0", NO_STEP),
    "gradients": ({"model": W[2], "epoch": 200, "grads": W[3]}, "grads", "gradients, which are no weights"),
    "same step": ({"model": W[2], "epoch": 200, "new": {"epoch": 200, "model": W[3]}},
    "new.model (step 200)", "same step as model"),
    "the same again": ({"model": W[2], "epoch": 200, "best_model": W[2]}, "best_model",
    "the same network as model"),
    "best among numbers": ({"checkpoints": {200: W[2], "best": W[3]}}, "checkpoints.best", NO_STEP),
    "more than there are steps": ({"model": W[2], "epoch": 3, "checkpoints": W[:1] * 4}, "checkpoints.0",
    "more than there are steps"),
}  # fmt: skip


@pytest.mark.parametrize("what", LEFT_OUT)
def test_a_network_that_is_no_snapshot_is_named_with_the_reason(tmp_path, what):
    content, place, reason = LEFT_OUT[what]
    run = imported(content, tmp_path)
    assert_networks(run, {content.get("epoch", 200): 2})
    (entry,) = [entry for entry in run.imported["left_out"] if reason in entry["reason"]]
    assert entry["places"][0] == place
    if entry["more"] == 0:
        assert_all_accounted(run, content)


def test_an_average_alone_is_read_and_called_one(tmp_path):
    run = imported({"ema": W[1], "epoch": 3}, tmp_path)
    assert_networks(run, {0: 1})
    assert run.step_text(0) == "step unknown"
    assert "by its name an average of networks over steps, and no network of one step: ema" in said(run)


def test_several_networks_of_which_none_is_the_last_are_refused(tmp_path):
    with pytest.raises(
        UsageError,
        match=r"several networks, alice and bob, and does not say which is the last: .* contents\.weights",
    ):
        imported({"alice": W[0], "bob": W[1]}, tmp_path)


def test_a_network_under_any_name_is_found(tmp_path):
    run = imported({"results": {"student": W[1]}, "notes": "x"}, tmp_path)
    assert_networks(run, {0: 1})


# Steps that are not known


UNKNOWN = {
    "one": ({"model": W[0]}, {0: 0}, ["step unknown"]),
    "plain": (W[0], {0: 0}, ["step unknown"]),
    "a list": ({"checkpoints": W[:2]}, {0: 0, 1: 1}, [f"snapshot {n} of 2, step unknown" for n in (1, 2)]),
    "a list, and the last": (
        {"checkpoints": W[:2], "model": W[2], "epoch": 9},
        {0: 0, 1: 1, 9: 2},
        ["snapshot 1 of 3, step unknown", "snapshot 2 of 3, step unknown", "step 9"],
    ),
    "a list whose last is known": (
        {"checkpoints": W[:2], "model": W[1], "epoch": 900},
        {0: 0, 900: 1},
        ["snapshot 1 of 2, step unknown", "step 900"],
    ),
    "the last": (
        {"checkpoints": {0: W[0], 5: W[1]}, "model": W[2]},
        {0: 0, 5: 1, 6: 2},
        ["step 0", "step 5", "snapshot 3 of 3, step unknown"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", UNKNOWN)
def test_a_step_that_the_file_does_not_say_is_called_unknown(tmp_path, what):
    content, expected, texts = UNKNOWN[what]
    run = imported(content, tmp_path)
    assert_networks(run, expected)
    assert [run.step_text(step) for step in run.steps] == texts
    assert [run.step_known(step) for step in run.steps] == ["unknown" not in text for text in texts]
    assert said(run).count("the file does not say after how many steps") == 1
    assert "the file's own" not in said(run)
    for step in run.imported["unknown_steps"]:
        assert f"step {step} is" not in said(run)


NO_STEPS = {
    "planned numbers": ({"model": W[0], "epochs": 5000, "n_steps": 5000}, "n_steps, 5000, was not taken"),
    "a fraction": ({"model": W[0], "epoch": 10.5}, "the file's epoch, 10.5, is no number of steps"),
    "not finite": ({"model": W[0], "epoch": float("nan")}, "the file's epoch, nan, is no number of steps"),
    "out of all bounds": ({"model": W[0], "step": 10**18},
    f"the file's step, {10**18}, is no number of steps"),
    "a word": ({"model": W[0], "epoch": "latest"}, "the file's epoch, latest, is no number of steps"),
    "below 0": ({"model": W[0], "global_step": torch.tensor(-3)},
    "the file's global_step, -3, is no number of steps"),
    "twice the same": ({"checkpoints": W[:2], "checkpoint_epochs": [5, 5]},
    "the file's checkpoint_epochs, [5, 5], is not one step"),
    "too few": ({"checkpoints": W[:3], "checkpoint_epochs": [5, 6]}, "the file's checkpoint_epochs, [5, 6], "
    "is not one step for each"),
    "of another name": ({"ckpts": W[:2], "saved_steps": [5, 5]},
    "the file's saved_steps, [5, 5], is not one step for each"),
    "fractions": ({"checkpoints": W[:2], "epochs": [0.5, 1.5]},
    "the file's epochs, [0.5, 1.5], is not one step for each"),
}  # fmt: skip


@pytest.mark.parametrize("what", NO_STEPS)
def test_what_is_called_a_step_and_is_none_is_said_to_be_none(tmp_path, what):
    content, says = NO_STEPS[what]
    run = imported(content, tmp_path)
    count = len(content.get("checkpoints", content.get("ckpts", [0])))
    assert_networks(run, {n: n for n in range(count)})
    assert run.imported["unknown_steps"] == run.steps
    assert says in said(run)
    assert "the file does not say" not in said(run)
    assert_all_accounted(run, content)


@pytest.mark.parametrize("epoch", ["100", 100.0, torch.tensor(100), torch.tensor([100.0]), "0100"])
def test_a_step_in_any_form_is_taken(tmp_path, epoch):
    run = imported({"model": W[0], "epoch": epoch}, tmp_path)
    assert_networks(run, {100: 0})
    assert run.step_known(100)
    assert "not taken" not in said(run)


@pytest.mark.parametrize(
    ("content", "step", "says"),
    [
        ({"model": W[0], "epoch": 10, "step": 1000}, 10, "the file's step, 1000, was not taken for a step"),
        ({"model": W[0], "step": 1000, "epoch": 10}, 10, "the file's step, 1000, was not taken for a step"),
        (
            {"model": W[0], "global_step": 70, "epoch": 10.5},
            70,
            "the file's epoch, 10.5, is no number of steps, and was not taken",
        ),
        (
            {"checkpoints": [{"model": W[0], "epoch": 3, "step": 9}]},
            3,
            "the file's checkpoints.0.step, 9, was not taken for a step",
        ),
        ({"model": W[0], "epoch": 10, "step": 10}, 10, ""),
    ],
)
def test_a_second_step_that_is_not_taken_is_said(tmp_path, content, step, says):
    run = imported(content, tmp_path)
    assert_networks(run, {step: 0})
    assert says in said(run)
    assert ("not taken" in said(run)) == bool(says)


OF_ONE = {
    **dict.fromkeys(("epoch", "global_step", "n_iter", "iter_num", "step_count", "cur_step", "ep", "it"), 3),
    **dict.fromkeys(("epochs_trained", "steps_done", "last_epoch", "completed_steps", "n_iter_so_far"), 3),
    **dict.fromkeys(("steps", "n_epochs", "num_updates", "start_epoch", "next_step", "total_steps")),
    **dict.fromkeys(("max_epochs", "batch", "i", "warmup_steps", "eval_every_steps", "patience")),
}
METAS = ["meta", "metadata", "info", "trainer_state", "progress", "training_state", "extra"]


@pytest.mark.parametrize("key", OF_ONE)
def test_a_step_under_any_name(key):
    for beside in [{key: 3}, *({meta: {key: 3, "lr": 0.1}} for meta in METAS)]:
        content = {"model": W[0], **beside}
        (network,) = networks_in(LENS, content, state_dicts(content))
        assert network.step == OF_ONE[key], beside


@pytest.mark.parametrize("key", ["steps", "n_epochs", "start_epoch"])
def test_what_may_be_steps_that_are_to_be_is_said_and_not_taken(key):
    content = {"model": W[0], key: 3}
    (network,) = networks_in(LENS, content, state_dicts(content))
    assert network.untaken == (((key,), 3),)
    content = {"model": W[0], "epoch": 2, key: 3}
    (network,) = networks_in(LENS, content, state_dicts(content))
    assert (network.step, network.untaken) == (2, ())


@pytest.mark.parametrize("name", ["config", "args", "hparams", "optimizer", "scheduler"])
def test_a_step_of_settings_or_of_a_schedule_is_none_of_the_network(name):
    content = {"model": W[0], name: {"epoch": 3, "last_epoch": 3, "n_iter": 3}}
    (network,) = networks_in(LENS, content, state_dicts(content))
    assert network.step is None


OF_EACH = {
    "a dict in each": {name: {"model": W[i], "meta": {"epoch": 50 * i}} for i, name in enumerate("ab")},
    "a dict in each of a list": [{"net": W[i], "info": {"n_iter": 50 * i}} for i in range(2)],
    "keys with words of a network": {f"state_dict_epoch_{50 * i}": W[i] for i in range(2)},
    "keys with the network inside": {f"model_step_{50 * i}": {"model": W[i]} for i in range(2)},
    "an equals sign": {f"step={50 * i}": W[i] for i in range(2)},
    "thousands": {f"step_{i}k": W[i // 50] for i in (0, 50)},
}


@pytest.mark.parametrize("form", OF_EACH)
def test_steps_of_several(form):
    content = OF_EACH[form]
    found = {network.step: network.state for network in networks_in(LENS, content, state_dicts(content))}
    times = 1000 if form == "thousands" else 1
    assert set(found) == {0, 50 * times}
    assert torch.equal(found[50 * times]["embed.W_E"], W[1]["embed.W_E"])


@pytest.mark.parametrize(
    "steps", [[200, 100, 0], [100, 0, 200], torch.tensor([200, 0, 100]), ["0", "200", "100"]]
)
def test_networks_in_no_order_are_sorted_by_their_steps(tmp_path, steps):
    numbers = [int(step) for step in steps]
    content = {"checkpoints": [W[number // 100] for number in numbers], "checkpoint_epochs": steps}
    run = imported(content, tmp_path)
    assert_networks(run, {0: 0, 100: 1, 200: 2})
    assert run.imported["unknown_steps"] == []
    assert_all_accounted(run, content)


def test_what_is_measured_at_an_unknown_step_stays_out_of_the_files_history(tmp_path):
    rows = order(P * P, "torch_randperm", 0)
    content = {
        "checkpoints": W[:2],
        "train_indices": rows[:20],
        "test_indices": rows[20:],
        "train_losses": [3.5, 2.5, 1.5],
    }
    run = imported(content, tmp_path)
    assert run.history["train_loss"].tolist() == [3.5, 2.5, 1.5]
    assert run.history["train_accuracy"].isna().all()
    assert "measured" not in said(run)
    alone = imported(
        {key: value for key, value in content.items() if key != "train_losses"}, tmp_path / "run", **{}
    )
    assert alone.history["train_accuracy"].notna().all()


def test_the_commands_do_not_print_a_step_that_is_not_known(grokinterp, tmp_path):
    torch.save({"model": dict(controls.clock(13, (2, 5)).weights)}, tmp_path / "theirs.pth")
    code, stdout, _ = grokinterp(
        "import",
        tmp_path / "theirs.pth",
        "--out",
        tmp_path / "run",
        "--no-forensics",
        "--believe",
        "--task",
        "modular_addition",
    )
    assert code == 0
    assert f"one snapshot, step unknown in {tmp_path / 'run'}" in stdout
    assert "step 0" not in stdout
    code, stdout, _ = grokinterp(
        "analyze", tmp_path / "run", "--measure", "gini.W_E", "--no-replay", "--out", tmp_path / "report"
    )
    assert code == 0
    assert "step unknown" in stdout.splitlines()[0]
    assert "up to step unknown" in repr(gi.load_run(tmp_path / "run"))


@pytest.mark.parametrize(
    ("steps", "unknown", "text"),
    [
        *(([5], [], "one snapshot, step 5"), ([0], [0], "one snapshot, step unknown"), ([0, 1], [0, 1],
        "2 snapshots, steps unknown")),
        ([0, 1000, 2000], [], "3 snapshots, steps 0 to 2,000"),
        ([0, 1, 9], [0, 1], "3 snapshots, 2 of unknown steps, the other of step 9"),
        ([0, 5, 9, 10], [10], "4 snapshots, 1 of unknown steps, the others of steps 0 to 9"),
    ],
)  # fmt: skip
def test_steps_in_words(steps, unknown, text):
    assert steps_in_words(steps, unknown) == text


def test_the_page_of_a_replay_does_not_say_a_step_that_is_not_known(tmp_path):
    run = imported(
        {
            "checkpoints": [dict(controls.clock(13, (2, 5)).weights)] * 2,
            "model": dict(controls.clock(13, (2, 5)).weights),
        },
        tmp_path,
    )
    save_replay(run, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    content = json.loads(
        re.search(r'<script type="application/json" id="replay">(.*?)</script>', html, re.DOTALL)[1]
    )
    assert content["moments"] == ["step unknown"] * 2
    assert content["axis"] == "step; some are not known, and only number the snapshots"
    assert ", 2 snapshots, steps unknown</p>" in html


# Networks that cannot be read


def without(weights, key):
    return {name: weight for name, weight in weights.items() if name != key}


NAN = {**W[2], "embed.W_E": W[2]["embed.W_E"] * float("nan")}
BAD = {
    "nan": (NAN, r"embed\.W_E holds numbers that are not finite"),
    "infinite": (
        {**W[2], "unembed.b_U": W[2]["unembed.b_U"] / 0},
        r"unembed\.b_U holds numbers that are not finite",
    ),
    "a key is missing": (without(W[2], "unembed.W_U"), r"no unembed\.W_U"),
    "a key too many": (
        {**W[2], "blocks.0.attn.W_gate": W[2]["embed.W_E"]},
        r"holds 'blocks\.0\.attn\.W_gate'",
    ),
    "a wrong shape": (
        {**W[2], "blocks.0.mlp.W_in": W[2]["blocks.0.mlp.W_in"].T},
        r"blocks\.0\.mlp\.W_in has the shape|W_in",
    ),
    "whole numbers": ({**W[2], "embed.W_E": W[2]["embed.W_E"].long()}, r"embed\.W_E holds torch\.int64"),
    "another network": (OTHER, "another network than the others, by its shapes"),
}


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("what", BAD)
def test_one_bad_snapshot_does_not_lose_the_others(tmp_path, what, position):
    bad, reason = BAD[what]
    states = [W[0], W[1]]
    states.insert(position, bad)
    content = {"checkpoints": states, "checkpoint_epochs": [0, 100, 200]}
    run = imported(content, tmp_path)
    steps = [0, 100, 200]
    step = steps.pop(position)
    assert_networks(run, {steps[0]: 0, steps[1]: 1})
    (entry,) = run.imported["left_out"]
    assert entry["places"] == [f"checkpoints.{position} (step {step})"]
    assert re.search(reason, entry["reason"])
    assert ("the last network cannot be read" in said(run)) == (position == 2)
    assert_all_accounted(run, content)


@pytest.mark.parametrize("nothing", [None, {}, [], "lost", {"loss": 2.5}])
def test_a_place_without_a_network_is_named(tmp_path, nothing):
    run = imported({"checkpoints": [W[0], nothing, W[2]], "checkpoint_epochs": [0, 100, 200]}, tmp_path)
    assert_networks(run, {0: 0, 200: 2})
    assert "there is no network in checkpoints.1" in said(run)


STACKED = {name: torch.stack([weight, weight * 2]) for name, weight in W[0].items()}
LATER = {
    "tensors of all steps": ({"model": W[0], "epoch": 200, "all_weights": STACKED}, False),
    "a bad best one": ({"model": W[0], "epoch": 200, "best_model": NAN}, False),
    "a bad average": ({"model": W[0], "epoch": 200, "ema": {"model": NAN, "epoch": 300}}, False),
    "bad ones of unknown steps before the last": ({"model": W[0], "epoch": 200, "checkpoints": [NAN, NAN]},
    False),
    "an earlier one": ({"model": W[0], "epoch": 200, "checkpoints": {100: NAN}}, False),
    "a later one": ({"model": W[0], "epoch": 200, "checkpoints": {300: NAN}}, True),
    "the last": ({"model": NAN, "epoch": 900, "checkpoints": [W[0]]}, True),
    "the last, of an unknown step": ({"model": NAN, "checkpoints": {0: W[0]}}, True),
    "the last of a list": ({"checkpoints": [W[0], NAN]}, True),
    "the first of a list": ({"checkpoints": [NAN, W[0]]}, False),
}  # fmt: skip


@pytest.mark.parametrize("what", LATER)
def test_a_bad_network_is_called_the_last_only_where_it_is(tmp_path, what):
    content, is_last = LATER[what]
    assert ("the last network cannot be read" in said(imported(content, tmp_path))) == is_last


def test_where_the_model_is_bad_the_last_good_snapshot_stands_for_it(tmp_path):
    run = imported({"model": NAN, "epoch": 300, "checkpoints": {0: W[0], 100: W[1]}}, tmp_path)
    assert_networks(run, {0: 0, 100: 1})
    assert (
        "the last network cannot be read: what is said of the last is said of checkpoints.100 (step 100)"
        in said(run)
    )
    assert "left out: model (step 300) " in said(run)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"model": NAN}, r"theirs\.pth: embed\.W_E holds numbers that are not finite"),
        ({"model": NAN, "epoch": 300},
        r"theirs\.pth: model, step 300: embed\.W_E holds numbers that are not finite"),
        ({"checkpoints": [NAN, NAN], "checkpoint_epochs": [5, 70]},
        r"none of its 2 networks can be read; checkpoints\.1, step 70: embed"),
        ({"checkpoints": {10: without(W[0], "unembed.W_U")}},
        r"checkpoints\.10, step 10: its state dict has no unembed\.W_U"),
    ],
)  # fmt: skip
def test_where_none_is_good_file_and_step_are_named(tmp_path, content, says):
    with pytest.raises(GrokinterpError, match=says) as error:
        imported(content, tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


# Losses and accuracies


TENS = [n * 10 for n in range(11)]
LOSSES = [3.25 - n / 8 for n in range(11)]
BY_TEN = dict(zip(TENS, LOSSES, strict=True))
MODEL = {"model": W[0], "epoch": 100}
SERIES = {
    "pairs": {"train_losses": list(BY_TEN.items())},
    "lists of two": {"train_losses": [[step, loss] for step, loss in BY_TEN.items()]},
    "pairs in an array": {"train_losses": np.array(list(BY_TEN.items()))},
    "columns of a tensor": {"train_losses": torch.tensor([TENS, LOSSES], dtype=torch.float64)},
    "pairs with tensors": {"train_loss": [(step, torch.tensor(loss)) for step, loss in BY_TEN.items()]},
    "dict by number": {"train_losses": BY_TEN},
    "dict by digits": {"train_losses": {str(step): loss for step, loss in BY_TEN.items()}},
    "dict by words": {
        "train_loss_history": {f"epoch_{step}": torch.tensor(loss) for step, loss in BY_TEN.items()}
    },
    "dict in no order": {"train_losses": dict(reversed(BY_TEN.items()))},
    "every tenth": {"train_losses": LOSSES},
    "every tenth, an array": {"train_losses": np.array(LOSSES)},
    "every tenth, a list of tensors": {"train_losses": [torch.tensor(loss) for loss in LOSSES]},
    "beside their epochs": {"train_losses": LOSSES, "epochs": TENS},
    "beside epochs of their own": {
        "train_losses": LOSSES,
        "train_epochs": np.array(TENS),
        "test_epochs": list(range(11)),
    },
    "beside epochs further up": {"eval_steps": TENS, "metrics": {"train": {"loss": LOSSES}}},
    "in a dict": {"history": {"epoch": TENS, "train_loss": LOSSES}},
    "by part": {"losses": {"train": torch.tensor(LOSSES, dtype=torch.float64)}},
    "by part, in camel case": {"trainLosses": LOSSES},
    "in a dict of their own": {"train_losses": {"steps": TENS, "values": LOSSES}},
    "rows": {"log": [{"epoch": step, "train_loss": loss} for step, loss in BY_TEN.items()]},
    "rows by epoch": {"history": {step: {"train_loss": loss, "note": "x"} for step, loss in BY_TEN.items()}},
    "rows of one loss": {"train_losses": [{"step": step, "value": loss} for step, loss in BY_TEN.items()]},
}


@pytest.mark.parametrize("form", SERIES)
def test_losses_in_every_form(tmp_path, form):
    content = {**MODEL, **SERIES[form]}
    run = imported(content, tmp_path)
    history = run.history
    assert history["step"].tolist() == TENS
    assert history["train_loss"].tolist() == LOSSES
    assert history["test_loss"].isna().all()
    assert "train losses: 11 under" in said(run)
    assert "of steps 0 to 100" in said(run)
    assert_all_accounted(run, content)


@pytest.mark.parametrize(
    ("key", "column"),
    [
        *(("train_losses", "train_loss"), ("test_losses", "test_loss"), ("training_loss", "train_loss"),
        ("val_loss", "test_loss")),
        *(("train_acc", "train_accuracy"), ("test_accs", "test_accuracy"), ("test_accuracies",
        "test_accuracy")),
        ("valAccuracy", "test_accuracy"),
        *(("train_accuracy_history", "train_accuracy"), ("eval_losses", "test_loss")),
    ],
)  # fmt: skip
def test_losses_and_accuracies_by_their_names(tmp_path, key, column):
    run = imported({"model": W[0], "epoch": 3, key: [0.5, 0.25, 0.75, 1.0]}, tmp_path)
    assert run.history.set_index("step")[column].to_dict() == {0: 0.5, 1: 0.25, 2: 0.75, 3: 1.0}
    assert run.history.drop(columns=["step", column]).isna().all(axis=None)


@pytest.mark.parametrize(
    ("test", "train"),
    [
        *(([50.0, 100.0], [100.0, 100.0]), ([50.0, 100.0], [0.5, 1.0]), ([0.57, 0.57], [1.0, 100.0]), ([0.0,
        2.0], [0.5, 100.0])),
        *(([0.5, 0.9], [0.25, 1.01]), ([0.5, 1.0], [0.25, 1.0]), ([0.0, 0.0], [1.0, 1.0])),
    ],
)  # fmt: skip
def test_percent_are_shares_and_all_accuracies_are_in_percent_or_none(tmp_path, test, train):
    run = imported({"model": W[0], "epoch": 1, "test_acc": test, "train_acc": train}, tmp_path)
    by = 100 if max(test + train) > 1 else 1
    assert run.history["test_accuracy"].tolist() == [value / by for value in test]
    assert run.history["train_accuracy"].tolist() == [value / by for value in train]
    assert said(run).count(", in percent") == (2 if by > 1 else 0)


def test_percent_are_said_to_be(tmp_path):
    run = imported({"model": W[0], "epoch": 1, "test_acc": [50.0, 100.0]}, tmp_path)
    assert (
        "test accuracies: 2 under test_acc, of steps 0 to 1 (one a step from 0 on, as they are taken), in "
        "percent" in said(run)
    )


NOT_TAKEN = {
    "too few": ({"train_losses": [1.5] * 7}, "7 train losses do not go with its 100 steps"),
    "a thinning that is not clear": (
        {"train_losses": LOSSES[:10]},
        "10 train losses do not go with its 100 steps",
    ),
    "below 0": ({"train_losses": [-1.5] * 101}, "numbers below 0"),
    "above 100": ({"train_acc": [150.5] * 101}, "numbers above 100"),
    "no number": ({"train_losses": [float("nan")] * 101}, "no finite number"),
    "steps in no order": (
        {"train_losses": [{"epoch": 7, "loss": 1.5}, {"epoch": 3, "loss": 2.5}]},
        "do not increase",
    ),
    "a table": ({"train_losses": np.full((101, 3), 1.5)}, "neither numbers in a row"),
    "of no part": ({"losses": [1.5] * 101}, "by its name"),
    "of another kind": ({"train_excluded_loss": [1.5] * 101}, "by its name"),
    "logarithms": ({"train_log_losses": [1.5] * 101}, "by its name"),
    "twice": ({"train_losses": LOSSES, "train_nll": [7.5] * 11}, "train losses are read from train_losses"),
    "validation beside test": (
        {"test_losses": LOSSES, "val_losses": [7.5] * 11},
        "test losses are read from test_losses",
    ),
    "of an optimiser": ({"optimizer": {"train_loss": [1.5] * 101}}, "the state of an optimiser"),
}


@pytest.mark.parametrize("what", NOT_TAKEN)
def test_numbers_that_are_not_taken_are_named_with_the_reason(tmp_path, what):
    more, reason = NOT_TAKEN[what]
    content = {**MODEL, **more}
    run = imported(content, tmp_path)
    taken = run.history[["train_loss", "test_loss", "train_accuracy", "test_accuracy"]].to_numpy()
    assert not (np.isin(taken, [1.5, 7.5, -1.5, 150.5])).any()
    (entry,) = run.imported["left_out"]
    assert reason in entry["reason"]
    assert_all_accounted(run, content)


def test_columns_of_rows_that_are_not_taken_are_named(tmp_path):
    rows = [
        {"epoch": n * 10, "train_loss": 2.0 - n / 8, "lr": 0.001, "grad_norm": 3.5 + n} for n in range(11)
    ]
    run = imported({**MODEL, "log": rows}, tmp_path)
    assert run.history["train_loss"].tolist() == [2.0 - n / 8 for n in range(11)]
    assert sorted(place for entry in run.imported["left_out"] for place in entry["places"]) == [
        "log.*.grad_norm",
        "log.*.lr",
    ]


def test_losses_beyond_the_last_network_are_said_to_be(tmp_path):
    run = imported({"model": W[0], "epoch": 2, "train_losses": [0.5] * 5}, tmp_path)
    assert run.history["step"].tolist() == [0, 1, 2, 3, 4]
    assert "and on after the last network, of step 2" in said(run)


def test_numbers_that_are_missing_are_counted(tmp_path):
    run = imported(
        {**MODEL, "train_losses": [None if n % 10 else 1.5 for n in range(100)] + [float("inf")]}, tmp_path
    )
    assert run.history["step"].tolist() == TENS[:10]
    assert "91 that are no finite numbers were left out" in said(run)


@pytest.mark.parametrize(
    ("count", "last", "every"),
    [
        *((11, 100, 10), (51, 5000, 100), (6, 100, 20), (101, 50_000, 500), (41, 1000, 25), (26, 100, 4),
        (51, 100, 2)),
        *((10, 100, None), (10, 99, None), (5, 100, None), (3, 100, None), (12, 100, None), (1, 100, None),
        (0, 5, None), (34, 99, None)),
    ],
)  # fmt: skip
def test_a_thinning_is_recognised_where_only_one_would_do(count, last, every):
    assert thinning(count, last) == every


def test_losses_give_the_step_of_a_network_that_has_none(tmp_path):
    run = imported({"model": W[0], "train_losses": list(BY_TEN.items())}, tmp_path)
    assert run.steps == [100]
    assert "step 100 is that of the last of the file's losses" in said(run)


def test_losses_at_the_snapshots(tmp_path):
    run = imported(
        {
            "checkpoints": W[:3],
            "checkpoint_epochs": [0, 70, 200],
            "train_losses": [3.5, 2.5, 1.5],
            "test_accs": [0.0, 0.5, 1.0],
        },
        tmp_path,
    )
    assert run.history.set_index("step")["train_loss"].to_dict() == {0: 3.5, 70: 2.5, 200: 1.5}
    assert run.history.set_index("step")["test_accuracy"].to_dict() == {0: 0.0, 70: 0.5, 200: 1.0}


def test_accuracies_that_are_not_those_measured_are_called_so(tmp_path):
    rows = order(P * P, "torch_randperm", 0)
    content = {
        "model": W[0],
        "epoch": 1,
        "train_indices": rows[:20],
        "test_indices": rows[20:],
        "train_acc": [1.0, 1.0],
    }
    assert "the train accuracy measured is NOT the file's" in said(imported(content, tmp_path))
    right = float(gi.load_run(tmp_path / "run").view(-1).correct()[rows[:20]].double().mean())
    (tmp_path / "right").mkdir()
    assert "the train accuracy measured is the file's, to 0" in said(
        imported({**content, "train_acc": [1.0, right]}, tmp_path / "right")
    )


def test_a_mapping_says_where_accuracies_are(tmp_path):
    (tmp_path / "mine.toml").write_text(
        (ROOT / "src/grokinterp/importing/layouts/transformer_lens.toml")
        .read_text()
        .replace(
            'train_losses = "train_losses"', 'train_losses = "train_losses"\ntest_accuracies = "kept.right"'
        )
    )
    run = imported(
        {"model": W[0], "epoch": 1, "kept": {"right": [0.5, 0.75]}},
        tmp_path,
        layout=str(tmp_path / "mine.toml"),
    )
    assert run.history["test_accuracy"].tolist() == [0.5, 0.75]


# Everything else


def full_file(lens=False):
    """A file as the training scripts of several people write it."""
    generator = torch.Generator().manual_seed(1)
    rows = order(P * P, "torch_randperm", 3)
    state = {
        n: {"step": torch.tensor(200.5), "exp_avg": torch.randn(4, 4, generator=generator)} for n in range(12)
    }
    return {
        "model": formats.nanda(W[2]) if not lens else W[2],
        "state_dicts": [formats.nanda(one) if not lens else one for one in W[:2]],
        "epochs": [0, 100],
        "epoch": 200,
        "optimizer": {
            "state": state,
            "param_groups": [
                {"lr": 0.001, "betas": (0.9, 0.98), "weight_decay": 1.0, "params": [901, 902, 903]}
            ],
        },
        "scheduler": {"base_lrs": [0.125], "last_epoch": 200},
        "rng_state": torch.randint(255, (50,), generator=generator, dtype=torch.uint8),
        "train_losses": torch.linspace(3, 1, 201, dtype=torch.float64),
        "test_losses": np.linspace(4, 2, 201),
        "key_freqs": [17.5, 25.5, 32.5],
        "deep": {"er": [{"est": torch.randn(3, generator=generator)}, [[71.5, 72.5], [73.5, 74.5]]]},
        "train_indices": rows[:20],
        "test_indices": rows[20:],
        "config": {"p": P, "widths": [12.5, 20.5]},
    }


@pytest.mark.parametrize("lens", [False, True])
def test_every_tensor_and_every_list_of_numbers_is_accounted_for(tmp_path, lens):
    content = full_file(lens)
    weights = [formats.without_biases(one, but=".mlp.") for one in W] if not lens else W
    content |= (
        {"model": weights[2], "state_dicts": weights[:2]} if lens else {"model": formats.nanda(weights[2])}
    )
    run = imported(content, tmp_path)
    assert run.steps == [0, 100, 200]
    assert_all_accounted(run, content)
    reasons = {place: entry["reason"] for entry in run.imported["left_out"] for place in entry["places"]}
    optimizer = "optimizer" if lens else "optimizer.state"  # of which one layout reads the settings
    assert reasons[optimizer] == "the state of an optimiser, and an imported run is not trained on"
    assert reasons["key_freqs"].startswith("by its name")
    assert {"rng_state", "deep", "config", "scheduler"} <= reasons.keys()
    assert (
        ("model.blocks.0.attn.mask" in reasons)
        == ("state_dicts.*.blocks.0.attn.mask" in reasons)
        == (not lens)
    )
    by_reason = {entry["reason"]: entry for entry in run.imported["left_out"]}
    assert by_reason[reasons[optimizer]]["tensors"] == 24


def test_the_account_of_the_test_would_notice_what_is_missing(tmp_path):
    content = full_file()
    run = imported(content, tmp_path)
    run.imported["left_out"].clear()
    missing = unaccounted(run, content)
    assert "optimizer.state.3.exp_avg" in missing
    assert {"rng_state", "key_freqs", "deep.er.0.est", "deep.er.1.0", "config.widths"} <= {*missing}
    assert not any(
        place.startswith(("train_", "test_", "epochs")) or place.endswith("W_E") for place in missing
    )


@pytest.mark.parametrize(
    "name",
    [
        *(
            "chughtai/C113_T_seed1/model.pt",
            "chughtai/C113_MLP_seed1/model.pt",
            "pizza/model_l8k1hzciux.pt",
            "pizza/model_p99zdpze5l.pt",
        ),
        *("nanda/mod_addition_no_wd.pth", "zaidanmir/addition.pt"),
    ],
)
def test_all_of_a_published_file_is_accounted_for(tmp_path, name):
    file = CHECKPOINTS / name
    if not file.is_file():
        pytest.skip(
            f"no {name} in {CHECKPOINTS}; set GROKINTERP_CHECKPOINTS to the folder of foreign checkpoints"
        )
    (tmp_path / "mine.toml").write_text(MAPPING)
    layout = str(tmp_path / "mine.toml") if name.startswith("zaidanmir") else "auto"
    run = gi.import_checkpoint(file, tmp_path / "run", layout, forensics=False, progress=False)
    assert_all_accounted(run, read_foreign(file))


def test_what_is_said_of_a_hostile_file_is_bounded_and_printable(tmp_path):
    many = {f"\x1b[31m{n}\n{'x' * 500}": torch.zeros(1) for n in range(1_500)}
    many |= {f"optimizer_{n}": [float(n)] for n in range(2_000)} | {f"best_{n}": W[0] for n in range(50)}
    many |= {"losses": [[float(n)] * 3 for n in range(20_000)]}
    begun = time.process_time()
    run = imported(
        {"model": W[0], "epoch": 3, **many, "checkpoints": [{"epoch": 5, "model": NAN}] * 50}, tmp_path
    )
    assert time.process_time() - begun < 15
    assert len(run.imported["assumed"]) < 40
    assert all(len(sentence) < 1500 and sentence.isprintable() for sentence in run.imported["assumed"])
    assert sum(entry["tensors"] for entry in run.imported["left_out"]) == 1_500 + 100 * len(W[0])
    assert len(json.dumps(run.imported)) < 50_000


@pytest.mark.parametrize("count", [1, 6, 7, 9, 300, 301])
def test_all_places_are_kept_and_the_first_are_named(tmp_path, count):
    run = imported(
        {"model": W[0], "epoch": 3, **{f"other_{n:03}": torch.zeros(2) for n in range(count)}}, tmp_path
    )
    (entry,) = run.imported["left_out"]
    assert entry["places"] == [f"other_{n:03}" for n in range(min(count, 300))]
    assert (entry["more"], entry["tensors"]) == (max(0, count - 300), count)
    (sentence,) = [sentence for sentence in run.imported["assumed"] if "other_000" in sentence]
    assert (f" and {count - 6} more (" in sentence) == (count > 6)
    assert ("other_006" in sentence) is False


@pytest.mark.parametrize(
    "losses",
    [
        ["1.0", "0.5"],
        [],
        [None, None],
        {"5": "1.0"},
        ["a"] * 3,
        [{"epoch": 1, "loss": "0.5"}, {"epoch": 2, "loss": "0.4"}],
    ],
)
def test_what_is_called_a_loss_and_holds_no_numbers_is_said(tmp_path, losses):
    run = imported({"model": W[0], "epoch": 3, "train_losses": losses}, tmp_path)
    assert run.history["train_loss"].isna().all() if len(run.history) else True
    assert any(sentence.startswith("left out: train_losses") for sentence in run.imported["assumed"])


def test_an_account_names_places_as_high_up_as_nothing_below_was_used():
    content = {
        "a": {"b": torch.ones(2), "c": [1, 2], "d": {"e": torch.ones(1), "f": [[1, 2], [3, 4]]}},
        "g": [0.5],
        "h": "text",
        "i": [],
    }
    account = Account(content)
    account.use(("a", "b"))
    account.leave(("g",), "because")
    found = {
        tuple(sorted(entry.places)): (entry.tensors, entry.lists, entry.reason)
        for entry in account.left_out()
    }
    assert found.pop(("g",)) == (0, 1, "because")
    ((places, (tensors, lists, _)),) = found.items()
    assert (places, tensors, lists) == (("a.c", "a.d"), 1, 2)
