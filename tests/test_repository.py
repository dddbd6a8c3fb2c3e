"""What stands beside the code agrees with it: workflows, Makefile, pins, citation, forms and the map of folders."""

import re
import shlex
import subprocess

import pytest
import yaml

from hf_encoders import __version__
from tests.conftest import ROOT, SAMPLES, SMALL_CHECKPOINT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(" ".join(re.findall(r"^([a-z0-9][a-z0-9 -]*):(?!=)", MAKEFILE, re.MULTILINE)).split())


def read_yaml(name):
    return yaml.safe_load((ROOT / name).read_text())


def lines_that_run(workflow):
    """The shell lines of all jobs, once for each entry that a job's matrix includes."""
    for job in read_yaml(workflow)["jobs"].values():
        for entry in job.get("strategy", {}).get("matrix", {}).get("include", [{}]):
            for step in job["steps"]:
                yield from filled(step.get("run", ""), entry).splitlines()


def filled(text, entry):
    return re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda name: entry[name[1]], text)


def made_by(lines):
    """The targets that lines give to make, also those that they leave out by -o."""
    for line in lines:
        if re.search(r"(^|\s)make\s", line):
            words = shlex.split(line, comments=True)
            yield from (word for word in words[words.index("make") + 1 :] if re.fullmatch(r"\w[\w-]*", word))


def shown_in(text, heading):
    """The code blocks of a Markdown section."""
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```\w*\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def folders_of_map(block):
    """The folders of a drawn tree, whose depth is their indentation by two spaces, as paths."""
    above = []
    for indentation, name in re.findall(r"^( *)([\w-]+)/ ", block, re.MULTILINE):
        above = [*above[: len(indentation) // 2], name]
        yield "/".join(above)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_calls_targets_that_the_makefile_has(workflow):
    called = set(made_by(lines_that_run(workflow)))
    assert called or workflow.name == "release.yml"
    assert called <= TARGETS


def test_ci_and_the_guides_name_targets_that_the_makefile_has():
    ci = set(made_by((ROOT / ".ci" / "run").read_text().splitlines()))
    guides = "".join((ROOT / name).read_text() for name in ("CONTRIBUTING.md", "RELEASE.md"))
    named = set(re.findall(r"^make ([a-z0-9-]+)|`make ([a-z0-9-]+)`", guides, re.MULTILINE))
    assert "test" in ci
    assert ci | {name for names in named for name in names if name} <= TARGETS


def test_make_alone_prints_a_line_for_every_target():
    printed = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    phony = " ".join(re.findall(r"^\.PHONY:(.*)", MAKEFILE, re.MULTILINE)).split()
    assert {"help", "test"} <= set(phony)
    assert set(re.findall(r"^make ([a-z0-9-]+) +\S", printed, re.MULTILINE)) == set(phony)


@pytest.mark.parametrize("tool", ["ruff", "codespell"])
def test_pre_commit_runs_the_version_that_the_constraints_pin(tool):
    revisions = {repo["repo"].rpartition("/")[2]: repo["rev"] for repo in read_yaml(".pre-commit-config.yaml")["repos"]}
    (pin,) = re.findall(rf"^{tool}==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert revisions[{"ruff": "ruff-pre-commit"}.get(tool, tool)] == f"v{pin}"


def test_the_citation_has_the_version_and_the_licence_of_the_package():
    citation = read_yaml("CITATION.cff")
    assert citation["version"] == __version__
    for field, name in (("license", "license"), ("repository-code", "Repository")):
        assert f'\n{name} = "{citation[field]}"\n' in (ROOT / "pyproject.toml").read_text()


def test_the_map_names_every_folder_of_the_package_and_none_that_is_not_there():
    tree, _ = shown_in(GUIDE, "Where things are")
    mapped = list(folders_of_map(tree))
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "hf_encoders").rglob("*")
        if path.is_dir() and path.name != "__pycache__" and any(entry.is_file() for entry in path.iterdir())
    }
    assert {path for path in mapped if path.startswith("hf_encoders/")} == package
    assert len(mapped) == len(set(mapped))
    assert [path for path in mapped if not (ROOT / path).is_dir()] == []


def test_the_arrows_of_the_map_go_between_all_folders_of_the_package():
    tree, arrows = shown_in(GUIDE, "Where things are")
    folders = {path.partition("/")[2] for path in folders_of_map(tree) if path.count("/") == 1}
    assert sorted(re.findall(r"\w+", arrows)) == sorted(folders)


def test_the_form_for_checkpoints_lists_names_and_shapes(tmp_path, monkeypatch, capsys):
    (tmp_path / "model.pth").symlink_to(SMALL_CHECKPOINT)
    monkeypatch.chdir(tmp_path)
    fields = {field.get("id"): field for field in read_yaml(".github/ISSUE_TEMPLATE/checkpoint.yml")["body"]}
    (code,) = re.findall(r"```python\n(.*?)```", fields["keys"]["attributes"]["description"], re.DOTALL)
    exec(code, {})
    printed = capsys.readouterr().out.splitlines()
    assert "/epoch int" in printed
    assert any(re.fullmatch(r"/model_state_dict/\S+ \(\d+, \d+, \d+, \d+\) torch\.float\d\d", line) for line in printed)


def test_the_vocabulary_of_the_samples_is_as_large_as_they_say():
    tokens = len((SAMPLES / "tokenizer" / "vocab.txt").read_text(encoding="utf-8").splitlines())
    assert f"a WordPiece vocabulary of {tokens} tokens" in (SAMPLES / "README.md").read_text(encoding="utf-8")
