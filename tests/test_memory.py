"""Memory that is lent again: only what nobody holds, and one piece at most."""

from __future__ import annotations

import gc
import threading

import pytest
import torch

import grokinterp as gi
from grokinterp.memory import _left, give_back_memory, room
from grokinterp.models import ModelConfig

ROWS, WIDTH = 10_000, 512  # 41 MB: more than glibc keeps


def kept() -> int:
    gc.collect()
    return len(_left.__dict__.get("kept", []))


@pytest.fixture(autouse=True)
def nothing_is_kept():
    give_back_memory()
    yield
    give_back_memory()


HOLDERS = {
    "the tensor": lambda x: x,
    "a slice": lambda x: x[5:7],
    "its transpose": lambda x: x.T[3],
    "an array": lambda x: x.numpy(),
    "a slice of an array": lambda x: x.numpy()[5:7],
    "an array of a slice": lambda x: x[5:7].numpy()[1:],
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_memory_that_somebody_holds_is_not_lent_again(holder):
    held = HOLDERS[holder](room(ROWS, WIDTH, torch.float64).fill_(1))
    assert kept() == 0
    room(ROWS, WIDTH, torch.float64).fill_(2)
    assert (torch.as_tensor(held) == 1).all()
    del held
    assert kept() == 1


def test_memory_that_nobody_holds_is_lent_again_to_what_has_its_size():
    place = room(ROWS, WIDTH, torch.float64).data_ptr()
    assert room(ROWS, WIDTH, torch.float64).data_ptr() == place
    assert room(ROWS, WIDTH + 1, torch.float64).shape == (ROWS, WIDTH + 1)
    assert room(ROWS, WIDTH + 1, torch.float32).dtype == torch.float32


def test_one_piece_is_kept_at_most_and_none_that_is_small_or_very_large():
    held = [room(ROWS + i, WIDTH, torch.float64) for i in range(5)]
    held.clear()
    assert kept() == 1
    give_back_memory()
    assert kept() == 0
    room(100, WIDTH, torch.float64)
    room(40 * ROWS, WIDTH, torch.float64)
    assert kept() == 0


def test_what_one_thread_lets_go_another_may_have_held():
    held = [room(ROWS, WIDTH, torch.float64).fill_(1)]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert kept() == 1


def test_to_hold_the_logits_is_not_to_hold_the_neurons():
    task, config = gi.make_task("modular_addition", p=13), ModelConfig(d_mlp=2048)
    view = gi.View.of_weights(task, config, config.initial_weights(task.reads, 0))
    assert view.neurons.shape == (169, 2048)
    assert view.logits.untyped_storage().nbytes() < 169 * 32 * 8
