"""torch's own encoders: the same logits from their weights, pre-norm and post-norm, and how they are read."""

from __future__ import annotations

import itertools

import pytest
import torch

import grokinterp as gi
from grokinterp.errors import GrokinterpError
from grokinterp.models import network_config
from grokinterp.tasks import make_task

P, WIDTH, HEADS = 7, 16, 2
TASK = make_task("modular_addition", p=P)


class Theirs(torch.nn.Module):
    """As people write one: the answer is read at the last position."""

    def __init__(self, pre: bool, final: bool, activation: str, layers: int) -> None:
        super().__init__()
        layer = torch.nn.TransformerEncoderLayer(
            WIDTH, HEADS, 2 * WIDTH, dropout=0.0, activation=activation, batch_first=True, norm_first=pre
        )
        norm = torch.nn.LayerNorm(WIDTH) if final else None
        self.embed = torch.nn.Embedding(P + 1, WIDTH)
        self.pos = torch.nn.Parameter(torch.randn(1, 3, WIDTH))
        self.encoder = torch.nn.TransformerEncoder(layer, layers, norm=norm, enable_nested_tensor=False)
        self.out = torch.nn.Linear(WIDTH, P)

    def forward(self, tokens):
        return self.out(self.encoder(self.embed(tokens) + self.pos)[:, -1])


def theirs(*options) -> Theirs:
    """One of random weights, norms included."""
    torch.manual_seed(0)
    net = Theirs(*options).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.5)
    return net


MAPPING = """
like = "torch_encoder"
[model]
n_heads = 2
act_fn = "{activation}"
[weights]
"embed.W_E" = {{ key = "embed.weight", axes = "vocab d_model" }}
"pos_embed.W_pos" = {{ key = "pos", axes = "pos d_model" }}
"unembed.W_U" = {{ key = "out.weight", axes = "out d_model" }}
"unembed.b_U" = {{ key = "out.bias", axes = "out" }}
"""


def imported(net, folder, mapping, **options):
    torch.save(net.state_dict(), folder / "theirs.pt")
    (folder / "m.toml").write_text(mapping)
    given = {"forensics": False, "task": "modular_addition", "layout": str(folder / "m.toml")}
    return gi.import_checkpoint(folder / "theirs.pt", folder / "run", **{**given, **options})


@pytest.mark.parametrize(
    ("pre", "final", "activation", "layers"),
    list(itertools.product([True, False], [True, False], ["relu", "gelu"], [1, 2])),
)
def test_logits_are_those_of_torch(tmp_path, pre, final, activation, layers):
    net = theirs(pre, final, activation, layers)
    kind = f'kind = "{"transformer" if pre else "encoder"}"\n'
    run = imported(net, tmp_path, kind + MAPPING.format(activation=activation), believe=True)
    with torch.no_grad():
        expected = net(TASK.inputs)
    view = run.view(0)
    torch.testing.assert_close(view.logits.float(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(run.model(0)(TASK.inputs)[:, -1].float(), expected, rtol=1e-5, atol=1e-5)
    assert (run.config.model.final_norm is not False) == final


@pytest.mark.parametrize("pre", [True, False])
def test_where_nothing_says_where_norms_stand_the_answers_do(tmp_path, pre):
    torch.manual_seed(1)
    net = Theirs(pre, False, "relu", 1)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(400):
        loss = torch.nn.functional.cross_entropy(net(TASK.inputs), TASK.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run = imported(net, tmp_path, MAPPING.format(activation="relu"))
    assert run.config.model.kind == ("transformer" if pre else "encoder")
    assert float(gi.measure("accuracy", run.view(0)).values[0]) > 0.8
    assert any(f"norm = {'pre' if pre else 'post'}" in sentence for sentence in run.imported["assumed"])


def test_torch_without_biases_and_the_layer_alone(tmp_path):
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(
        WIDTH, HEADS, 8, dropout=0.0, bias=False, batch_first=True
    ).eval()
    embed, pos, out = torch.randn(P + 1, WIDTH), torch.randn(3, WIDTH), torch.randn(P, WIDTH)
    keys = {"embed.weight": embed, "pos": pos, "out.weight": out}
    torch.save(
        {**keys, **{f"encoder.layers.0.{k}": w for k, w in layer.state_dict().items()}}, tmp_path / "x"
    )
    (tmp_path / "m.toml").write_text('kind = "encoder"\nlike = "torch_encoder"\n[model]\nn_heads = 2')
    options = {"task": "modular_addition", "believe": True, "forensics": False}
    run = gi.import_checkpoint(tmp_path / "x", tmp_path / "run", layout=str(tmp_path / "m.toml"), **options)
    expected = layer(embed[TASK.inputs] + pos)[:, -1] @ out.T
    torch.testing.assert_close(run.view(0).logits.float(), expected.detach(), rtol=1e-5, atol=1e-5)


def test_a_post_norm_encoder_is_trained_and_its_hooks_change_its_logits(tmp_path):
    config = gi.TrainConfig.preset(
        "quick",
        threads=1,
        **{"task.p": P, "model.kind": "encoder", "model.d_model": 16, "model.n_heads": 2, "model.n_layers": 2}
        | {"training.steps": 3, "training.stop_when": None},
    )
    run = gi.train(config, tmp_path / "run", progress=False)
    model, tokens = run.model(-1), TASK.inputs
    before = model(tokens)
    torch.testing.assert_close(before[:, -1].double(), run.view(-1).logits.double(), rtol=1e-4, atol=1e-4)
    for name in model.hook_dict:
        changed = model.run_with_hooks(
            tokens, fwd_hooks=[(name, lambda x, hook: x * 1.5 + torch.rand_like(x))]
        )
        assert not torch.equal(changed, before), name


def disturbed(x, hook):
    return x * 1.5 + torch.linspace(0, 1, x.numel()).reshape(x.shape)


def test_a_causal_encoder_does_not_look_ahead():
    config = network_config({"kind": "encoder", "d_model": 8, "n_heads": 2, "attention_dir": "causal"})
    weights = config.initial_weights(TASK.reads, 0)
    model = config.hooked(TASK.reads, weights)
    other = TASK.inputs.clone()
    other[:, 2] = 0
    assert torch.equal(model(TASK.inputs)[:, :2], model(other)[:, :2])
    assert not torch.equal(model(TASK.inputs)[:, 2], model(other)[:, 2])


def test_at_chance_nothing_is_believed(tmp_path):
    with pytest.raises(GrokinterpError, match="no more than by chance"):
        imported(theirs(True, False, "relu", 1), tmp_path, MAPPING.format(activation="relu"))


@pytest.mark.trains
def test_an_activation_that_nothing_says_is_the_one_under_which_the_network_is_clearly_surer(tmp_path):
    task = make_task("modular_addition", p=11)
    torch.manual_seed(1)
    net = Theirs(False, False, "gelu", 1)
    net.embed, net.out = torch.nn.Embedding(12, WIDTH), torch.nn.Linear(WIDTH, 11)
    net = net.double()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(400):
        loss = torch.nn.functional.cross_entropy(net(task.inputs), task.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    mapping = MAPPING.format(activation="").replace('act_fn = ""\n', "")
    run = imported(net, tmp_path, mapping)
    assert (run.config.model.kind, run.config.model.act_fn) == ("encoder", "gelu")
    assert any("with a loss of" in sentence for sentence in run.imported["assumed"])
