"""What a push takes of a folder, and what stays on this machine."""

import json
import subprocess
import sys

import pytest

from hf_encoders.commands import main as cli
from hf_encoders.hub.contents import repo_contents

PRIVATE = (
    "runs/events.out.tfevents.1", "wandb/run-1/output.log", "training_args.bin", "secrets.json", ".env", "optimizer.pt",
    "checkpoint-10/model.safetensors", "checkpoints/checkpoint-1/config.json", "logs/pretrain/events", "notes.txt",
    "debug.py", "photo.png", "__pycache__/modeling.pyc", "rng_state.pth",
)  # fmt: skip


@pytest.fixture
def saved(tmp_path, tiny_encoder):
    """A model, its card with a picture, and what trainers and people leave beside it."""
    folder = tmp_path / "saved"
    tiny_encoder.save_pretrained(folder)
    for name in PRIVATE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("private")
    (folder / "example.png").write_bytes(b"png")
    (folder / "README.md").write_text("# Mine\n\n![an example](example.png)\n")
    return folder


def test_only_a_model_repo_is_pushed(saved):
    contents = repo_contents(saved)
    expected = ["README.md", "config.json", "example.png", "model.safetensors", "preprocessor_config.json"]
    assert contents.files == expected
    assert contents.left_out == sorted(PRIVATE)
    line = contents.left_out_line()
    assert "secrets.json" in line and "runs/ (1 file)" in line


def test_patterns_include_more(saved):
    contents = repo_contents(saved, ["notes.txt", "logs/*"])
    assert {"notes.txt", "logs/pretrain/events"} <= set(contents.files)


def test_all_that_we_write_belongs_to_a_repo(tiny_multimodal, tmp_path):
    """A pushed and exported multimodal repo, with its code: nothing of it is left out."""
    from hf_encoders.hub.complete import complete_repo

    tiny_multimodal.save_pretrained(tmp_path)
    complete_repo(tmp_path, remote_code=True, name="org/x")
    for name in ("onnx/text_model.onnx", "onnx/text_model.onnx.data", "onnx/export_report.json", "onnx/export.json",
                 "openvino/openvino_depth_model.xml", "openvino/openvino_depth_model.bin", "openvino/export.json",
                 "openvino/export_report.json", "conversion_report.json", "preprocessor_config.json",
                 "metrics_rooms.json", "training_recipe.yaml", "LICENSE", "model-00001-of-00002.safetensors",
                 "model.safetensors.index.json", "1_Pooling/config.json"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert repo_contents(tmp_path).left_out == []


def test_the_command_pushes_the_list_and_prints_the_rest(saved, hub_client, capsys):
    cli.command(["push", str(saved), "org/listed", "--include", "notes.txt"])
    there = set(hub_client.list_repo_files("org/listed"))
    assert "notes.txt" in there and "example.png" in there and "modeling_depth_semantic_encoder.py" in there
    assert not there & (set(PRIVATE) - {"notes.txt"})
    printed = capsys.readouterr().out
    assert "secrets.json" in printed and "--include PATTERN pushes more" in printed


def test_a_dry_run_lists_and_pushes_nothing(saved, capsys):
    cli.command(["push", str(saved), "org/never", "--dry-run", "--format", "json"])
    listed = json.loads(capsys.readouterr().out)
    assert listed["files"]["model.safetensors"] == (saved / "model.safetensors").stat().st_size
    assert "secrets.json" in listed["left_out"] and "configuration_depth_semantic_encoder.py" in listed["files"]
    assert not (saved / "modeling_depth_semantic_encoder.py").exists()


def test_a_dry_run_needs_no_network(saved, tmp_path):
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "home"), "PATH": ""}
    words = [sys.executable, "-m", "hf_encoders.commands.main", "push", str(saved), "org/never", "--dry-run"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "would be pushed to org/never" in done.stdout
