"""`hf-encoders embed --engine ray` writes what the local engine writes, also where workers die; either goes on."""

import logging
import os
import shutil
import signal
import sys
from contextlib import contextmanager

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from PIL import Image

from hf_encoders import DepthRangeWarning
from hf_encoders.backends.sent_tower import SentTower
from hf_encoders.data.collection import ParquetFiles
from hf_encoders.embed import ArrowEmbedder, ray_cluster, ray_engine
from tests.conftest import ROOT, SAMPLES
from tests.helpers.embedding_files import manifest_of, run_embed, write_folder, write_parquet, write_tars
from tests.helpers.multimodal_models import tiny_model
from tests.helpers.ray_workers import FOLDER, DyingCompute, DyingReadParts, NotingCompute, NotingReadParts
from tests.helpers.s3 import s3_server
from tests.helpers.stop_points import run_until

ray = pytest.importorskip("ray")

SHARDS = ("--shard-rows", 12, "--batch-size", 4)
BY_RAY = ("--engine", "ray")


@pytest.fixture(scope="module")
def deaths(tmp_path_factory):
    """Where workers note that they ended."""
    return tmp_path_factory.mktemp("deaths")


@pytest.fixture(scope="module")
def ray_here(deaths):
    """Ray in this process, once for all tests: its processes take long to start."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    ray.data.DataContext.get_current().enable_progress_bars = False
    os.environ[FOLDER] = str(deaths)
    environment = {"PYTHONPATH": str(ROOT), FOLDER: str(deaths)}
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200 << 20,
        runtime_env={"env_vars": environment},
    )
    yield
    ray.shutdown()
    del os.environ[FOLDER]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The model, and thirty scenes as parquet, files and tar shards. One of the files is no map."""
    folder = tmp_path_factory.mktemp("ray")
    scenes = Dataset.from_parquet(str(SAMPLES / "objects" / "test.parquet")).select(range(30))
    tiny_model().save_pretrained(folder / "model")
    write_parquet(scenes, folder / "scenes.parquet")
    write_folder(scenes, folder / "maps")
    (folder / "maps" / "b" / "c" / "017.png").write_bytes(b"no map")
    (folder / "tars").mkdir()
    write_tars(scenes, folder / "tars", [17, 13])
    return folder


WAYS = {
    "parquet": ("scenes.parquet",),
    "files": ("maps", "--on-error", "skip"),
    "tars": ("tars",),
    "texts": ("scenes.parquet", "--modality", "text", "--column", "caption"),
    "images": ("scenes.parquet", "--modality", "image", "--normalize", "--truncate-dim", 5),
    "units": ("scenes.parquet", "--unit-scale", 0.002, "--value-range", 0, 20, "--embedding-dtype", "float16"),
}


def embed(folder, way, output, *options):
    source, *words = WAYS[way]
    run_embed(folder / "model", folder / source, output, *SHARDS, *words, *options)


@pytest.fixture(scope="module")
def local(folder):
    """What the local engine writes."""
    for way in WAYS:
        embed(folder, way, folder / "local" / way)
    return folder / "local"


def assert_same(output, expected):
    assert manifest_of(output) == manifest_of(expected)
    names = {file.name for file in (expected / "data").iterdir()}
    assert {file.name for file in (output / "data").iterdir()} == names
    for name in names:
        assert (output / "data" / name).read_bytes() == (expected / "data" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_ray_writes_what_the_local_engine_writes(way, folder, local, ray_here, tmp_path):
    embed(folder, way, tmp_path / "out", *BY_RAY, "--workers", 2)
    assert_same(tmp_path / "out", local / way)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["parquet", "tars"])
def test_either_engine_goes_on_with_what_the_other_began(way, folder, local, ray_here, tmp_path, monkeypatch):
    output = shutil.copytree(local / way, tmp_path / "out")
    (output / "manifest.json").unlink()
    kept = {file.name: file.stat().st_mtime_ns for file in (output / "data").iterdir() if "0-00000" in file.name}
    for record in (output / "records").glob("*1-0*.json"):
        record.unlink()
    embed(folder, way, output, *BY_RAY)
    assert_same(output, local / way)
    assert kept and all((output / "data" / name).stat().st_mtime_ns == time for name, time in kept.items())
    (output / "records" / "0000000-00000.json").unlink()
    embed(folder, way, output)
    assert_same(output, local / way)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind", "who"), [("Compute", DyingCompute, "actor"), ("ReadParts", DyingReadParts, "task")]
)
def test_a_worker_that_is_killed_is_replaced(name, kind, who, folder, local, ray_here, deaths, tmp_path, monkeypatch):
    monkeypatch.setattr(f"hf_encoders.embed.ray_engine.{name}", kind)
    embed(folder, "parquet", tmp_path / "out", *BY_RAY, "--workers", 1)
    assert int((deaths / who).read_text()) not in (0, os.getpid())
    assert_same(tmp_path / "out", local / "parquet")


@pytest.mark.slow
def test_workers_read_and_the_result_goes_to_a_bucket(folder, local, ray_here, tmp_path):
    with s3_server("bucket") as bucket:
        bucket.put(str(folder / "maps"), "bucket/", recursive=True)
        bucket.put_file(str(folder / "scenes.parquet"), "bucket/scenes.parquet")
        embed(folder, "files", "s3://bucket/out", *BY_RAY)  # local files into a bucket
        words = (*SHARDS, "--on-error", "skip")
        run_embed(folder / "model", "s3://bucket/maps", "s3://bucket/again", *words, *BY_RAY)
        run_embed(folder / "model", "s3://bucket/scenes.parquet", tmp_path / "by-ray", *SHARDS, *BY_RAY)
        run_embed(folder / "model", "s3://bucket/scenes.parquet", tmp_path / "by-local", *SHARDS)
        for name in ("out", "again"):
            bucket.get(f"bucket/{name}/", str(tmp_path / name), recursive=True)
    assert_same(tmp_path / "out", local / "files")
    assert manifest_of(tmp_path / "again")["shards"] == manifest_of(local / "files")["shards"]
    assert_same(tmp_path / "by-ray", tmp_path / "by-local")


@pytest.mark.slow
def test_a_row_that_cannot_be_embedded_stops_the_run_as_ever(folder, ray_here, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        run_embed(folder / "model", folder / "maps", tmp_path / "out", *SHARDS, *BY_RAY)
    error = capsys.readouterr().err.strip()
    assert end.value.code == 2 and "\n" not in error
    assert (
        "1 row cannot be embedded; the first: b/c/017.png:" in error and "--on-error skip leaves such rows out" in error
    )
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.slow
def test_what_a_worker_warns_of_reaches_the_person_as_ever(folder, ray_here, tmp_path):
    (tmp_path / "maps").mkdir()
    for number in range(6):
        depth = np.arange(4096, dtype=np.uint16).reshape(64, 64)
        depth[0, number] = 65535
        Image.fromarray(depth).save(tmp_path / "maps" / f"{number}.png")
    said = []
    for engine in ("local", "ray"):
        options = ("--shard-rows", 2, "--batch-size", 2, "--engine", engine)
        with pytest.warns(DepthRangeWarning) as warned:
            run_embed(folder / "model", tmp_path / "maps", tmp_path / engine, *options)
        said.append([str(one.message) for one in warned if one.category is DepthRangeWarning])
    assert len(said[0]) == 1 and "pixels of 65535" in said[0][0] and said[0] == said[1]


@pytest.mark.slow
def test_decoding_and_the_network_are_in_other_processes(folder, ray_here, deaths, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_encoders.embed.ray_engine.Compute", NotingCompute)
    monkeypatch.setattr("hf_encoders.embed.ray_engine.ReadParts", NotingReadParts)
    embed(folder, "parquet", tmp_path / "out", *BY_RAY, "--workers", 2)
    actors, tasks = (set((deaths / name).read_text().split()) for name in ("actors", "tasks"))
    assert actors and tasks and not actors & tasks


@pytest.mark.slow
def test_map_batches_of_ray_takes_the_embedder(objects_test, ray_here, tmp_path):
    import ray.data

    path = write_parquet(objects_test.select(range(10)), tmp_path / "scenes.parquet")
    embedder = ArrowEmbedder(tiny_model(), "depth", "depth", batch_size=5)
    rows = ray.data.read_parquet(str(path)).map_batches(embedder, batch_format="pyarrow", batch_size=None)
    found = {row["caption"]: list(row["embedding"]) for row in rows.take_all()}
    expected = embedder(pq.read_table(path))
    assert found == dict(zip(expected["caption"].to_pylist(), expected["embedding"].to_pylist(), strict=True))


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on(folder, local, tmp_path):
    """The whole command, in a process of its own that starts Ray; the local engine goes on."""
    source, *words = WAYS["parquet"]
    words = [folder / "model", folder / source, "--output", tmp_path / "out", "--modality", "depth", *SHARDS, *BY_RAY]
    code, _, error = run_until(
        "os.rename", "records/0000001-00000.json", ROOT / "tests/helpers/embed_command.py", *words
    )
    assert code == -signal.SIGKILL, error
    assert not (tmp_path / "out" / "manifest.json").exists() and len(list((tmp_path / "out/records").glob("0*"))) == 1
    embed(folder, "parquet", tmp_path / "out")
    assert_same(tmp_path / "out", local / "parquet")


def refusal(capsys, folder, output, *options):
    with pytest.raises(SystemExit) as end:
        run_embed(folder / "model", folder / "scenes.parquet", output, *options)
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1 and not output.exists()
    return error


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--workers", 2), "--workers: for --engine ray alone"),
        (("--address", "auto"), "--address: for --engine ray alone"),
        (("--gpus-per-worker", 0), "--gpus-per-worker: for --engine ray alone"),
        (
            (*BY_RAY, "--address", "ray://head:10001"),
            "--address ray://head:10001: run this on a machine of the cluster",
        ),
        ((*BY_RAY, "--workers", 0), "--workers: must be at least 1"),
        ((*BY_RAY, "--gpus-per-worker", -1), "--gpus-per-worker -1: must be 0 or more"),
        ((*BY_RAY, "--device", "cuda:1"), "--device cuda:1: with --engine ray, --gpus-per-worker says what computes"),
        ((*BY_RAY, "--device", "cpu", "--gpus-per-worker", 1), "--device cpu: its workers have no GPU"),
    ],
)
def test_options_that_do_not_go_together_take_one_line(options, says, folder, tmp_path, capsys):
    assert says in refusal(capsys, folder, tmp_path / "out", *options)


def test_without_ray_one_line_names_the_extra(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "--engine ray needs Ray: pip install 'hf-encoders[ray]'" in refusal(
        capsys, folder, tmp_path / "out", *BY_RAY
    )


def test_processes_of_a_launcher_are_refused(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "run it without accelerate launch" in refusal(capsys, folder, tmp_path / "out", *BY_RAY)


def test_without_a_cluster_one_line_says_so(folder, tmp_path, capsys, monkeypatch):
    def nothing_there(**options):
        assert options["address"] == "auto"
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", nothing_there)
    error = refusal(capsys, folder, tmp_path / "out", *BY_RAY, "--address", "auto")
    assert "--address auto: no Ray cluster there (Could not find any running Ray instance.); start one" in error


def test_a_model_with_code_of_its_own_is_refused(folder, tmp_path, capsys, monkeypatch):
    @contextmanager
    def no_cluster(*options):
        yield ray_cluster.Workers(1, 0, 0.9, 1)

    monkeypatch.setattr(ray_engine, "cluster", no_cluster)
    monkeypatch.setattr(SentTower, "without_weights", lambda self, tower: b"ctransformers_modules.org.modeling\nTower")
    with pytest.raises(SystemExit):
        run_embed(folder / "model", folder / "scenes.parquet", tmp_path / "out", *BY_RAY)
    assert "the model runs code of its own repo, which no worker has" in capsys.readouterr().err


@pytest.mark.slow
def test_a_worker_that_sees_other_files_stops_the_run(folder, ray_here, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ParquetFiles, "state", lambda self, part, start, count: "as this process sees them")
    with pytest.raises(SystemExit) as end:
        embed(folder, "parquet", tmp_path / "out", *BY_RAY)
    assert end.value.code == 2 and "a worker sees other files there" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("records/*.json"))


def test_more_gpus_than_there_are_take_one_line():
    with pytest.raises(ValueError, match="this machine has 1; --gpus-per-worker 0"):
        ray_cluster.workers_of({"CPU": 2.0, "GPU": 1.0}, 2, 1.0, is_started_here=True)


@pytest.mark.parametrize(
    ("resources", "asked", "expected"),
    [
        ({"CPU": 8.0}, (None, None), (4, 0, 0.9, 2)),
        ({"CPU": 2.0}, (4, None), (4, 0, 0.25, 1)),
        ({"CPU": 2.0}, (1, None), (1, 0, 0.9, 2)),
        ({"CPU": 64.0, "GPU": 8.0}, (None, None), (8, 1, 0.9, 3)),
        ({"CPU": 8.0, "GPU": 2.0}, (None, 0.5), (4, 0.5, 0.9, 2)),
    ],
)
def test_workers_leave_half_of_the_cpus_to_what_reads(resources, asked, expected, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    found = ray_cluster.workers_of(resources, *asked, is_started_here=True)
    assert (found.count, found.gpus, found.cpus, found.threads) == expected
    assert found.count * found.cpus <= resources["CPU"] / 2
