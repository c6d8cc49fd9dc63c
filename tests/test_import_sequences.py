"""Other people's networks that add digit by digit: files written here of an adder that is right, with
more positions, tokens and logits than are read, and refusals in one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import foreign_formats as formats
import grokinterp as gi
from grokinterp import controls
from grokinterp.errors import ConfigError, GrokinterpError, NotBelieved, UsageError
from grokinterp.importing.mapping import read_layout
from grokinterp.tasks import make_task

DOCS = (Path(__file__).parents[1] / "docs/import.md").read_text()
SIGNS = re.search(r"```toml\n(# sums\.toml\n.*?)```", DOCS, re.DOTALL)[1]


def imported(weights, folder, task=None, **options):
    """The run made of weights, with a small sample."""
    torch.save(weights, folder / "theirs.pth")
    task = {"name": "digit_addition", "examples": 100, "per_class": 20, **(task or {})}
    return gi.import_checkpoint(folder / "theirs.pth", folder / "run", task=task, progress=False, **options)


def exact(run) -> float:
    return float(gi.measure("accuracy.exact", run.view(-1)).sel(part="all"))


def said(run) -> str:
    return "\n".join(run.imported["assumed"])


def test_a_network_of_nandas_layout_with_a_position_too_many_and_losses(tmp_path):
    built = controls.adder(3)
    theirs = formats.nanda(formats.with_rows(dict(built.weights), 1))
    losses = torch.linspace(2.3, 0, 500).tolist()
    torch.save({"model": theirs, "train_losses": losses}, tmp_path / "theirs.pth")
    run = gi.import_checkpoint(tmp_path / "theirs.pth", tmp_path / "run", progress=False)
    assert (run.task.n, run.task.order, run.task.layout) == (3, "big", "a + b =")
    assert exact(run) == 1
    torch.testing.assert_close(
        run.view(-1).at("tens").logits[:50], gi.view(built.model, run.task).at("tens").logits[:50]
    )
    assert "pos_embed.W_pos: of 12 rows the first 11 are read; row 11 is left out" in said(run)
    assert run.steps == [499]
    assert run.history["train_loss"].tolist() == losses
    assert run.history["test_exact"].iloc[-1] == 1
    assert len(run.split.train) == 0


@pytest.mark.parametrize(("folded", "n_logits"), [(False, 15), (True, 12)])
def test_a_normalised_network_of_15_tokens_with_a_sign_in_the_answer(tmp_path, folded, n_logits):
    built = controls.adder(2, layout="a +@10 b =@12 +@10 of 15")
    theirs = formats.with_logits(
        formats.normalised(formats.with_rows(dict(built.weights), 1), folded), n_logits
    )
    (tmp_path / "sums.toml").write_text(SIGNS.replace("n = 5", "n = 2"))
    run = imported(theirs, tmp_path, layout=str(tmp_path / "sums.toml"))
    assert run.task.layout == "a +@10 b =@12 +@10 of 15"
    assert run.config.model.normalization == ("LNPre" if folded else "LN")
    assert run.config.model.d_vocab_out == n_logits
    assert exact(run) == 1
    assert "it predicts it itself of 0.0000" in said(run)  # the adder gives digits alone


def test_tokens_and_order_are_found_by_trying(tmp_path):
    built = controls.adder(2, layout="a +@14 b =@13 of 15", order="little")
    run = imported(formats.with_rows(dict(built.weights), 3), tmp_path, {"n": 2})
    assert run.task.order == "little"
    assert exact(run) == 1
    assert "tokens that cannot be told apart from these" in said(run)  # it does not look at its signs
    assert "the first 8 are read; rows 8 to 10 are left out" in said(run)


def test_a_mapping_of_tokens_without_numbers_leaves_them_open(tmp_path):
    built = controls.adder(2, layout="a = b +")
    (tmp_path / "mine.toml").write_text('like = "transformer_lens"\ndoc = "x"\ntokens = "a = b +"\n')
    run = imported(dict(built.weights), tmp_path, layout=str(tmp_path / "mine.toml"))
    assert run.task.layout == "a = b +"
    assert exact(run) == 1


def test_the_digit_that_is_asked_for_may_be_one(tmp_path):
    built = controls.adder(3, answer="tens")
    run = imported(dict(built.weights), tmp_path)
    assert run.task.reads.answers == ("tens",)
    assert run.task.n == 3
    assert float(gi.measure("accuracy", run.view(-1)).sel(part="all")) == 1


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (
            {"n": 3, "answer": "all"},
            "take 9 positions, and the network has 8: at most n = 2 fits",
        ),
        (
            {"n": 1},
            "with n = 1; it is right on 1.000 with n = 2, order = big, layout = a + b =: ask for that",
        ),
        ({"order": "little"}, "with order = little; it is right on 1.000 with n = 2, order = big"),
        ({"layout": "a +@10 b =@12"}, "'a +@10 b =@12' is of 13 tokens, and the network has 12"),
        ({"layout": "a + b = of 15"}, "'a + b = of 15' is of 15 tokens, and the network has 12"),
        ({"n": 2, "answer": "thousands"}, "no digit 'thousands'"),
    ],
)
def test_what_does_not_go_with_the_network_is_one_line(tmp_path, task, says):
    with pytest.raises(GrokinterpError, match=re.escape(says)) as refused:
        imported(dict(controls.adder(2).weights), tmp_path, task)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_vocabulary_or_logits_too_few(tmp_path):
    weights = dict(controls.adder(2).weights)
    for few in (
        {"embed.W_E": weights["embed.W_E"][:9]},
        {"unembed.W_U": weights["unembed.W_U"][:, :6], "unembed.b_U": weights["unembed.b_U"][:6]},
    ):
        with pytest.raises(UsageError, match="digits need 10 tokens and 10 logits"):
            imported(weights | few, tmp_path)


def test_a_network_that_was_never_trained_is_refused_unless_it_is_believed(tmp_path, monkeypatch):
    monkeypatch.setattr("grokinterp.importing.sequences._MOST_TRIALS", 12)
    weights = dict(controls.random_like(controls.adder(2)).weights)
    with pytest.raises(NotBelieved, match=r"Tried were .* readings"):
        imported(weights, tmp_path, {"n": 2})
    run = imported(weights, tmp_path, {"n": 2}, believe=True)
    assert "NO MORE than by chance" in said(run)


def test_another_task_of_sequences_is_imported_where_it_is_named(tmp_path):
    task = {"name": "reverse", "n": 3, "v": 4, "examples": 50}
    config = gi.models.ModelConfig(d_model=8, n_heads=2, d_head=4, d_mlp=8)
    weights = formats.random_weights(config, make_task(**task))
    torch.save(weights, tmp_path / "theirs.pth")
    run = gi.import_checkpoint(
        tmp_path / "theirs.pth", tmp_path / "run", task=task, believe=True, progress=False
    )
    assert run.task.symbol == "3 symbols of 4 kinds, backwards"
    with pytest.raises(UsageError, match="needs 6 tokens, and the network has 5"):
        gi.import_checkpoint(tmp_path / "theirs.pth", tmp_path / "other", task={**task, "v": 5})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('like = "nandda"', "like: no built-in layout 'nandda'; did you mean 'nanda'"),
        ('like = "nanda"\ntask = { name = "digit_adition" }', "unknown task 'digit_adition'"),
        ('like = "nanda"\ntask = 3', "task"),
    ],
)
def test_a_mistake_in_what_a_mapping_is_like_is_one_line(text, says):
    with pytest.raises(ConfigError, match=re.escape(says)) as refused:
        read_layout(text, "mine.toml")
    assert "\n" not in str(refused.value)
