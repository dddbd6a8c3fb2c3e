"""Pushing a folder: in one commit or not at all, over connections that break, with errors that say what to do."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard, constants, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError
from transformers import AutoModel

from hf_encoders.command_line import describe
from hf_encoders.commands.main import command
from hf_encoders.hub.model_card import write_card
from hf_encoders.hub.push import Destination, PushError, push, push_model

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


@pytest.fixture
def saved(tmp_path, tiny_encoder):
    """A folder of a model."""
    tiny_encoder.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def files_of(hub_client, name):
    return set(hub_client.list_repo_files(name)) - {".gitattributes"}


def test_a_push_leaves_out_what_is_no_repo(hub_client, run_folder):
    address = push(run_folder, Destination("org/whole"))
    assert files_of(hub_client, "org/whole") == {"config.json", "model.safetensors"}
    assert hub_client.model_info("org/whole").sha in address


def test_an_upload_that_breaks_once_is_sent_again(hub_client, run_folder, hub):
    hub.drop("PUT", "/_lfs/", after=100_000)
    before = len(hub.requests("PUT"))
    (run_folder / "model.safetensors").write_bytes(b"once" + WEIGHTS)
    push(run_folder, Destination("org/once"))
    assert [exchange.status for exchange in hub.requests("PUT")[before:]] == [0, 200]
    assert files_of(hub_client, "org/once") == {"config.json", "model.safetensors"}


@pytest.mark.parametrize("where", [("PUT", "/_lfs/"), ("POST", "/commit/")], ids=["blob", "commit"])
def test_a_push_that_broke_is_not_seen_and_a_second_one_completes_it(hub_client, run_folder, hub, tmp_path, where):
    name = f"org/broken-{where[0].lower()}"
    weights = where[0].encode() + WEIGHTS  # which this Hub has not seen yet
    (run_folder / "model.safetensors").write_bytes(weights)
    hub.drop(*where, after=100, times=CLIENT_TRIES)
    with pytest.raises(PushError, match=rf"^{name}: not pushed \(.+\); the model is in .*my run, push it with: hf-enc"):
        push(run_folder, Destination(name))
    assert files_of(hub_client, name) == set()
    arrived = [exchange for exchange in hub.requests("PUT") if exchange.status]
    hub.forget_drops()
    push(run_folder, Destination(name))
    sent_again = [exchange for exchange in hub.requests("PUT") if exchange.status][len(arrived) :]
    assert len(sent_again) == (1 if where[0] == "PUT" else 0)
    folder = snapshot_download(name, cache_dir=tmp_path / "cache")
    assert Path(folder, "model.safetensors").read_bytes() == weights
    assert len(hub_client.list_repo_commits(name)) == 2  # the first one is empty


def test_a_download_that_breaks_goes_on_where_it_was(hub_client, run_folder, hub, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)  # what is kept of it is whole chunks
    push(run_folder, Destination("org/resumed"))
    for after in (100_000, 50_000):
        hub.drop("GET", "model.safetensors", after=after)
    folder = snapshot_download("org/resumed", cache_dir=tmp_path / "cache")
    assert Path(folder, "model.safetensors").read_bytes() == WEIGHTS
    downloads = hub.requests("GET", "model.safetensors")[-3:]
    assert [(exchange.status, exchange.sent) for exchange in downloads] == [
        (200, 100_000), (206, 50_000), (206, len(WEIGHTS) - 150_000)
    ]  # fmt: skip


def test_a_download_that_broke_for_good_is_completed_by_the_next(hub_client, run_folder, hub, tmp_path):
    push(run_folder, Destination("org/later"))
    hub.drop("GET", "model.safetensors", times=CLIENT_TRIES)
    with pytest.raises(Exception, match="peer closed connection|disconnected"):
        snapshot_download("org/later", cache_dir=tmp_path / "cache")
    hub.forget_drops()
    folder = snapshot_download("org/later", cache_dir=tmp_path / "cache")
    assert Path(folder, "model.safetensors").read_bytes() == WEIGHTS


def test_a_command_says_that_the_connection_broke(hub_client, saved, hub):
    """transformers says that there is no such file."""
    push_model(saved, Destination("org/cut"))
    hub.drop("GET", "model.safetensors", after=1000, times=CLIENT_TRIES)
    with pytest.raises(OSError) as broken:
        AutoModel.from_pretrained("org/cut")
    assert "the connection broke (peer closed connection" in describe(broken.value)
    hub.forget_drops()
    AutoModel.from_pretrained("org/cut")


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
    with pytest.raises(PushError) as refused:
        push(run_folder, Destination(name))
    message = str(refused.value)
    assert message.startswith(f"{name}: not pushed (") and reason in message and "\n" not in message
    assert (run_folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_hub_that_is_not_there_is_said_to_be_so(hub_client, run_folder, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(PushError, match=r"org/far: not pushed \(.*Connection refused.*\); the model is in"):
        push(run_folder, Destination("org/far"))


def test_the_command_of_the_message_pushes_it(hub_client, saved, hub, monkeypatch, capsys):
    (saved / "logs").mkdir()
    (saved / "logs" / "events").touch()
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(PushError) as refused:
        push(saved, Destination("org/again", private=True))
    monkeypatch.setenv("HF_TOKEN", hub.token)
    with pytest.raises(RepositoryNotFoundError):
        hub_client.model_info("org/again")
    program, *words = shlex.split(re.search("push it with: (.*)", str(refused.value))[1])
    assert program == "hf-encoders" and words[-1] == "--private"
    command(words)
    info = hub_client.model_info("org/again")
    assert info.private and capsys.readouterr().out.splitlines() == [
        "left out: logs/ (1 file); --include PATTERN pushes more",
        f"pushed to {hub.endpoint}/org/again/commit/{info.sha}",
    ]
    files = files_of(hub_client, "org/again")
    assert files > {path.name for path in saved.iterdir() if path.is_file()} and "logs/events" not in files
    assert {"README.md", "modeling_depth_semantic_encoder.py", "modules.json"} <= files


def test_a_second_push_sends_and_commits_nothing(hub_client, saved, hub):
    first = push_model(saved, Destination("org/twice"))
    before = len(hub.requests("PUT"))
    assert push_model(saved, Destination("org/twice")) == first
    assert len(hub.requests("PUT")) == before and len(hub_client.list_repo_commits("org/twice")) == 2


def test_a_branch_is_made_and_a_pull_request_changes_nothing_yet(hub_client, run_folder):
    name = "org/branches"
    push(run_folder, Destination(name))
    (run_folder / "config.json").write_text('{"next": 1}')
    push(run_folder, Destination(name, revision="next"))
    (run_folder / "config.json").write_text('{"proposed": 1}')
    address = push(run_folder, Destination(name, create_pr=True))
    assert address.endswith("/org/branches/discussions/1")
    found = {
        revision: Path(hub_client.hf_hub_download(name, "config.json", revision=revision)).read_text()
        for revision in ("main", "next", "refs/pr/1")
    }
    assert found == {"main": "{}", "next": '{"next": 1}', "refs/pr/1": '{"proposed": 1}'}


def test_what_is_public_does_not_become_private_unnoticed(hub_client, run_folder):
    push(run_folder, Destination("tester/open"))
    with pytest.raises(PushError, match=r"tester/open: not pushed \(it is there already and public"):
        push(run_folder, Destination("tester/open", private=True))
    push(run_folder, Destination("tester/closed", private=True))
    push(run_folder, Destination("tester/closed", private=True))
    assert hub_client.model_info("tester/closed").private


def test_other_weights_take_the_place_of_those_that_were_there(hub_client, tiny_encoder):
    """transformers loads `model.safetensors` where there are shards beside it."""
    name = "org/replaced"
    tiny_encoder.push_to_hub(name)
    described = {"metrics_test.json": b"{}", "figures/confusion-x.png": b"png", "figures/retrieval-x.json": b"{}"}
    others = {**described, "onnx/model.onnx": b"theirs", "notes.md": b"theirs"}
    for path, content in others.items():
        hub_client.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=name)
    with torch.no_grad():
        tiny_encoder.fc[-1].bias.add_(1)
    tiny_encoder.push_to_hub(name, max_shard_size="20KB")
    files = files_of(hub_client, name)
    assert "model.safetensors.index.json" in files and "model-00001-of-00002.safetensors" in files
    assert not {"model.safetensors", *described} & files and {"onnx/model.onnx", "notes.md"} <= files
    loaded = AutoModel.from_pretrained(name)
    assert torch.equal(loaded.fc[-1].bias, tiny_encoder.fc[-1].bias)
    tiny_encoder.push_to_hub(name)
    assert not any("index" in file or "-of-" in file for file in files_of(hub_client, name))


def test_saving_with_a_push_is_the_same_commit(hub_client, tiny_encoder, tmp_path):
    tiny_encoder.save_pretrained(tmp_path / "saved", push_to_hub=True, repo_id="org/saved", commit_message="By saving")
    files = files_of(hub_client, "org/saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == files
    assert {"README.md", "model.safetensors", "preprocessor_config.json", "modeling_depth_semantic_encoder.py"} <= files
    assert [entry.title for entry in hub_client.list_repo_commits("org/saved")] == ["By saving", "initial commit"]


def test_a_broken_network_is_no_bad_value(hub_client, run_folder, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(OSError) as far:
        push(run_folder, Destination("org/far"))
    assert not isinstance(far.value, ValueError) and describe(far.value).startswith("org/far: not pushed (")


@pytest.fixture
def edited_on_the_hub(hub_client, saved):
    """A name under which the card has a person's paragraph and license."""
    push_model(saved, Destination("org/edited"))
    card = ModelCard.load("org/edited")
    card.text += "\nBy me, on the Hub.\n"
    card.data.license = "mit"
    hub_client.upload_file(path_or_fileobj=str(card).encode(), path_in_repo="README.md", repo_id="org/edited")
    return "org/edited"


def test_what_a_person_wrote_on_the_hub_stays(edited_on_the_hub, saved):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    write_card(saved)
    push_model(saved, Destination(edited_on_the_hub))
    card = ModelCard.load(edited_on_the_hub)
    assert "By me, on the Hub." in card.text and card.text.count("## Use") == 1 and card.data.license == "mit"
    (saved / "README.md").unlink()
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_what_a_person_wrote_in_both_places_is_not_lost(edited_on_the_hub, saved):
    here = write_card(saved, license="apache-2.0")
    here.write_text(here.read_text() + "\nBy me, here.\n")
    with pytest.raises(PushError, match=r"were both edited; 'By me, on the Hub\.' is only there: put it in here too"):
        push_model(saved, Destination(edited_on_the_hub))
    here.write_text(here.read_text() + "\nBy me, on the Hub.\n")
    push_model(saved, Destination(edited_on_the_hub))
    card = ModelCard.load(edited_on_the_hub)
    assert "By me, here." in card.text and "By me, on the Hub." in card.text and card.data.license == "apache-2.0"


def test_what_is_no_model_is_named_and_not_pushed(hub_client, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/none"):
        push_model(tmp_path / "none", Destination("org/nothing"))
    with pytest.raises(
        ValueError, match=f"^{tmp_path}/empty: no repo of a model: config.json cannot be read .No such file"
    ):
        push_model(tmp_path / "empty", Destination("org/nothing"))
    assert not hub_client.repo_exists("org/nothing")
