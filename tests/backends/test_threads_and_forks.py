"""Several threads, and processes that were forked: the same embeddings, and nothing that hangs."""

import gc
import json
import multiprocessing
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen

import numpy as np
import pytest
import torch

from hf_encoders.backends import compiled, openvino_threads
from hf_encoders.backends.programs import export_tower
from hf_encoders.models.backend import get_backend
from tests.helpers.multimodal_models import tiny_model

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")
TEXTS = ["a red chair", "a table", "the small lamp"]
has_fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")


def can_fork(test):
    """For a test that forks: where the system can, in an interpreter of its own."""
    return pytest.mark.fresh_process(has_fork(test))


@pytest.fixture(scope="module")
def maps():
    return list(np.random.default_rng(0).random((6, 40, 50), dtype=np.float32))


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_the_export_leaves_the_model_alone_while_others_use_it(backend, model, maps):
    expected = {"depth": model.encode_depth(maps), "text": model.encode_text(TEXTS)}
    inputs = {"depth": maps, "text": TEXTS}
    before, done = dict(model.named_parameters()), threading.Event()

    def use(name):
        rounds = 0
        while not done.is_set() or not rounds:
            torch.testing.assert_close(model.tower(name).encode(inputs[name]), expected[name], atol=1e-5, rtol=0)
            rounds += 1
        return rounds

    with ThreadPoolExecutor(2) as threads:
        users = [threads.submit(use, name) for name in inputs]
        try:
            for name in inputs:
                found = model.tower(name).encode(inputs[name], backend=backend)
                torch.testing.assert_close(found, expected[name], atol=1e-5, rtol=0)
        finally:
            done.set()
        assert all(user.result() for user in users)
    assert all(parameter is before[name] for name, parameter in model.named_parameters())
    assert not any("Fake" in type(parameter).__name__ for parameter in model.parameters())


def test_an_exported_copy_shares_the_memory_of_the_weights(model, monkeypatch):
    seen = []
    monkeypatch.setattr(torch.export, "export", lambda program, *_, **__: seen.append(program.model))
    export_tower(model.tower("text"))
    (copy,) = seen
    assert copy is not model
    for name, parameter in copy.named_parameters():
        assert parameter.data_ptr() == model.get_parameter(name).data_ptr() and parameter is not model.get_parameter(
            name
        )
    assert copy.saved_processor is model.saved_processor


def test_first_use_by_threads_compiles_each_tower_once(maps, monkeypatch):
    model, compilations = tiny_model(), []
    monkeypatch.setattr(compiled, "export_tower", lambda tower: compilations.append(tower.name) or export_tower(tower))
    expected = {"depth": model.encode_depth(maps), "text": model.encode_text(TEXTS)}
    inputs = {"depth": maps, "text": TEXTS}

    def work(index):
        name = ("depth", "text")[index % 2]
        return name, model.tower(name).encode(inputs[name], backend="openvino")

    with ThreadPoolExecutor(8) as threads:
        for name, found in threads.map(work, range(16)):
            torch.testing.assert_close(found, expected[name], atol=1e-5, rtol=0)
    assert sorted(compilations) == ["depth", "text"]


def test_a_program_that_is_there_does_not_wait_for_another_that_is_compiled(model):
    model.prepare("text", backend="onnx")
    with compiled._LOCK, ThreadPoolExecutor(1) as other:
        assert other.submit(model.encode_text, TEXTS, backend="onnx").result(timeout=30).shape == (3, 8)


def test_prepare_compiles_before_the_first_request(maps, monkeypatch):
    model = tiny_model()
    expected = model.encode_depth(maps)
    model.prepare(["text", "depth"], backend="openvino")
    model.depth_encoder.prepare(backend="openvino")
    model.tower("image").compile("onnx")
    monkeypatch.setattr(compiled, "_compile", lambda *_: pytest.fail("compiled by a request"))
    assert torch.allclose(model.encode_depth(maps, backend="openvino"), expected, atol=1e-5)
    model.encode_text(TEXTS, backend="openvino")
    model.depth_encoder.encode(maps, backend="openvino")
    model.encode_image(np.zeros((2, 32, 32, 3), np.uint8), backend="onnx")
    model.train().encode_text(TEXTS, backend="openvino")
    model.prepare(backend="torch")
    with pytest.raises(ValueError, match="modality is one of"):
        model.prepare("sound")
    with pytest.raises(ValueError, match="onnx computes in float32 or int8"):
        model.prepare("text", backend="onnx", dtype="bfloat16")


def forked(function):
    """The result of a function in a forked process."""
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    worker = context.Process(target=lambda: theirs.send(function()))
    worker.start()
    try:
        assert mine.poll(120), "the forked process hangs"
        return mine.recv()
    finally:
        worker.kill()
        worker.join()


@can_fork
@pytest.mark.parametrize("backend", ["torch", "openvino", "onnx"])
def test_a_forked_process_embeds_after_its_parent_did(backend, model, maps):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = model.encode_depth(maps, backend=backend, convert_to="numpy")
        found = forked(lambda: model.encode_depth(maps, backend=backend, convert_to="numpy"))
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert torch.get_num_threads() == 2  # in the parent
        assert np.array_equal(model.encode_depth(maps, backend=backend, convert_to="numpy"), expected)
    finally:
        torch.set_num_threads(threads)


@can_fork
def test_threads_of_a_program_that_is_gone_are_not_waited_for(model, maps):
    model.prepare(["text", "depth"], backend="openvino")
    gone = tiny_model()
    gone.prepare(["text", "depth"], backend="openvino")
    del gone
    gc.collect()
    expected = model.encode_depth(maps, backend="openvino", convert_to="numpy")
    for _ in range(2):
        found = forked(lambda: model.encode_depth(maps, backend="openvino", convert_to="numpy"))
        np.testing.assert_allclose(found, expected, atol=1e-5)
    tiny_model().prepare("depth", backend="openvino")  # the parent has its threads still


@can_fork
def test_nothing_is_collected_while_the_process_forks(model, monkeypatch):
    """A program that went then would leave threads that the child waits for."""
    collects = []
    before = compiled.before_fork
    monkeypatch.setattr(compiled, "before_fork", lambda: collects.append(gc.isenabled()) or before())
    assert forked(gc.isenabled)  # again, in the child
    assert collects and not any(collects)
    with compiled._LOCK:  # no other thread forks meanwhile
        compiled._before_fork()
        assert not gc.isenabled()
        compiled._after_fork_in_parent()
        assert gc.isenabled()


def test_threads_that_become_idle_while_others_are_taken_are_taken_too(monkeypatch):
    monkeypatch.setattr(openvino_threads, "_IDLE", [(1, 1)])
    taken = []

    class Core:
        def compile_model(self, graph, device, settings):
            taken.append(tuple(settings.values()))
            if len(taken) == 1:
                openvino_threads._IDLE.append((2, 4))
            return settings

    assert len(openvino_threads.take_idle_threads(Core)) == 2
    assert taken == [(1, 1), (2, 4)]


@can_fork
def test_a_fork_beside_a_thread_that_compiles_waits_for_it(model):
    held, done = threading.Event(), threading.Event()

    def compiling():
        with compiled._LOCK:
            held.set()
            done.wait(1)

    thread = threading.Thread(target=compiling)
    thread.start()
    held.wait()
    assert forked(lambda: compiled._LOCK.acquire(timeout=5))
    done.set()
    thread.join()


@can_fork
def test_a_program_of_the_parent_is_refused_in_a_forked_process(model, maps):
    batch = {"pixel_values": torch.rand(2, 1, 32, 32)}
    for backend in ("openvino", "onnx"):
        program = get_backend(model.tower("depth"), backend)

        def run(program=program):
            try:
                return next(program.embed(iter([(range(2), batch)])))
            except RuntimeError as error:
                return str(error)

        assert "before the process was forked" in forked(run)


@can_fork
def test_a_worker_of_datasets_and_of_a_data_loader_embeds(model, maps):
    from datasets import Dataset
    from torch.utils.data import DataLoader

    expected = model.encode_text(TEXTS * 2, backend="openvino", convert_to="numpy")
    table = Dataset.from_dict({"text": TEXTS * 2})
    mapped = table.map(
        lambda rows: {"row": model.encode_text(rows["text"], backend="openvino", convert_to="numpy")},
        batched=True, num_proc=2, load_from_cache_file=False,
    )  # fmt: skip
    np.testing.assert_allclose(mapped["row"], expected, atol=1e-5)
    loader = DataLoader(
        table["text"], batch_size=3, num_workers=1, multiprocessing_context="fork",
        collate_fn=lambda texts: model.encode_text(texts, backend="openvino"),
    )  # fmt: skip
    np.testing.assert_allclose(torch.cat(list(loader)), expected, atol=1e-5)


FORKED_EXIT = """
import os, sys, threading
import torch
from hf_encoders.backends.openvino_backend import OpenVinoBackend, _core
from tests.helpers.multimodal_models import tiny_model

model = tiny_model()
model.encode_text(["a chair"], backend="openvino")
parents = _core()
child = os.fork()
if not child:
    model.encode_text(["a chair"], backend="openvino")
    assert _core() is not parents
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@can_fork
def test_a_forked_process_makes_its_own_core_and_ends(tmp_path):
    done = subprocess.run([sys.executable, "-c", FORKED_EXIT], capture_output=True, text=True, timeout=240)
    assert done.stdout.splitlines()[-1:] == ["7"], done.stderr


@pytest.mark.parametrize("backend", ["torch", "openvino", "onnx"])
def test_a_server_of_16_threads_gives_each_request_its_own_embeddings(backend):
    model = tiny_model()
    requests = [[f"{'a red chair ' * (1 + index % 3)}{index % 5}"] * (1 + index % 4) for index in range(48)]
    expected = [model.encode_text(texts) for texts in requests]
    model.prepare("text", backend=backend)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            rows = model.encode_text(texts, backend=backend, convert_to="numpy")
            body = json.dumps(rows.tolist()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    def ask(texts):
        address = f"http://127.0.0.1:{server.server_port}"
        with urlopen(address, data=json.dumps(texts).encode(), timeout=60) as answer:
            return torch.tensor(json.load(answer))

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, ThreadPoolExecutor(16) as clients:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            found = list(clients.map(ask, requests))
        finally:
            server.shutdown()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
