"""An id is asked for once on the Hub: the answer is there in seconds, whether the Hub has it or is out of reach."""

import os
import subprocess
import sys
import threading

import pytest
from datasets import Dataset, config
from huggingface_hub import HfApi, constants

from hf_encoders import load_encoder, places
from hf_encoders.conversion.convert import convert
from hf_encoders.conversion.encoders.conversion import InputOptions
from hf_encoders.conversion.families.family import EncoderOptions
from hf_encoders.conversion.read_repo import repo_folder
from hf_encoders.data.location import locate
from hf_encoders.data.source import open_source
from hf_encoders.places import NoSuchPlaceError, check_on_hub, check_places, near_names
from hf_encoders.training import pretrain
from tests.conftest import ROOT, SAMPLES, SMALL_CHECKPOINT
from tests.helpers.any_encoders import save_encoder

NOWHERE = "http://127.0.0.1:9"  # the port of no server
BUNDLED = str(SAMPLES / "multimodal-rooms")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "chairs").mkdir()
    (tmp_path / "photos" / "chairs" / "0.png").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(places, "_FOUND", set())


@pytest.fixture
def out_of_reach(hub_client, monkeypatch):
    """The Hub is at an address where nobody answers; fails if it is asked more than once."""
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    asked = []
    ask = HfApi.repo_info

    def counted(self, name, **options):
        assert name not in asked, "asked again"
        asked.append(name)
        return ask(self, name, **options)

    monkeypatch.setattr(HfApi, "repo_info", counted)
    return asked


@pytest.mark.parametrize(("kind", "noun"), [("model", "model"), ("dataset", "data set")])
def test_an_id_is_asked_for_once(kind, noun, hub, hub_client):
    hub_client.create_repo(f"org/asked-{kind}", repo_type=kind)
    before = len(hub.log)
    for _ in range(2):
        check_on_hub(f"org/asked-{kind}", kind)
    assert len(hub.log) == before + 1
    with pytest.raises(NoSuchPlaceError) as caught:
        check_on_hub(f"org/none-{kind}", kind)
    assert str(caught.value).startswith(f"org/none-{kind}: no such file or folder here, and no such {noun} on the Hub")
    assert len(hub.log) == before + 2 and isinstance(caught.value, OSError)


def test_other_troubles_are_left_to_the_libraries_which_ask_again(hub, hub_client):
    check_on_hub("of-no-organization")  # our Hub has no such address, and says no more than 404
    hub_client.create_repo("org/dropped")
    hub.drop("GET", "org/dropped")
    check_on_hub("org/dropped")
    hub.forget_drops()


def test_no_name_resolved_ends_after_the_patience_of_the_hub(hub_client, monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(HfApi, "repo_info", lambda self, name, **options: never.wait())
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.1)
    with pytest.raises(NoSuchPlaceError, match=r"the Hub could not be reached \(no answer within 0.1 s\)"):
        check_on_hub("org/none")
    never.set()


def test_nobody_answers(out_of_reach):
    with pytest.raises(NoSuchPlaceError, match=r"^photos2: no such file or folder here, and the Hub could not be") as e:
        check_on_hub("photos2", "dataset")
    assert e.value.hint == "did you mean ./photos?" and out_of_reach == ["photos2"]
    with pytest.raises(NoSuchPlaceError, match="^a--b: no such file or folder$"):
        check_on_hub("a--b")  # no name of a repo


def test_offline_the_cache_is_all(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "prepared"))
    for kind in ("model", "dataset"):
        with pytest.raises(NoSuchPlaceError, match="in the cache of the Hub, which is all that HF_HUB_OFFLINE allows"):
            check_on_hub("Org/MyData", kind)
    (tmp_path / "prepared" / "Org___my_data").mkdir(parents=True)
    check_on_hub("Org/MyData", "dataset")
    (tmp_path / "cache" / "models--Org--MyData" / "snapshots" / "0").mkdir(parents=True)
    check_on_hub("Org/MyData")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "0")  # as `datasets` reads it
    monkeypatch.setattr(places, "_ask_hub", lambda name, kind, seconds: None)
    check_on_hub("org/other", "dataset")


def test_what_is_cached_works_on_without_a_network(hub, hub_client, tmp_path, monkeypatch):
    save_encoder("bert", tmp_path / "bert")
    hub_client.create_repo("org/kept")
    hub_client.upload_folder(repo_id="org/kept", folder_path=tmp_path / "bert")
    hub_client.create_repo("org/rows", repo_type="dataset")
    Dataset.from_dict({"text": ["a chair"]}).to_parquet(tmp_path / "rows.parquet")
    rows = {"path_or_fileobj": tmp_path / "rows.parquet", "path_in_repo": "train.parquet"}
    hub_client.upload_file(**rows, repo_id="org/rows", repo_type="dataset")
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "prepared")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "prepared"))
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
    for endpoint in (hub.endpoint, NOWHERE):
        monkeypatch.setattr(config, "HF_ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        address = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr("transformers.utils.hub._hf_api", None)
        monkeypatch.setattr(places, "_FOUND", set())
        assert load_encoder("org/kept").encode_text("a chair").shape == (1, 32)
        assert open_source("org/rows", "text").dataset["text"][:] == ["a chair"]


def test_what_python_asks_for_is_looked_for_too(out_of_reach, tmp_path):
    save_encoder("bert", tmp_path / "bert")
    heads = EncoderOptions(attention_heads=(2,))
    weights = tmp_path / "bert" / "model.safetensors"
    for number, call in enumerate(
        [
            lambda name: load_encoder(name),
            lambda name: load_encoder(f"photos/{name}"),
            lambda name: load_encoder(tmp_path / "bert", tokenizer=name),
            lambda name: locate(name),
            lambda name: repo_folder(name),
            lambda name: convert(weights, tmp_path / name, encoder=heads, inputs=InputOptions(tokenizer=name)),
            lambda name: pretrain.command(["lit", "--dataset", name]),
            lambda name: pretrain.command(["lit", "--dataset", "photos", "--init_from", name]),
        ]
    ):
        with pytest.raises(NoSuchPlaceError, match="no such file or folder here, and the Hub could not be reached"):
            call(f"chair{number}")
    with pytest.raises(NoSuchPlaceError, match=r"did you mean photos/chairs\?"):
        load_encoder("photos/chair")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["search", BUNDLED, "photos2", "a chair"], "photos2: no such file or folder here, and the Hub could not"),
        (["search", "models", "photos", "a chair"], "models: no such file or folder here, and the Hub could not"),
        (["embed", BUNDLED, "photos2", "--output", "out"], "photos2: no such file or folder here"),
        (["evaluate", BUNDLED, "photos", "--train-dataset", "photos2"], "photos2: no such file or folder here"),
        (["export", BUNDLED, "--to", "onnx", "--int8", "--calibration", "photos2"], "photos2: no such file or folder"),
        (["encode", BUNDLED, "photos", "--tokenizer", "nope"], "nope: no such file or folder here"),
        (["convert", str(SMALL_CHECKPOINT), "--tokenizer", "nope"], "nope: no such file or folder here"),
        (["verify", "nope"], "nope: no such file or folder here"),
        (["export-legacy", "nope", "out.pth"], "nope: no such file or folder here"),
        (["train", "lit", "--dataset", "photos2"], "photos2: no such file or folder here"),
    ],
)
def test_commands_answer_before_torch_is_there(words, says, tmp_path):
    """A second try would wait a second and more; the modules that a call imported are what it had to wait for."""
    code = "import sys; from hf_encoders.commands.main import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_ENDPOINT": NOWHERE, "HF_HOME": str(tmp_path / "home")}
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        environment.pop(name, None)
    done = subprocess.run([sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "False\n", 1), done.stderr
    assert done.stderr.startswith(f"error: {says}")
    assert ("did you mean ./photos?" in done.stderr) == ("photos2" in words)


def test_near_names(tmp_path):
    (tmp_path / "Rooms").mkdir()
    (tmp_path / ".hidden").touch()
    for name in ("rows.csv", "best.pth", "best.txt"):
        (tmp_path / name).touch()
    for number in range(5):
        (tmp_path / "Rooms" / f"{number}.png").touch()
    assert near_names("rooms") == "did you mean ./Rooms?"
    assert near_names("./photo/chair") == "did you mean ./photos/chairs?"
    assert near_names(f"{tmp_path}/photo") == f"did you mean {tmp_path}/photos?"
    assert near_names("best.pt") == "did you mean ./best.pth or ./best.txt?"
    for name in ("hidden", "cols.csv", "Rooms/7.png", "else", "", "/", "photos/else", "no/such/place"):
        assert near_names(name) == ""
    assert near_names(".hidde") == "did you mean ./.hidden?"
    check_places(None, 1, "photos", tmp_path)
