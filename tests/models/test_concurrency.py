"""Evaluation mode for a while, by one user or several."""

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from hf_encoders.models import concurrency
from hf_encoders.models.concurrency import evaluating


def test_each_module_gets_its_own_mode_back():
    model = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(1)))
    model.train()
    model[1][1].eval()  # a frozen one
    with pytest.raises(KeyError), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise KeyError
    assert model.training and model[1].training and model[1][0].training and not model[1][1].training
    assert not concurrency._USERS


def test_the_last_of_several_users_puts_a_module_back():
    model = nn.Sequential(nn.Dropout(), nn.Dropout()).train()
    first, second = evaluating(model), evaluating(model[0])  # which share a module
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert model.training and model[1].training and not model[0].training
    second.__exit__(None, None, None)
    assert model[0].training


def test_threads_change_nothing_in_a_model_in_training_mode(tiny_multimodal):
    model = tiny_multimodal.train()
    maps = list(np.random.default_rng(0).random((8, 40, 50), dtype=np.float32))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = model.encode_depth(maps)

    def work(index):
        if index % 2:
            return model.encode_depth(maps)
        return nn.functional.normalize(model.depth_projection(model.depth_encoder.encode(maps)), dim=-1).detach()

    with ThreadPoolExecutor(8) as threads:
        for found in threads.map(work, range(24)):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(module.training for module in model.modules())


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
def test_a_forked_process_does_not_wait_for_the_parents_other_threads():
    model = nn.Sequential(nn.Dropout()).train()
    begun, done = threading.Event(), threading.Event()

    def use():
        with evaluating(model), concurrency._LOCK:
            begun.set()
            done.wait(60)

    thread = threading.Thread(target=use)
    thread.start()
    begun.wait()
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()

    def work():
        before = model.training
        with evaluating(model):
            within = model.training
        theirs.send((before, within, model.training))

    worker = context.Process(target=work)
    worker.start()
    done.set()
    thread.join()
    assert mine.poll(60) and mine.recv() == (True, False, True)
    worker.join()
    assert model.training
