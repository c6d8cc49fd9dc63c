"""Exports: what other tools load computes what the run does, what they cannot express is refused, and what is
written is whole."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import pytest
import safetensors.torch
import torch

import grokinterp as gi
from conftest import tiny
from grokinterp.cli import index
from grokinterp.errors import GrokinterpError, NoSuchSnapshot, UsageError
from grokinterp.models import ModelConfig, exported
from grokinterp.tasks import make_task

ADDITION = make_task("modular_addition", p=7)
WIDTHS = {"d_model": 16, "n_heads": 4, "d_mlp": 24}
LENS = {
    "as in the paper": {},
    "LN, two layers, all biases": {"normalization": "LN", "n_layers": 2, "train_biases": "all"},
    "RMSPre, narrow heads": {"normalization": "RMSPre", "d_head": 5, "act_fn": "gelu_new"},
    "attention alone, both ways": {"d_mlp": 0, "attention_dir": "bidirectional"},
}
TRANSFORMERS = {
    "LN": ({"normalization": "LN", "d_vocab_out": 8, "n_layers": 2}, "GPT2LMHeadModel"),
    "LNPre, spare logits": (
        {"normalization": "LNPre", "d_vocab_out": 10, "act_fn": "gelu_new"},
        "GPT2LMHeadModel",
    ),
    "RMS": ({"normalization": "RMS", "n_layers": 2, "act_fn": "gelu"}, "ImageGPTForCausalImageModeling"),
    "RMSPre, spare logits": (
        {"normalization": "RMSPre", "d_vocab_out": 9, "act_fn": "silu"},
        "ImageGPTForCausalImageModeling",
    ),
}
REFUSED = {
    "no normalisation": ({}, "its layers have no normalisation"),
    "too few logits": ({"normalization": "LN"}, r"7 logits, .* at least 8 .*d_vocab_out = 8"),
    "both ways": ({"normalization": "RMS", "attention_dir": "bidirectional"}, "sees every position"),
    "mixed": ({"normalization": "RMS", "attention_mixing": 0.5}, "mixed with a constant"),
    "no MLP": ({"normalization": "RMS", "d_mlp": 0}, "no MLP"),
    "wide heads": ({"normalization": "RMS", "d_head": 5}, "4 heads of 5 are not d_model 16 wide"),
    "a bias of the logits": ({"normalization": "RMS"}, "bias"),
}


def weights_of(config: ModelConfig, bias: bool = True) -> dict[str, torch.Tensor]:
    """Weights of which none is zero; the bias of the logits only where it is asked for."""
    generator = torch.Generator().manual_seed(0)
    weights = config.initial_weights(ADDITION.reads, 0)
    for name, weight in weights.items():
        if bias or name != "unembed.b_U":
            weight += torch.randn(weight.shape, generator=generator) / 4
    return weights


def logits_of(config: ModelConfig, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return config.hooked(ADDITION.reads, weights, torch.float64)(ADDITION.inputs)


def written(files: dict[str, bytes], folder) -> None:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)


def loaded(lines: str, folder):
    """The network that the lines load which an export prints."""
    namespace: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other libraries say of themselves
        exec(lines.replace("DIR", str(folder)), namespace)
    return namespace["model"].eval()


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", LENS)
def test_transformer_lens_loads_it_by_the_lines_that_are_printed(name, tmp_path):
    config = ModelConfig(**{**WIDTHS, **LENS[name]})
    weights = weights_of(config)
    made = exported.of_lens(config, ADDITION.reads, weights)
    written(made.files, tmp_path / "lens")
    with torch.no_grad():
        close(loaded(made.loading, tmp_path / "lens")(ADDITION.inputs), logits_of(config, weights))
    torch.testing.assert_close(made.logits(ADDITION.inputs), logits_of(config, weights), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_loads_it_by_the_lines_that_are_printed(name, tmp_path, capfd):
    changes, of = TRANSFORMERS[name]
    config = ModelConfig(**{**WIDTHS, **changes})
    weights = weights_of(config, bias=False)
    state = torch.get_rng_state()
    made = exported.of_transformers(config, ADDITION.reads, weights)
    assert torch.equal(torch.get_rng_state(), state)
    expected = logits_of(config, weights)
    torch.testing.assert_close(made.logits(ADDITION.inputs), expected, rtol=1e-9, atol=1e-9)
    assert capfd.readouterr().err == ""
    written(made.files, tmp_path / "hf")
    model = loaded(made.loading, tmp_path / "hf")
    assert type(model).__name__ == of
    with torch.no_grad():
        close(model(ADDITION.inputs).logits, expected)


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_class_of_transformers_is_exactly_is_refused_with_the_reason(name):
    changes, reason = REFUSED[name]
    config = ModelConfig(**{**WIDTHS, **changes})
    weights = weights_of(config, bias=name == "a bias of the logits")
    with pytest.raises(UsageError, match=reason) as error:
        exported.of_transformers(config, ADDITION.reads, weights)
    # And what the message says to do instead works.
    instead = str(error.value).rpartition("export it as ")[2].split(" or ")
    assert instead[-1] == "safetensors"
    for to in instead[:-1]:
        assert config.exported(to, ADDITION.reads, weights).files


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> gi.Run:
    changes = {"model.normalization": "RMS", "training.steps": 20}
    return gi.train(tiny(**changes), tmp_path_factory.mktemp("export") / "run", progress=False)


@pytest.mark.parametrize("to", exported.FORMATS)
def test_a_step_is_exported_with_its_own_weights(run, tmp_path, to):
    done = gi.export(f"{run.path}@10", to, tmp_path / "out")
    assert (done.step, done.compared) == (10, 0 if to == "safetensors" else 49)
    assert {entry.name for entry in (tmp_path / "out").iterdir()} == {*done.files}
    held = safetensors.torch.load_file(tmp_path / "out/model.safetensors")
    if to != "huggingface":
        weights = run.state_dict(10)
        assert held.keys() == weights.keys()
        assert all(torch.equal(held[name], weight) for name, weight in weights.items())
    settings = json.loads((tmp_path / "out/config.json").read_text())
    if to == "safetensors":
        assert settings["model"] == run.record["config"]["model"] | {"kind": "transformer"}
        assert (settings["step"], settings["reads"]["n_logits"]) == (10, 7)
        assert settings["snapshot_sha256"] == run.sha256(10)
    assert gi.export(run, to, tmp_path / "last").step == 20
    assert gi.export(run, to, tmp_path / "first", step=0).step == 0


def test_what_is_exported_can_be_imported_again(run, tmp_path):
    gi.export(run, "transformer-lens", tmp_path / "out")
    again = gi.import_checkpoint(
        tmp_path / "out/model.safetensors", tmp_path / "again", task="modular_addition", believe=True,
        forensics=False, progress=False,
    )  # fmt: skip
    weights = again.state_dict(-1)
    assert all(torch.equal(weights[name], weight) for name, weight in run.state_dict(-1).items())


def test_a_network_that_is_no_transformer_is_exported_as_its_weights_alone(tmp_path):
    run = gi.train(
        gi.TrainConfig.preset("doshi", **{"task.p": 7, "training.steps": 5}), tmp_path / "run", progress=False
    )
    for to in ("transformer-lens", "huggingface"):
        with pytest.raises(UsageError, match="of the kind mlp: export it as safetensors"):
            gi.export(run, to, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    gi.export(run, "safetensors", tmp_path / "out")
    held = safetensors.torch.load_file(tmp_path / "out/model.safetensors")
    assert all(torch.equal(held[name], weight) for name, weight in run.state_dict(-1).items())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("onnx", "out"), UsageError, "unknown format 'onnx'"),
        (("hugingface", "out"), UsageError, "did you mean 'huggingface'"),
        (("safetensors", "full"), UsageError, "is not empty"),
        (("safetensors", "out", 7), NoSuchSnapshot, "no snapshot at step 7"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(run, tmp_path, arguments, error, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    to, out, *step = arguments
    with pytest.raises(error, match=message) as raised:
        gi.export(run, to, tmp_path / out, *step)
    assert "\n" not in str(raised.value)
    assert [file.name for file in tmp_path.rglob("*")] == ["full", "mine.txt"]


def test_files_whose_network_is_another_are_not_written(run, tmp_path, monkeypatch):
    made = exported.of_lens(run.config.model, run.task.reads, run.state_dict(10))
    wrong = replace(made, logits=exported.of_lens(run.config.model, run.task.reads, run.state_dict(0)).logits)
    monkeypatch.setattr(exported, "of_lens", lambda *_: wrong)
    with pytest.raises(GrokinterpError, match="off those of the run: nothing was written"):
        gi.export(run, "transformer-lens", tmp_path / "out", 10)
    assert not (tmp_path / "out").exists()


def test_the_command_prints_what_it_wrote_and_how_it_is_loaded(run, tmp_path, grokinterp):
    out = tmp_path / "out"
    code, stdout, stderr = grokinterp("export", f"{run.path}@-2", "--to", "transformer-lens", "--out", out)
    assert (code, stderr) == (0, "")
    assert stdout.startswith(f"config.json, model.safetensors in {out}: step 10\n")
    assert "the logits of the run on 49 examples" in stdout
    assert f'load_file("{out}/model.safetensors")' in stdout
    code, stdout, _ = grokinterp("export", run.path, "--to", "safetensors", "--out", tmp_path / "j", "--json")
    assert (code, json.loads(stdout)["step"]) == (0, 20)
    code, stdout, stderr = grokinterp("export", run.path, "--to", "safetensors", "--out", out)
    assert (code, stdout) == (2, "")
    assert "is not empty" in stderr


def test_completion_knows_the_formats():
    assert index.FORMATS == exported.FORMATS
    assert index.formats("h") == ["huggingface"]
