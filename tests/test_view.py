"""The view: what it says of a network is what HookedTransformer says, with more digits and with the user's
hooks."""

from __future__ import annotations

import copy
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

import grokinterp as gi
from grokinterp import controls
from grokinterp.errors import UsageError
from grokinterp.tasks import make_task
from grokinterp.view import View


@pytest.fixture(scope="module")
def grokked(quick_run):
    return quick_run.view(-1)


# What HookedTransformer says


def test_logits_are_those_of_the_hooked_transformer(grokked):
    logits, _ = grokked.model.run_with_cache(grokked.task.inputs)
    at_answer = logits[:, -1].detach().double()
    assert grokked.logits.shape == (53 * 53, 53)
    torch.testing.assert_close(grokked.logits, at_answer, rtol=0, atol=1e-5 * float(at_answer.abs().max()))


def test_neurons_and_attention_are_those_of_the_hooked_transformer(grokked):
    _, cache = grokked.model.run_with_cache(grokked.task.inputs)
    torch.testing.assert_close(grokked.neurons, cache["post", 0][:, -1].double(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        grokked.attention[0], cache["pattern", 0][:, :, -1].double().transpose(0, 1), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(grokked.attention.sum(-1), torch.ones(1, 4, 53 * 53, dtype=torch.float64))


def test_the_cache_has_every_hook_at_every_position():
    view = controls.random_network(11)
    _, expected = view.model.run_with_cache(view.task.inputs)
    assert list(view.cache) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(view.cache[name], value.double(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(view.cache["post", 0][:, -1], view.neurons)


def test_neurons_are_of_the_last_layer_unless_asked_otherwise():
    view = controls.random_network(11, n_layers=2)
    _, cache = view.model.run_with_cache(view.task.inputs)
    torch.testing.assert_close(view.neurons, cache["post", 1][:, -1].double(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(view.neurons_of(0), cache["post", 0][:, -1].double(), rtol=1e-4, atol=1e-4)
    assert view.attention.shape == (2, 4, 121, 3)
    torch.testing.assert_close(view.W_L, view.weights["blocks.1.mlp.W_out"] @ view.weights["unembed.W_U"])


def test_a_built_network_computes_its_formula():
    view = controls.clock(17, (2, 5, 8), scale=10.0)
    a, b = view.task.pairs.unbind(1)
    c = torch.arange(17)
    away = (a[:, None] + b[:, None] - c).double()
    expected = 10 * sum(torch.cos(2 * math.pi * k * away / 17) for k in (2, 5, 8))
    torch.testing.assert_close(view.logits, expected, rtol=0, atol=1e-12)


def test_constant_attention_is_seen_as_such():
    view = controls.pizza(23, (4, 11), scale=50.0)
    assert (view.attention == 1).all()
    a, b = view.task.pairs.unbind(1)
    c = torch.arange(23)
    expected = torch.zeros(529, 23, dtype=torch.float64)
    for k in (4, 11):
        nearness = torch.cos(math.pi * k * (a - b).double() / 23).abs()
        expected += (
            50 * nearness[:, None] * torch.cos(2 * math.pi * k * (a[:, None] + b[:, None] - c).double() / 23)
        )
    # 23 phases are nearly a circle of them.
    assert float((view.logits - expected).norm() / expected.norm()) < 0.02


def test_the_embedding_leaves_out_the_tokens_that_are_no_elements():
    view = controls.random_network(11)
    assert view.model.W_E.shape[0] == 12
    torch.testing.assert_close(view.W_E, view.model.W_E[:11].detach().double(), rtol=0, atol=0)


def test_the_layout_with_an_operator_is_read_at_its_last_token():
    task = make_task("modular_addition", p=7, layout="a op b =")
    config = gi.TrainConfig().model.model_copy(update={"d_model": 16, "n_heads": 2, "d_head": 8, "d_mlp": 32})

    view = gi.view(config.hooked(task.reads, config.initial_weights(task.reads, 0)), task)
    torch.testing.assert_close(
        view.logits, view.model(task.inputs)[:, 3].detach().double(), rtol=1e-4, atol=1e-4
    )
    assert view.W_E.shape == (7, 16)
    assert list(gi.measure("attention.mean", view).pos.values) == ["0: a", "1: op", "2: b", "3: ="]


def test_every_weight_is_there_in_float64_under_its_name(grokked):
    expected = dict(grokked.model.named_parameters())
    assert set(grokked.weights) == set(expected)
    for name, weight in grokked.weights.items():
        assert weight.dtype == torch.float64
        assert not weight.requires_grad
        torch.testing.assert_close(weight, expected[name].detach().double(), rtol=0, atol=0)


def test_looking_changes_nothing_in_the_network():
    model = copy.deepcopy(controls.random_network(11).model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    view = gi.view(model, make_task("modular_addition", p=11))
    view.logits, view.cache, view.weights  # noqa: B018
    for name, value in model.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])
    assert not any(point.fwd_hooks for point in model.hook_dict.values())


# Hooks


def without_head_1(z, hook):
    z = z.clone()
    z[:, :, 1] = 0
    return z


HEAD_1 = [("blocks.0.attn.hook_z", without_head_1)]


def logits_without_head_1(view):
    """The second route: a network whose head 1 writes nothing."""
    model = copy.deepcopy(view.model)
    with torch.no_grad():
        model.blocks[0].attn.W_O[1] = 0
    return gi.view(model, view.task).logits


def test_an_ablation_hook_changes_the_logits_of_a_fresh_view():
    plain = controls.random_network(11)
    expected = logits_without_head_1(plain)
    with plain.model.hooks(fwd_hooks=HEAD_1):
        ablated = gi.view(plain.model, plain.task).logits
    torch.testing.assert_close(ablated, expected)
    assert float((ablated - plain.logits).abs().max()) > 0.1
    torch.testing.assert_close(gi.view(plain.model, plain.task).logits, plain.logits)


def test_a_hook_added_for_good_changes_attention_neurons_and_loss():
    plain = controls.clock(7, (1, 2))
    model = copy.deepcopy(plain.model)
    # Every position attends to itself alone, so the answer position learns of neither a nor b.
    model.add_hook(
        "blocks.0.attn.hook_pattern", lambda pattern, hook: torch.eye(3).expand_as(pattern).to(pattern)
    )
    view = gi.view(model, plain.task)
    assert (view.attention == torch.tensor([0, 0, 1])).all()
    assert not view.neurons.any()
    assert float(gi.measure("loss", view).sel(part="all")) == pytest.approx(math.log(7))
    assert float(gi.measure("loss", plain).sel(part="all")) < 1e-6


def test_a_view_shows_the_network_as_it_was_when_the_view_was_made_with_its_hooks():
    plain = controls.random_network(11)
    with plain.model.hooks(fwd_hooks=HEAD_1):
        view = gi.view(plain.model, plain.task)
    torch.testing.assert_close(view.logits, logits_without_head_1(plain))


def test_a_view_shows_the_network_as_it_was_when_the_view_was_made_before_more_training():
    plain = controls.random_network(11)
    model = copy.deepcopy(plain.model)
    view = gi.view(model, plain.task)
    with torch.no_grad():
        model.W_E.zero_()
    torch.testing.assert_close(view.W_E, plain.W_E)


def test_a_hook_may_put_back_activations_that_the_float32_network_gave():
    plain = controls.random_network(11)
    _, cache = plain.model.run_with_cache(plain.task.inputs)
    with plain.model.hooks(fwd_hooks=[("blocks.0.mlp.hook_post", lambda post, hook: cache[hook.name])]):
        patched = gi.view(plain.model, plain.task).logits
    torch.testing.assert_close(patched, plain.logits, rtol=1e-4, atol=1e-4)


# A network and a task that do not fit


@pytest.mark.parametrize(
    ("p", "task"),
    [
        (7, {"name": "modular_addition", "p": 11}),
        (11, {"name": "modular_addition", "p": 7}),
        (11, {"name": "modular_addition", "p": 11, "layout": "a op b ="}),
        (12, {"name": "modular_addition", "p": 11}),
        (11, {"name": "group_composition", "group": "S4"}),
    ],
    ids=["larger p", "smaller p", "other layout", "one less", "group"],
)
def test_a_network_that_does_not_fit_the_task_is_refused_in_one_line(p, task):
    with pytest.raises(gi.GrokinterpError) as error:
        gi.view(controls.random_network(p).model, make_task(**task))
    assert type(error.value).__name__ == "UsageError"
    assert "\n" not in str(error.value)
    assert "give the task that it was trained on" in str(error.value)


# Loss


@pytest.mark.parametrize("scale", [10.0, 20.0, 50.0, 200.0, 500.0])
def test_losses_of_1e_9_and_far_below_have_their_digits(scale):
    p, k = 5, 1
    view = controls.clock(p, (k,), scale=scale)
    # Every wrong answer c* − d stands scale (1 − cos w d) below the right one.
    wrong = math.fsum(math.exp(scale * (math.cos(2 * math.pi * k * d / p) - 1)) for d in range(1, p))
    loss = float(gi.measure("loss", view).sel(part="all"))
    assert loss == pytest.approx(math.log1p(wrong), rel=1e-9, abs=0)
    if scale >= 50:
        assert loss < 1e-9
        naive = torch.nn.functional.cross_entropy(view.logits, view.task.targets)
        assert float(naive) != pytest.approx(
            loss, rel=1e-3, abs=0
        )  # what log_softmax makes of it, in float64 even


def test_the_loss_of_a_wrong_network_is_how_far_the_answer_stands_below():
    view = controls.clock(5, (1,), scale=10.0)
    logits = torch.zeros(25, 5, dtype=torch.float64)
    logits[torch.arange(25), (view.task.targets + 1) % 5] = 300.0
    torch.testing.assert_close(view.loss(logits), torch.full((25,), 300.0, dtype=torch.float64))
    assert not view.correct(logits).any()


def test_logits_of_tokens_that_are_no_answers_count_in_the_loss_alone():
    p, extra = 7, 2
    few, many = controls.clock(p, (1, 2)), controls.clock(p, (1, 2), n_logits=p + extra)
    assert many.model.cfg.d_vocab_out == 9
    torch.testing.assert_close(many.logits, few.logits)
    torch.testing.assert_close(many.W_L, few.W_L)
    # The two dead tokens have logit 0, the right answer scale x 2 keys = 20.
    e = math.exp
    wrong = sum(
        e(10 * (math.cos(2 * math.pi * d / p) + math.cos(4 * math.pi * d / p) - 2)) for d in range(1, p)
    )
    assert float(few.loss().mean()) == pytest.approx(math.log1p(wrong), rel=1e-9, abs=0)
    assert float(many.loss().mean()) == pytest.approx(math.log1p(wrong + extra * e(-20)), rel=1e-9, abs=0)


def test_a_token_that_is_no_answer_can_be_the_wrong_answer():
    view = controls.clock(7, (1, 2), n_logits=8)
    model = copy.deepcopy(view.model)
    with torch.no_grad():
        model.b_U[7] = 100.0
    assert float(gi.measure("accuracy", gi.view(model, view.task)).sel(part="all")) == 0


# Parts of the table


def test_parts_are_the_rows_of_the_split(quick_run, grokked):
    assert grokked.parts == ["train", "test", "all"]
    assert grokked.rows("train").nonzero().flatten().tolist() == sorted(quick_run.split.train.tolist())
    assert grokked.rows("test").nonzero().flatten().tolist() == sorted(quick_run.split.test.tolist())
    assert int(grokked.rows("train").sum()) == int(0.4 * 53 * 53)
    assert (grokked.rows("train") ^ grokked.rows("test")).all()
    assert grokked.rows("all").all()
    assert grokked.step == quick_run.steps[-1]


def test_without_a_split_there_is_one_part():
    view = gi.view(controls.random_network(7).model, make_task("modular_addition", p=7))
    assert view.parts == ["all"]
    assert view.step is None
    assert gi.measure("loss", view).part.values.tolist() == ["all"]
    with pytest.raises(gi.GrokinterpError, match="not known which examples"):
        view.rows("train")


def test_the_table_is_by_a_then_by_b():
    view = controls.random_network(5)
    grid = view.task.targets.unflatten(0, (5, 5))
    a = np.arange(5)
    assert (grid.numpy() == (a[:, None] + a) % 5).all()


def test_a_view_of_a_run_takes_a_shorter_way_to_what_a_view_of_its_network_sees(quick_run, grokked):
    again = gi.view(quick_run.model(-1), quick_run.task)
    for name in ("logits", "neurons", "attention"):
        torch.testing.assert_close(getattr(grokked, name), getattr(again, name), rtol=1e-12, atol=1e-12)
    assert grokked.loss().mean() == pytest.approx(float(again.loss().mean()), rel=1e-12)
    assert (grokked.n_layers, grokked.step, again.step) == (again.n_layers, quick_run.steps[-1], None)


def test_weights_that_do_not_fit_their_configuration_are_refused(quick_run):
    weights = quick_run.state_dict(-1)
    weights["unembed.W_U"] = weights["unembed.W_U"][:, 1:]
    with pytest.raises(UsageError, match=r"weights do not fit the model: unembed\.W_U"):
        View.of_weights(quick_run.task, quick_run.config.model, weights)


def test_what_a_caller_does_to_the_network_of_a_view_of_weights_changes_nothing_that_it_shows(quick_run):
    view = quick_run.view(-1)
    view.model.blocks[0].attn.hook_z.add_hook(lambda z, hook: z * 0)
    with torch.no_grad():
        view.model.W_E.zero_()
    again = quick_run.view(-1)
    name = "blocks.0.hook_resid_mid"
    assert torch.equal(view.activations([name])[name], again.activations([name])[name])
    assert torch.equal(view.weights["embed.W_E"], again.weights["embed.W_E"])


# The public name


@pytest.mark.parametrize(
    "lines",
    [
        "import grokinterp as gi, grokinterp.view; from grokinterp.view import View; assert gi.View is View",
        "import grokinterp.view; import grokinterp as gi",
        "import grokinterp as gi; gi.measure, gi.train; from grokinterp import view; assert view is gi.view",
    ],
)
def test_gi_view_is_a_function_however_the_module_was_imported(lines):
    check = (
        "import inspect, types; assert inspect.isfunction(gi.view), gi.view; assert "
        "inspect.isfunction(gi.measure)"
    )
    subprocess.run([sys.executable, "-c", f"{lines}\n{check}"], check=True, timeout=600)
