"""Pushing a run's result: in one commit or not at all, over connections that break, with errors that say what to do."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError

import publishing

WEIGHTS = bytes(range(256)) * 1000
CLIENT_TRIES = 6  # of one upload, by huggingface_hub itself


@pytest.fixture
def run_folder(tmp_path):
    """What a run leaves behind, as far as a push cares."""
    folder = tmp_path / "my run"
    for path, content in {
        "config.json": b"{}",
        "model.safetensors": WEIGHTS,
        "checkpoints/checkpoint-1/model.safetensors": b"state",
        "logs/pretrain/events": b"log",
        ".model.partial/config.json": b"half",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def files_of(hub_client, name):
    return set(hub_client.list_repo_files(name)) - {".gitattributes"}


def test_a_push_leaves_out_what_is_no_repo(hub_client, run_folder):
    address = publishing.push(run_folder, "org/whole")
    assert files_of(hub_client, "org/whole") == {"config.json", "model.safetensors"}
    assert hub_client.model_info("org/whole").sha in address


def test_an_upload_that_breaks_once_is_sent_again(hub_client, run_folder, hub):
    hub.drop("PUT", "/_lfs/", after=100_000)
    before = len(hub.requests("PUT"))
    (run_folder / "model.safetensors").write_bytes(b"once" + WEIGHTS)
    publishing.push(run_folder, "org/once")
    assert [exchange.status for exchange in hub.requests("PUT")[before:]] == [0, 200]
    assert files_of(hub_client, "org/once") == {"config.json", "model.safetensors"}


@pytest.mark.parametrize("where", [("PUT", "/_lfs/"), ("POST", "/commit/")], ids=["blob", "commit"])
def test_a_push_that_broke_is_not_seen_and_a_second_one_completes_it(hub_client, run_folder, hub, tmp_path, where):
    name = f"org/broken-{where[0].lower()}"
    weights = where[0].encode() + WEIGHTS  # which this Hub has not seen yet
    (run_folder / "model.safetensors").write_bytes(weights)
    hub.drop(*where, after=100, times=CLIENT_TRIES)
    with pytest.raises(ValueError, match=rf"^{name}: not pushed \(.+\); the model is in .*my run, push it with: hf"):
        publishing.push(run_folder, name)
    assert files_of(hub_client, name) == set()
    arrived = [exchange for exchange in hub.requests("PUT") if exchange.status]
    hub.forget_drops()
    publishing.push(run_folder, name)
    sent_again = [exchange for exchange in hub.requests("PUT") if exchange.status][len(arrived) :]
    assert len(sent_again) == (1 if where[0] == "PUT" else 0)
    folder = snapshot_download(name, cache_dir=tmp_path / "cache")
    assert Path(folder, "model.safetensors").read_bytes() == weights
    assert len(hub_client.list_repo_commits(name)) == 2  # the first one is empty


def test_a_download_that_breaks_goes_on_where_it_was(hub_client, run_folder, hub, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)  # what is kept of it is whole chunks
    publishing.push(run_folder, "org/resumed")
    for after in (100_000, 50_000):
        hub.drop("GET", "model.safetensors", after=after)
    folder = snapshot_download("org/resumed", cache_dir=tmp_path / "cache")
    assert Path(folder, "model.safetensors").read_bytes() == WEIGHTS
    downloads = hub.requests("GET", "model.safetensors")[-3:]
    assert [(exchange.status, exchange.sent) for exchange in downloads] == [
        (200, 100_000), (206, 50_000), (206, len(WEIGHTS) - 150_000)
    ]  # fmt: skip


def test_a_download_that_broke_for_good_is_completed_by_the_next(hub_client, run_folder, hub, tmp_path):
    publishing.push(run_folder, "org/later")
    hub.drop("GET", "model.safetensors", times=CLIENT_TRIES)
    with pytest.raises(Exception, match="peer closed connection|disconnected"):
        snapshot_download("org/later", cache_dir=tmp_path / "cache")
    hub.forget_drops()
    folder = snapshot_download("org/later", cache_dir=tmp_path / "cache")
    assert Path(folder, "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("token", "name", "reason"),
    [
        ("hf_wrong", "org/mine", "Invalid credentials in Authorization header; log in with 'hf auth login', or set"),
        ("hf_test", "stranger/model", 'namespace "stranger"; use a token that may write there, or another name'),
        ("hf_test", "not/a/name", "Repo id must be in the form"),
    ],
    ids=["token", "namespace", "name"],
)
def test_a_refused_push_says_why_and_how_to_push_again(hub_client, run_folder, monkeypatch, token, name, reason):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ValueError) as refused:
        publishing.push(run_folder, name)
    message = str(refused.value)
    assert message.startswith(f"{name}: not pushed (") and reason in message and "\n" not in message
    assert (run_folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_hub_that_is_not_there_is_said_to_be_so(hub_client, run_folder, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(ValueError, match=r"org/far: not pushed \(.*Connection refused.*\); the model is in"):
        publishing.push(run_folder, "org/far")


def test_the_command_of_the_message_pushes_the_same(hub_client, run_folder, hub, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ValueError) as refused:
        publishing.push(run_folder, "org/again")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    with pytest.raises(RepositoryNotFoundError):
        hub_client.model_info("org/again")
    program, *words = shlex.split(re.search("push it with: (.*)", str(refused.value))[1])
    command = [str(Path(sys.executable).with_name(program)), *words]
    subprocess.run(command, env=hub.environment(tmp_path / "home"), check=True, capture_output=True)
    assert files_of(hub_client, "org/again") == {"config.json", "model.safetensors"}
