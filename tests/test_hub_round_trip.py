"""From legacy files to embeddings by way of the Hub, each step as a user would do it: a fresh process, empty caches."""

import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModel

from hf_encoders.hub.errors import LOG_IN
from tests.conftest import ROOT, SMALL_CHECKPOINT
from tests.helpers.hub.processes import COMMANDS, fresh
from tests.helpers.multimodal_files import write_multimodal
from tests.helpers.multimodal_models import SPECIAL, WORDS

DEPTH, MULTIMODAL = "org/depth-semantic-encoder", "org/multimodal-encoder"
# Embeds fixed inputs with each of the models named [key, name, revision], by the package or by the code in the repo.
EMBED = """
import json, sys

mode, output, sources = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
options = {}
if mode == "remote":
    sys.modules["hf_encoders"] = None  # any import of it fails
    options = {"trust_remote_code": True}
else:
    import hf_encoders

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoProcessor

generator = np.random.default_rng(0)
maps = [generator.random((40, 50)) * 1000 + 1 for _ in range(2)]
images = [generator.integers(255, size=(40, 50, 3), dtype=np.uint8) for _ in range(2)]
texts = ["a red chair", "a blue table"]
rows = {}
for key, name, revision in sources:
    model = AutoModel.from_pretrained(name, revision=revision, **options).eval()
    processor = AutoProcessor.from_pretrained(name, revision=revision, **options)
    assert type(model).__module__.startswith("transformers_modules." if mode == "remote" else "hf_encoders.")
    assert type(processor).__module__.startswith("transformers_modules." if mode == "remote" else "hf_encoders.")
    theirs = SentenceTransformer(name, revision=revision, **options).encode
    if hasattr(model, "encode_text"):
        encoded = [model.encode_text(texts), model.encode_image(images), model.encode_depth(maps)]
        with torch.no_grad():
            outputs = model(**processor(text=texts, images=images, depth=maps))
        processed = [outputs.text_embeds, outputs.image_embeds, outputs.depth_embeds]
        assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(encoded, processed)), key
        rows[key] = torch.cat(encoded).numpy()
        in_theirs = np.concatenate([theirs(texts), theirs([{"image": one} for one in images])])
        assert np.allclose(in_theirs, rows[key][:4], atol=1e-5), key
    else:
        rows[key] = model.encode(maps, convert_to="numpy")
        with torch.no_grad():
            processed = model(**processor(maps, return_tensors="pt")).pooler_output.numpy()
        assert np.allclose(processed, rows[key], atol=1e-4), key
        assert np.allclose(theirs([{"image": one} for one in maps]), rows[key], atol=1e-4), key
np.savez(output, **rows)
"""

NO_MODEL = "org/none: no such file or folder here, and no such model on the Hub, or none that you may see"


def python(hub, home, *words, **changes):
    return fresh(hub, home, sys.executable, *words, **changes)


def embedded(hub, home, mode, sources, **changes):
    """Key → rows, as a fresh process embeds them."""
    output = home.parent / f"{mode}.npz"
    done = python(hub, home, "-c", EMBED, mode, output, json.dumps(sources), **changes)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "[y/N]" not in done.stdout  # nobody is asked about remote code
    with np.load(output) as rows:
        return dict(rows)


def convert(hub, home, *words):
    done = python(hub, home, ROOT / "conversion" / "convert_ckpt.py", *words)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def pushed(hub, tmp_path_factory):
    """Both models, converted and pushed; the depth tower of the second comes from the Hub."""
    folder = tmp_path_factory.mktemp("pushed")
    checkpoint = write_multimodal(folder / "checkpoint.pt")
    (folder / "vocab.txt").write_text("\n".join(SPECIAL + WORDS))
    printed = [
        convert(hub, folder / "home", SMALL_CHECKPOINT, "--output", folder / "depth", "--push-to-hub", DEPTH),
        convert(
            hub, folder / "home", checkpoint, "--output", folder / "multimodal", "--push-to-hub", MULTIMODAL,
            *("--tokenizer", folder / "vocab.txt", "--depth-encoder", DEPTH, "--private"),
        ),
    ]  # fmt: skip
    return SimpleNamespace(folder=folder, printed=printed)


@pytest.fixture(scope="module")
def loaded(hub, pushed):
    """What a fresh process embeds with what the Hub has, and with the folders that were pushed."""
    sources = [
        *(("depth", DEPTH, None), ("multimodal", MULTIMODAL, None)),
        *(("depth folder", str(pushed.folder / "depth"), None), ("folder", str(pushed.folder / "multimodal"), None)),
    ]
    return embedded(hub, pushed.folder / "with-package", "package", sources)


def test_what_is_pushed_is_the_folder_and_the_code(hub, pushed):
    for name, folder, printed in zip((DEPTH, MULTIMODAL), ("depth", "multimodal"), pushed.printed, strict=True):
        repo = hub.repo("model", name)
        head = repo.commit_of("main")
        files = {path for path, entry in repo.entries(head).items() if entry.is_file}
        in_folder = {path.name for path in (pushed.folder / folder).iterdir()}
        code = {file for file in files if file.endswith(".py")}
        assert files == in_folder | code | {".gitattributes"} and len(code) > 10
        assert {"README.md", "conversion_report.json", "config.json", "model.safetensors"} < in_folder
        assert printed.endswith(f"pushed to {hub.endpoint}/{name}/commit/{head}\n")
        assert [one["title"] for one in repo.log(head)] == ["Upload model", "initial commit"]
        card = repo.read(repo.entries(head)["README.md"].oid).decode()
        assert f'from_pretrained("{name}")' in card and "Parity with the legacy network" in card
    assert hub.repo("model", MULTIMODAL).private and not hub.repo("model", DEPTH).private


def test_the_hub_gives_what_the_folder_gives(loaded):
    assert np.array_equal(loaded["depth"], loaded["depth folder"]) and loaded["depth"].shape == (2, 768)
    assert np.array_equal(loaded["multimodal"], loaded["folder"]) and len(loaded["folder"]) == 6
    assert np.linalg.norm(loaded["depth"][0] - loaded["depth"][1]) > 0.01


def test_without_the_package_the_code_in_the_repo_gives_the_same(hub, pushed, loaded, tmp_path):
    rows = embedded(hub, tmp_path / "home", "remote", [("depth", DEPTH, None), ("multimodal", MULTIMODAL, None)])
    for name, there in rows.items():
        assert np.abs(there - loaded[name]).max() <= 1e-5
    downloaded = {path.name for path in (tmp_path / "home" / "hub").rglob("snapshots/*/*")}
    assert "modeling_multimodal_encoder.py" in downloaded and "modeling_multimodal_encoder.py" in {
        path.name for path in (tmp_path / "home" / "modules").rglob("*.py")
    }


@pytest.mark.parametrize("name", [DEPTH, MULTIMODAL])
def test_the_line_of_the_card_prints_no_list_of_files_of_code(name, hub, pushed, tmp_path):
    """Without a revision, transformers warns of each file of a repo's code that is new to the machine."""
    card = hub.repo("model", name)
    text = card.read(card.entries(card.commit_of("main"))["README.md"].oid).decode()
    (line,) = re.findall(r"`(AutoModel\.from_pretrained\(.*trust_remote_code=True\))`", text)
    for number, call in enumerate((line, line.replace('revision="main", ', ""))):
        code = f"import sys; sys.modules['hf_encoders'] = None; from transformers import AutoModel; {call}.processor"
        done = python(hub, tmp_path / str(number), "-c", code)
        assert done.returncode == 0, done.stderr
        assert ("A new version of the following files" in done.stderr) == ("revision" not in call)


def test_offline_the_cache_is_enough(hub, pushed, loaded):
    before = len(hub.log)
    sources = [("depth", DEPTH, None), ("multimodal", MULTIMODAL, None)]
    rows = embedded(hub, pushed.folder / "with-package", "package", sources, HF_HUB_OFFLINE="1")
    assert len(hub.log) == before
    assert all(np.array_equal(rows[name], loaded[name]) for name in rows)


def test_revisions_and_shards(hub, hub_client, pushed, loaded, tmp_path):
    """A tag, a branch, a commit and a pull request, while the default branch goes on."""
    first = hub_client.model_info(DEPTH).sha
    model = AutoModel.from_pretrained(pushed.folder / "depth")
    with torch.no_grad():
        model.fc[-1].bias.add_(1)
    hub_client.create_tag(DEPTH, tag="v1")
    model.push_to_hub(DEPTH, max_shard_size="2MB")  # other weights, in shards
    model.processor.invalid_values = []
    model.push_to_hub(DEPTH, revision="heights")
    with torch.no_grad():
        model.fc[-1].bias.add_(1)
    proposed = model.push_to_hub(DEPTH, create_pr=True)
    assert proposed.pr_num == 1
    assert any("-of-" in file for file in hub_client.list_repo_files(DEPTH))
    revisions = {"v1": 0, first: 0, "main": 1, "heights": 1, "refs/pr/1": 2}
    rows = embedded(hub, tmp_path / "home", "package", [(name, DEPTH, name) for name in revisions])
    for name, added in revisions.items():
        assert np.allclose(rows[name], loaded["depth"] + added, atol=1e-4), name  # their length is some hundred


def test_a_refusal_takes_one_line_and_says_what_to_do(hub, pushed, tmp_path):
    embed = ["encode", "--output", str(tmp_path / "rows.npz")]
    maps = str(ROOT / "tests" / "data")
    push = ["convert", str(SMALL_CHECKPOINT), "--no-verify", "--overwrite", "--output", str(tmp_path / "repo")]
    verify = ["convert", "--verify"]
    cases = [
        (hub.token, [*embed, "org/none", maps], NO_MODEL),
        ("hf_wrong", [*embed, DEPTH, maps], "Invalid credentials in Authorization header"),
        (hub.token, [*verify, "org/none"], NO_MODEL),
        ("hf_wrong", [*push, "--push-to-hub", "org/mine"], "log in with 'hf auth login', or set HF_TOKEN"),
        (hub.token, [*push, "--push-to-hub", "stranger/mine"], "use a token that may write there, or another name"),
        (hub.token, [*push, "--push-to-hub", DEPTH, "--private"], "it is there already and public"),
    ]  # fmt: skip
    words = json.dumps([(token, *words) for token, words, _ in cases])
    done = python(hub, tmp_path / "home", "-c", COMMANDS, words)
    assert [line for line in done.stdout.splitlines() if line.isdigit()] == ["2"] * len(cases), done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    for error, (token, _, reason) in zip(errors, cases, strict=True):
        assert reason in error
        assert (LOG_IN in error) == (token == "hf_wrong")
    # What could not be pushed is there, and can be pushed later.
    assert f"the model is in {tmp_path / 'repo'}, push it with: hf-encoders push" in errors[3]
    assert (tmp_path / "repo" / "model.safetensors").is_file()
    assert not hub.has_repo("model", "org/mine")
