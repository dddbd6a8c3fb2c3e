"""A run goes on with other processes: the same rows in the same steps, and weights equal but for rounding."""

import itertools
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file

from hf_encoders.training.checkpoints import Kept, Progress
from hf_encoders.training.division import Division, divide
from hf_encoders.training.resumption import DATA, Resumption
from tests.conftest import TINY
from tests.helpers.ranks import on_ranks
from tests.helpers.runs import forget_runs
from tests.helpers.training_runs import EXACT, RECIPE, assert_equal_but_for_rounding, without_biases_before_norms
from tests.training.recorded_runs import recorded

SCRIPT = Path(__file__).parent / "recorded_runs.py"
RATE = 1e-3
COMMON = RECIPE | {
    "epochs": 1, "checkpoint_steps": 1, "keep_last": 0, "learning_rate": RATE, "logging_steps": 1, "image_scale": 0.6,
    "ema_decay": 0.5, "batch_size": 10,
}  # fmt: skip
# 100 rows, and 20 of two processes in a step: five steps in an epoch.
RECIPES = {
    "plain": COMMON,  # with dropout, and a depth tower whose BatchNorm normalises the rows of a process
    "chunks": COMMON | {"chunk_size": 4, "batch_norm": "update_once", "gradient_accumulation_steps": 2, "epochs": 2},
    "exact": COMMON | EXACT | {"max_steps": 0, "epochs": 1, "learning_rate": RATE, "batch_size": 20},
    "stream": COMMON | {"streaming": True, "max_steps": 5, "shuffle_buffer": 30},
}
DEPTH = {
    "validation_share": 0.2, "epochs": 2, "batch_size": 2, "learning_rate": RATE, "checkpoint_steps": 1,
    "keep_last": 99, "logging_steps": 1, "crop_scale": 0.8, "horizontal_flip": True, "num_workers": 0,
    "report_to": "none",
    "max_bad_samples": 1,
    "model_config": TINY
    | {"image_size": 32, "decoder_hidden_sizes": [8, 8, 8], "decoder_head_sizes": [8, 8, 8]},
}  # fmt: skip
COMMANDS = {name: "pretrain" for name in RECIPES} | {"depth": "pretrain_depth"}


class Runs:
    """Runs of the recipes in a folder, and what was recorded of them."""

    def __init__(self, folder):
        self.folder, self.results = folder, {}
        maps = folder / "maps"
        maps.mkdir()
        rng = np.random.default_rng(0)
        for number in range(26):
            depth = np.linspace(2, 4, 40, dtype=np.float32)[:, None].repeat(40, axis=1)
            top, left = rng.integers(2, 20, 2)
            depth[top : top + 16, left : left + 16] = 1 + rng.random()
            np.save(maps / f"{number:02}.npy", depth)
        (maps / "07.npy").write_bytes(b"garbage")  # its micro-batch is too small for BatchNorm, and its step left out
        for name, recipe in (RECIPES | {"depth": DEPTH | {"dataset": str(maps)}}).items():
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe))

    def output(self, name, run):
        return self.folder / run / name

    def words(self, name, run, before=None, step=0, options=()):
        words = [self.folder / f"{name}.yaml", "--output_dir", self.output(name, run)]
        if before is not None:
            words += ["--resume_from_checkpoint", self.checkpoint(name, before, step)]
        for option, value in dict(options).items():
            words += [f"--{option}", value]
        return list(map(str, words))

    def checkpoint(self, name, run, step):
        return self.output(name, run) / "checkpoints" / f"checkpoint-{step}"

    def on_two(self, *calls):
        """Each call is (name, run, ...), as `words` takes it, or the same and its options."""
        lines = [(COMMANDS[name], self.words(name, *rest)) for name, *rest in calls]
        (self.folder / "calls.json").write_text(json.dumps(lines))
        results = zip(*on_ranks(SCRIPT, self.folder), strict=True)
        self.results |= {(name, run): found for (name, run, *_), found in zip(calls, results, strict=True)}

    def on_one(self, name, run, *rest, **options):
        forget_runs()
        self.results[name, run] = [recorded(COMMANDS[name], self.words(name, run, *[*rest, None, 0][:2], options))]
        forget_runs()

    def rows(self, name, run):
        """Of each step all rows, in the order of the micro-batches of all processes."""
        steps = zip(*(result["steps"] for result in self.results[name, run]), strict=True)
        return [[row for micro in zip(*step, strict=True) for rows in micro for row in rows] for step in steps]

    def content(self, name, run, step):
        """What a checkpoint says of its run."""
        return json.loads((self.checkpoint(name, run, step) / "progress.json").read_text())

    def division(self, name, run, step):
        return Division(**self.content(name, run, step)["division"])

    def rewrite(self, name, run, step, **changes):
        """Change what a checkpoint says of its run; None takes the name away."""
        path = self.checkpoint(name, run, step) / "progress.json"
        content = self.content(name, run, step) | changes
        path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))

    def losses(self, name, run):
        return self.results[name, run][0]["losses"]

    def assert_equal_weights(self, name, one, other):
        """The last checkpoints of two runs: of equal steps, and with weights that differ by rounding alone."""
        folders = (self.output(name, one) / "checkpoints").glob("checkpoint-*")
        last = max(int(path.name.split("-")[1]) for path in folders)
        assert not self.checkpoint(name, other, last + 1).exists()
        for file in ["model"] if name == "depth" else ["model", "averaged_model"]:
            files = [self.checkpoint(name, run, last) / f"{file}.safetensors" for run in (one, other)]
            states = [without_biases_before_norms(load_file(file)) for file in files]
            assert_equal_but_for_rounding(*states, RATE)


ON_DISK = ["plain", "chunks", "exact", "depth"]
# Steps in the middle of an epoch.
STOPPED = {"plain": 2, "chunks": 1, "exact": 1, "depth": 6, "stream": 2}
AGAIN = {"plain": 4, "chunks": 3, "depth": 7}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """`whole` runs of two processes; those that went on from the middle with `one`; and `back` on two."""
    runs = Runs(tmp_path_factory.mktemp("runs"))
    runs.on_two(*((name, "whole") for name in ON_DISK))
    for name in ON_DISK:
        runs.on_one(name, "one", "whole", STOPPED[name])
    runs.on_one("exact", "whole of one")
    runs.on_one("exact", "odd", batch_size=5, max_steps=1)
    runs.on_two(
        *((name, "back", "one", step) for name, step in AGAIN.items()),
        ("exact", "more", "whole of one", 2),
        ("exact", "chosen", "whole of one", 2, {"batch_size": 10}),
        ("exact", "refused", "odd", 1, {"batch_size": 5}),
    )
    return runs


def assert_same_losses(found, expected):
    assert found == pytest.approx(expected[-len(found) :], rel=1e-4)


@pytest.mark.slow
@pytest.mark.numeric
@pytest.mark.parametrize("name", ON_DISK)
def test_with_fewer_processes_a_run_makes_the_steps_that_it_would_have_made(name, runs):
    rows = runs.rows(name, "one")
    assert len(rows) >= 1 and rows == runs.rows(name, "whole")[-len(rows) :]
    assert_same_losses(runs.losses(name, "one"), runs.losses(name, "whole"))
    runs.assert_equal_weights(name, "one", "whole")


@pytest.mark.slow
@pytest.mark.numeric
@pytest.mark.parametrize("name", AGAIN)
def test_back_on_as_many_as_before_it_goes_on_as_if_nothing_had_been(name, runs):
    rows = runs.rows(name, "back")
    assert len(rows) >= 1 and rows == runs.rows(name, "whole")[-len(rows) :]
    assert_same_losses(runs.losses(name, "back"), runs.losses(name, "whole"))
    runs.assert_equal_weights(name, "back", "whole")
    step = AGAIN[name] + 1
    before, now = (runs.division(name, run, step) for run in ("whole", "back"))
    assert now == before


@pytest.mark.slow
@pytest.mark.numeric
@pytest.mark.parametrize("run", ["more", "chosen"])
def test_with_more_processes_it_makes_the_steps_of_one(run, runs):
    """Also where the same rows of a step are asked for in other words."""
    assert runs.rows("exact", run) == runs.rows("exact", "whole of one")[2:]
    assert_same_losses(runs.losses("exact", run), runs.losses("exact", "whole of one"))
    runs.assert_equal_weights("exact", run, "whole of one")
    assert runs.division("exact", run, 3) == Division(10, 1, 2, planned={"more": 1, "chosen": 2}[run])


@pytest.mark.slow
def test_what_was_given_stays_in_the_checkpoint(runs):
    """So the command that began a run resumes it as often as it takes, on any number of processes."""
    options = runs.content("plain", "one", 3)["options"]
    assert options["batch_size"] == 10 and options["gradient_accumulation_steps"] == 1
    assert runs.division("plain", "one", 3) == Division(10, 2, 1, planned=2)


@pytest.mark.slow
def test_rows_that_cannot_be_shared_are_refused(runs):
    (line, _) = [result["refused"] for result in runs.results["exact", "refused"]]
    assert "a step of the checkpoint's run has 5 rows, which 2 processes cannot share evenly: start 1 or 5, or" in line
    assert not runs.checkpoint("exact", "refused", 2).exists()


@pytest.mark.slow
@pytest.mark.numeric
def test_a_stream_is_read_in_the_parts_that_it_was_read_in(tmp_path):
    runs = Runs(tmp_path)
    runs.on_two(("stream", "whole"))
    runs.on_one("stream", "one", "whole", 2)
    assert len(runs.rows("stream", "one")) >= 3
    assert runs.rows("stream", "one")[:3] == runs.rows("stream", "whole")[2:5]
    assert_same_losses(runs.losses("stream", "one"), runs.losses("stream", "whole"))
    runs.assert_equal_weights("stream", "one", "whole")


@pytest.fixture
def first(tmp_path, first_run):
    """A run of one process, after one of its steps."""
    runs = Runs(tmp_path)
    runs.on_one("exact", "first", max_steps=1)
    runs.rewrite("exact", "first", 1, epoch=0, batches=1)
    return runs


@pytest.mark.parametrize("division", [asdict(Division(10, 1, 2, 2)), None], ids=["now", "older version"])
def test_what_changed_is_one_line(division, first, capsys):
    """As if two processes of 10 rows had written it."""
    options = first.content("exact", "first", 1)["options"] | {"batch_size": 10}
    first.rewrite("exact", "first", 1, processes=2, options=options, division=division)
    first.on_one("exact", "again", "first", 1, batch_size=10, max_steps=2)
    printed = capsys.readouterr().out
    assert (
        "goes on with 1 process instead of 2: 20 rows per process and step instead of 10, as 2 micro-batches of 10; the"
        " global batch of 20 stays\n" in printed
    )
    assert "starts again" not in printed and "BatchNorm" not in printed


def test_the_batch_of_a_checkpoint_of_an_older_version_is_not_guessed(first):
    first.rewrite("exact", "first", 1, processes=2, division=None, options=None)
    first.on_one("exact", "again", "first", 1)
    (line,) = [result["refused"] for result in first.results["exact", "again"]]
    assert "was written by 2 processes, in a version that did not keep how many rows a step has" in line


def test_smaller_micro_batches_are_said_where_they_change_something(tmp_path, first_run, capsys):
    """A step of one process on four: BatchNorm has fewer rows to normalise, and dropout draws anew."""
    kept = Kept(Progress(batches=3), 1, options={"batch_size": 8}, division=Division(8, 1, 1, 1))
    resumption = Resumption(kept, [])
    assert resumption.divide(8, 1, 4) == Division(2, 1, 4, 1)
    resumption.compare({DATA: ""})
    lines = [*resumption.lines(), *resumption.batch_norm_lines(["a layer"])]
    assert any(line.startswith("dropout draws other numbers") for line in lines)
    assert "BatchNorm normalises 2 rows at a time instead of 8 from here on" in lines
    assert resumption.progress.batches == 3


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 8])
def test_a_step_keeps_its_rows_and_no_micro_batch_grows(processes):
    for size, micro_batches, planned in itertools.product([1, 2, 3, 8], [1, 2, 3], [1, 2, 4, 6]):
        before = Division(size, micro_batches, planned, planned)
        if before.rows % processes:
            with pytest.raises(ValueError, match="cannot share evenly: start"):
                divide(size, micro_batches, planned, processes)
            continue
        now = divide(size, micro_batches, planned, processes)
        assert now.rows == before.rows and now.batch_size <= size and now.processes == processes
        steps = 3
        assert now.batches_after(steps * micro_batches, before) == steps * now.micro_batches


def test_the_numbers_of_micro_batches_are_those_of_their_rows():
    """So their dropout is the same on any number of processes."""
    two, one = Division(4, 1, 2, 2), Division(4, 2, 1, 2)
    assert [two.number(0, process) for process in (0, 1)] == [one.number(number, 0) for number in (0, 1)] == [0, 1]


def test_parts_of_a_stream_that_cannot_be_shared_begin_again():
    kept = Kept(Progress(batches=2), 4, options={"batch_size": 3}, division=Division(3, 1, 4, 4, streams=4))
    resumption = Resumption(kept, [])
    assert resumption.divide(3, 1, 2, is_stream=True) == Division(3, 2, 2, 4, streams=4)
    assert resumption.progress.batches == 4
    assert resumption.divide(3, 1, 3, is_stream=True) == Division(2, 2, 3, 4, streams=3)
    assert resumption.progress.batches == 0
    resumption.compare({DATA: ""})
    assert "epoch 1 starts again, after 2 of its batches: other parts of the stream" in resumption.lines()
