"""Training from the Hub and to it, and loading from it, each as a user would: in a fresh process with empty caches."""

import json
import sys
from types import SimpleNamespace

import pytest

from tests.conftest import SAMPLES
from tests.helpers.hub.processes import COMMANDS, fresh
from tests.helpers.training_runs import command, write_recipe

PUSH_ROOMS = """
import sys
from datasets import Dataset, DatasetDict

rows = Dataset.from_parquet(sys.argv[1])
DatasetDict(train=rows.select(range(40)), validation=rows.select(range(40, 60))).push_to_hub("org/rooms")
"""
LOAD = """
import sys
import torch
from transformers import AutoModel, AutoProcessor
import hf_encoders

texts = ["a red chair", "two lamps on a table"]
images = [torch.randint(255, (40, 50, 3), dtype=torch.uint8).numpy() for _ in texts]
maps = [torch.rand(40, 50).numpy() for _ in texts]
models = [AutoModel.from_pretrained(source).eval() for source in sys.argv[1:]]
processors = [AutoProcessor.from_pretrained(source) for source in sys.argv[1:]]
for embed in ("encode_text", "encode_image", "encode_depth"):
    inputs = {"encode_text": texts, "encode_image": images, "encode_depth": maps}[embed]
    one, other = (getattr(model, embed)(inputs) for model in models)
    assert one.shape == (2, 8) and torch.equal(one, other), embed
one, other = (processor(text=texts, images=images, depth=maps, return_tensors="pt") for processor in processors)
assert len(one) == 5 and all(torch.equal(one[name], other[name]) for name in one | other)
try:
    AutoModel.from_pretrained(sys.argv[1], revision="v9")
except OSError as error:
    print(error)
"""


def run(hub, home, *words):
    return fresh(hub, home, *words)


def python(hub, home, code, *words):
    return run(hub, home, sys.executable, "-c", code, *words)


@pytest.fixture(scope="module")
def pushed(hub, tmp_path_factory):
    """A data set on the Hub, and a model that was trained on it and pushed: what happened, and where it lies."""
    folder = tmp_path_factory.mktemp("pushed")
    done = python(hub, folder / "home", PUSH_ROOMS, SAMPLES / "rooms" / "validation.parquet")
    assert done.returncode == 0, done.stderr
    output = folder / "run"
    recipe = write_recipe(folder, dataset=["org/rooms"], epochs=1, report_to="tensorboard")
    done = run(hub, folder / "home", *command(recipe, output, push_to_hub="org/encoder"))
    assert done.returncode == 0, done.stderr[-2000:]
    return SimpleNamespace(output=output, printed=done.stdout, recipe=recipe)


def test_a_run_trains_from_the_hub_and_pushes_its_result_alone(hub, pushed):
    repo = hub.repo("model", "org/encoder")
    head = repo.commit_of("main")
    assert f"pushed to {hub.endpoint}/org/encoder/commit/{head}" in pushed.printed
    assert [one["title"] for one in repo.log(head)][1:] == ["initial commit"]
    in_run = {path.name: path for path in pushed.output.iterdir()}
    assert any(in_run["checkpoints"].rglob("*")) and any(in_run["logs"].rglob("*"))
    files = {path for path, entry in repo.entries(head).items() if entry.is_file}
    assert files - {".gitattributes"} == {name for name, path in in_run.items() if path.is_file()}
    assert {"config.json", "model.safetensors", "processor_config.json", "tokenizer.json"} <= files


def test_what_is_loaded_from_the_hub_embeds_as_the_local_folder_does(hub, pushed, tmp_path):
    hub.drop("GET", "/model.safetensors", after=50_000)  # is tried again by itself
    done = python(hub, tmp_path / "home", LOAD, "org/encoder", pushed.output)
    assert done.returncode == 0, done.stderr[-2000:]
    downloads = hub.requests("GET", "/org/encoder/resolve/", "/model.safetensors")[-2:]
    assert [exchange.sent for exchange in downloads] == [50_000, (pushed.output / "model.safetensors").stat().st_size]
    assert "v9 is not a valid git identifier" in done.stdout


def test_a_run_streams_from_the_hub(hub, pushed, tmp_path):
    # Shuffled streams of parquet files sleep for five seconds at their end (datasets, SLEEP_TIME_ON_THREADS_SHUTDOWN).
    options = {"streaming": True, "shuffle_buffer": 0, "max_steps": 2}
    done = run(hub, tmp_path / "home", *command(pushed.recipe, tmp_path / "run", **options))
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run" / "config.json").exists()
    data = hub.requests("GET", "/data/train-")[-1]
    assert data.status == 206 and not list((tmp_path / "home").rglob("*.parquet"))


def test_what_is_not_on_the_hub_takes_one_line(hub, pushed, tmp_path):
    from_hub = ["train", write_recipe(tmp_path, model_config=None, tokenizer=""), "--init_from"]
    on_hub = ["train", pushed.recipe, "--output_dir", tmp_path / "run", "--dataset"]
    search = ["search"]
    cases = [
        # First: what is in the cache already is read from there, whatever the token.
        ("hf_wrong", [*from_hub, "org/encoder"], "specific connection error when trying to load org/encoder:"),
        (hub.token, [*from_hub, "org/none"], "org/none: no such file or folder here, and no such model on the Hub"),
        (hub.token, [*on_hub, "org/none"], "org/none: no such file or folder here, and no such data set on the Hub"),
        (hub.token, [*search, "org/none", "org/rooms", "a chair"], "org/none: no such file or folder here, and no"),
        (hub.token, [*search, "org/encoder", "org/none", "a chair"], "org/none: no such file or folder here, and no"),
        ("hf_wrong", [*on_hub, "org/rooms"], "org/rooms: cannot be loaded (Client error '401 Unauthorized'"),
        (hub.token, [*on_hub, "org/rooms", "--push_to_hub", "stranger/encoder"], "stranger/encoder: cannot be pushed"),
    ]
    done = python(
        hub, tmp_path / "home", COMMANDS, json.dumps([(token, *map(str, words)) for token, words, _ in cases])
    )
    statuses = [line for line in done.stdout.splitlines() if line.isdigit()]  # among what the runs print
    assert statuses == ["2"] * len(cases), done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert not (tmp_path / "run" / "config.json").exists()
    for error, (token, _, reason) in zip(errors, cases, strict=True):
        assert reason in error
        assert ("Invalid credentials in Authorization header" in error) == (token == "hf_wrong")
