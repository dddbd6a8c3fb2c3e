"""`hf-encoders search` of embeddings that were written before: nothing is embedded again but the queries."""

import json

import PIL.Image
import pytest

from hf_encoders.command_line import run
from hf_encoders.commands import main as cli
from hf_encoders.search import EmbeddingIndex
from tests.helpers.multimodal_models import tiny_model


def command(capsys, *words):
    """A command's records, and its notes."""
    capsys.readouterr()
    cli.command([*map(str, words), "--format", "json"])
    captured = capsys.readouterr()
    return [json.loads(line) for line in captured.out.splitlines()], captured.err


def failure(capsys, *words):
    """The one line that a command ends in."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(lambda: cli.command(list(map(str, words))))
    captured = capsys.readouterr()
    assert stop.value.code == 2 and captured.err.count("\n") == 1 and not captured.out
    return captured.err


def ranks(found, with_rows):
    """Captions of few known words are as near as each other, so of texts the scores alone are compared."""
    rows = [record["index"] if with_rows else None for record in found]
    scores = [pytest.approx(record["score"], abs=1e-5) for record in found]
    return list(zip([record["query"] for record in found], rows, scores, strict=True))


def refuse_to_embed(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("embedded again")

    monkeypatch.setattr(EmbeddingIndex, "from_dataset", refuse)


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("photos", []),
        ("parquet", ["--modality", "image"]),
        ("parquet", ["--modality", "depth"]),
        ("parquet", ["--modality", "text", "--column", "caption"]),
    ],
)
@pytest.mark.parametrize("how", ["embed", "lance", "index"])
def test_what_was_embedded_gives_the_same_hits(
    source, options, how, repo, photos, parquet, tmp_path, capsys, monkeypatch
):
    saved = tmp_path / ("saved.lance" if how == "lance" else "saved")
    data, texts = {"photos": str(photos), "parquet": parquet}[source], "text" in options
    queries = ["a red lamp", "the blue chair", "-k", "4"]
    if how != "index":
        cli.command(["embed", repo, data, *options, "--output", str(saved), "--shard-rows", "4"])
        expected, _ = command(capsys, "search", repo, data, *queries, *options)
    else:
        expected, notes = command(capsys, "search", repo, data, *queries, *options, "--save-index", saved)
        assert f"index of 6 rows → {saved}" in notes
    refuse_to_embed(monkeypatch)
    found, notes = command(capsys, "search", repo, saved, *queries)
    assert ranks(found, not texts) == ranks(expected, not texts) and not notes
    if texts:
        return
    if how == "index":
        assert [record["row"] for record in found] == [record["row"] for record in expected]
    elif source == "parquet":
        kept = [record["row"]["noun"] for record in found]
        assert kept == [record["row"]["noun"] for record in expected]
    cli.command(["search", repo, str(saved), *queries])
    assert len(capsys.readouterr().out.splitlines()) == 10


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("photos", []),
        ("parquet", ["--modality", "image"]),
        ("parquet", ["--modality", "depth"]),
        ("parquet", ["--modality", "image", "--id-column", "name", "--columns"]),
    ],
)
@pytest.mark.parametrize("how", ["embed", "lance", "index"])
def test_the_pictures_that_were_embedded_are_drawn(source, options, how, repo, photos, parquet, tmp_path, capsys):
    saved = tmp_path / ("saved.lance" if how == "lance" else "saved")
    data = {"photos": str(photos), "parquet": parquet}[source]
    words = options[:2]  # of a search
    query = str(photos / "3.png")
    search = ["search", repo, data, query, "--by", "image", *words, "--output", str(tmp_path / "one.png")]
    if how != "index":
        cli.command(["embed", repo, data, *options, "--output", str(saved)])
    else:
        search += ["--save-index", str(saved)]
    cli.command(search)
    again = ["search", repo, str(saved), query, "--by", "image", "--output", str(tmp_path / "two.png")]
    cli.command(again)
    with PIL.Image.open(tmp_path / "one.png") as one, PIL.Image.open(tmp_path / "two.png") as two:
        assert one.size == two.size
        # Captions differ: a folder of embeddings keeps other columns. The pictures are the same.
        tiles = [(24 + 208 * column, 60, 24 + 208 * column + 190, 60 + 188) for column in range(5)]
        for tile in tiles:
            assert one.crop(tile).tobytes() == two.crop(tile).tobytes()


def test_pictures_that_are_not_there_any_more_are_said(repo, photos, parquet, objects_test, tmp_path, capsys):
    output = ["--output", str(tmp_path / "found.png")]
    of_files, of_rows, of_texts = (str(tmp_path / name) for name in ("files", "rows", "texts"))
    cli.command(["embed", repo, str(photos), "--output", of_files])
    cli.command(["embed", repo, parquet, "--modality", "image", "--output", of_rows])
    cli.command(["embed", repo, parquet, "--modality", "text", "--column", "noun", "--output", of_texts])
    assert "shows images or depth maps" in failure(capsys, "search", repo, of_texts, "a lamp", *output)
    (tmp_path / "photos" / "3.png").unlink()
    assert "3.png: no such file any more" in failure(capsys, "search", repo, of_files, "a lamp", "-k", "6", *output)
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    assert "the pictures that it was made from cannot be opened" in failure(
        capsys, "search", repo, of_files, "a lamp", *output
    )
    objects_test.select(range(5)).to_parquet(parquet)
    assert "has other rows than those that were embedded; write .jsonl" in failure(
        capsys, "search", repo, of_rows, "a lamp", *output
    )
    assert not (tmp_path / "found.png").exists()
    found, _ = command(capsys, "search", repo, of_files, "a lamp", "-k", "6")
    assert sorted(record["row"]["id"] for record in found)[0] == "0.jpg"


def test_ids_that_come_twice_tell_no_picture(repo, objects_test, tmp_path, capsys):
    parquet, saved = str(tmp_path / "objects.parquet"), str(tmp_path / "saved")
    objects_test.select(range(3)).add_column("name", ["a", "b", "a"]).to_parquet(parquet)
    cli.command(["embed", repo, parquet, "--modality", "image", "--id-column", "name", "--output", saved])
    error = failure(capsys, "search", repo, saved, "a lamp", "--output", tmp_path / "found.png")
    assert "several rows have the name 'a'" in error


def test_an_index_without_rows_or_pictures_draws_none(repo, tiny_multimodal, tmp_path, capsys):
    index = EmbeddingIndex(tiny_multimodal.encode_text(["a lamp", "a chair"]), model=tiny_multimodal)
    index.save(tmp_path / "saved")
    found, _ = command(capsys, "search", repo, tmp_path / "saved", "a chair")
    assert [(record["index"], record["row"]) for record in found] == [(1, {}), (0, {})]
    output = ["--output", tmp_path / "found.png"]
    assert "an index without pictures; write .jsonl" in failure(
        capsys, "search", repo, tmp_path / "saved", "a chair", *output
    )


def test_another_model_than_the_one_that_made_it_is_refused(repo, photos, tmp_path, capsys):
    other = tiny_model()
    other.text_projection.weight.data.mul_(2)
    other.save_pretrained(tmp_path / "other")
    cli.command(["embed", repo, str(photos), "--output", str(tmp_path / "embedded")])
    cli.command(["search", repo, str(photos), "a lamp", "--save-index", str(tmp_path / "index")])
    for saved in ("embedded", "index"):
        error = failure(capsys, "search", tmp_path / "other", tmp_path / saved, "a lamp")
        assert "the model given has other weights" in error


def test_a_folder_that_is_half_embedded_or_damaged_is_refused(repo, photos, tmp_path, capsys):
    saved = tmp_path / "embedded"
    cli.command(["embed", repo, str(photos), "--output", str(saved)])
    manifest = saved / "manifest.json"
    whole = manifest.read_text()
    manifest.write_text(whole[:100])
    assert "manifest.json: damaged" in failure(capsys, "search", repo, saved, "a lamp")
    manifest.unlink()
    error = failure(capsys, "search", repo, saved, "a lamp")
    assert "no finished embeddings there" in error and "run the same command again, which goes on" in error


def test_a_folder_of_fewer_dimensions_is_searched_in_them(repo, photos, tmp_path, capsys):
    cli.command(["embed", repo, str(photos), "--truncate-dim", "4", "--output", str(tmp_path / "embedded")])
    found, _ = command(capsys, "search", repo, tmp_path / "embedded", photos / "2.jpg")
    assert found[0]["row"]["id"] == "2.jpg" and found[0]["score"] == pytest.approx(1, abs=1e-5)


def test_other_peoples_manifests_are_no_embeddings(repo, photos, tmp_path, capsys):
    (tmp_path / "photos" / "manifest.json").write_text('{"name": "mine"}')
    (tmp_path / "photos" / "plan.json").write_text("[")
    found, _ = command(capsys, "search", repo, photos, "a lamp", "-k", "9")
    assert len(found) == 6


def test_options_that_ask_for_embedding_are_refused(repo, photos, tmp_path, capsys):
    saved = str(tmp_path / "index")
    cli.command(["search", repo, str(photos), "a lamp", "--save-index", saved])
    for option in ("column", "split", "save-index"):
        error = failure(capsys, "search", repo, saved, "a lamp", f"--{option}", tmp_path / "x")
        assert f"embeddings already, so --{option} has no effect" in error
    error = failure(capsys, "search", repo, saved, "a lamp", "--modality", "depth")
    assert "embeddings of image, not of depth" in error
    error = failure(capsys, "search", repo, saved, "a lamp", "--preset", "tum")
    assert "for depth maps alone" in error


def test_an_index_is_replaced_on_request_only(repo, photos, tmp_path, capsys):
    saved = tmp_path / "index"
    saved.mkdir()
    arguments = ["search", repo, str(photos), "a lamp", "--save-index", str(saved)]
    cli.command(arguments)
    assert "choose another --save-index, or give --overwrite" in failure(capsys, *arguments)
    cli.command([*arguments, "--overwrite"])
    assert len(EmbeddingIndex.load(saved)) == 6
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("mine")
    error = failure(capsys, *arguments[:-1], tmp_path / "mine", "--overwrite")
    assert "not a folder with an index" in error and (tmp_path / "mine" / "note.txt").is_file()


def test_an_empty_folder_of_embeddings_finds_nothing(repo, objects_test, tmp_path, capsys):
    objects_test.select([]).to_parquet(tmp_path / "none.parquet")
    saved = tmp_path / "embedded"
    cli.command(["embed", repo, str(tmp_path / "none.parquet"), "--modality", "image", "--output", str(saved)])
    found, _ = command(capsys, "search", repo, saved, "a lamp")
    assert found == []
