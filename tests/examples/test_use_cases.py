"""The seven use cases, run as they are, and the table that lists all examples."""

import re
import runpy
import sys

import pytest

from tests.conftest import ROOT

EXAMPLES = ROOT / "examples"
SCRIPTS = [
    "feature_extractor",
    "frozen_backbone",
    "map_similarity",
    "numpy_pipeline",
    "save_and_load",
    "text_image_retrieval",
    "zero_shot",
]


@pytest.fixture(scope="module")
def output_folder(tmp_path_factory):
    """One for all: the depth encoder is converted once."""
    return tmp_path_factory.mktemp("demo-output")


@pytest.fixture
def run(output_folder, monkeypatch, capsys):
    def run(name):
        monkeypatch.setattr("bundled.OUTPUT", output_folder)
        monkeypatch.setattr(sys, "argv", [name])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def figures(pattern, output):
    """The numbers that the pattern's groups find, all matches in a row."""
    found = re.findall(pattern, output)
    return [float(number) for match in found for number in (match if isinstance(match, tuple) else (match,))]


def test_feature_extractor(run):
    output = run("feature_extractor")
    assert "one map: [1, 768]" in output
    assert "a column of 100 maps: [100, 768]" in output
    assert "8 files: [8, 768]" in output
    differences = figures(r"largest difference, .*: (\S+) of", output)
    assert len(differences) == 3
    assert max(differences) < 1e-5


def test_frozen_backbone(run):
    output = run("frozen_backbone")
    trained, total = figures(r"(\d+) of (\d+) parameters", output.replace(",", ""))
    assert trained < total / 50
    (right,) = figures(r"right on 200 test maps after 40 epochs: ([\d.]+)", output)
    frequent, chance = figures(r"most frequent: ([\d.]+), chance: ([\d.]+)", output)
    assert right > 0.65 > 0.3 > frequent > chance


def test_map_similarity(run):
    output = run("map_similarity")
    means = figures(r"mean of the same noun ([\d.]+), of different nouns ([\d.]+)", output)
    wins = figures(r"in (\d+)% of comparisons", output)
    assert means[0] > means[1] + 0.05
    assert means[2] > means[3] + 0.2
    assert 55 < wins[0] < wins[1]
    assert wins[1] > 75


def test_numpy_pipeline(run):
    output = run("numpy_pipeline")
    (difference,) = figures(r"encode_numpy: (\S+) off", output)
    assert difference < 1e-5
    assert "a second look at scene 50 (door) finds 50 (door)" in output
    first, three, chance = figures(r"nearest: ([\d.]+), among the nearest three: ([\d.]+) \(chance: ([\d.]+)\)", output)
    assert 1 >= three >= first > 0.8 > chance


def test_save_and_load(run):
    output = run("save_and_load")
    start, end = figures(r"loss ([\d.]+)", output)
    assert end < start
    (moved,) = figures(r"moved by ([\d.]+) of", output)
    assert moved > 0.05  # what is loaded is not simply what was there before
    (files,) = re.findall(r"^my-encoder: (.*)$", output, re.MULTILINE)
    assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= set(files.split(", "))
    assert "processor: range [0, 8] m, unit 0.001 m" in output
    differences = figures(r"differ by at most (\S+) of", output)
    assert len(differences) == 2
    assert max(differences) < 1e-5


def test_text_image_retrieval(run):
    output = run("text_image_retrieval")
    recall = {
        (source, target): float(value) for source, target, value in re.findall(r"(\w+) → (\w+) +([\d.]+)", output)
    }
    assert len(recall) == 5
    assert recall["text", "image"] > 0.85
    assert recall["image", "text"] > 0.75
    assert min(recall.values()) > 0.65
    assert "  a gray armchair" in output


def test_zero_shot(run):
    output = run("zero_shot")
    image, image_five, depth, depth_five = figures(r"by (?:image|depth) +([\d.]+) +([\d.]+)", output)
    frequent, frequent_five = figures(r"most frequent +([\d.]+) +([\d.]+)", output)
    assert min(image, depth) > 0.6 > 0.2 > frequent
    assert min(image_five, depth_five) > 0.9 > 0.4 > frequent_five


def test_the_usage_example_runs_the_seven_in_order(monkeypatch, capsys):
    import usage_example  # imports the scripts; what they do is tested above

    monkeypatch.setattr(usage_example, "hide_library_bars", lambda: None)  # for other tests' sake
    for script in usage_example.USE_CASES.values():
        monkeypatch.setattr(script, "main", lambda name=script.__name__: print(f"ran {name}"))
    usage_example.main()
    output = capsys.readouterr().out
    assert re.findall(r"^ran (\w+)", output, re.MULTILINE) == SCRIPTS
    assert re.findall(r"^(\d)\. .*\(examples/(\w+)\.py\)", output, re.MULTILINE) == [
        (str(number), name) for number, name in enumerate(SCRIPTS, 1)
    ]
    assert re.search(r"^7 use cases in \d+ seconds$", output, re.MULTILINE)


def test_the_table_names_every_script_and_no_other():
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert set(re.findall(r"\b\w+\.py\b", text)) == scripts
    runnable = scripts - {"bundled.py", "foreign.py"}  # which the others import
    assert set(re.findall(r"python examples/(\w+\.py)", text)) == runnable
