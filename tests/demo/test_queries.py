"""Words, files and rows are searched by."""

import numpy as np
import PIL.Image
import pytest

from hf_encoders.demo.opening import open_shown
from hf_encoders.demo.queries import of_file, of_row, of_words, results_markup, search
from hf_encoders.demo.words import ENGLISH
from hf_encoders.models.input_errors import InputError
from tests.conftest import SAMPLES


@pytest.fixture(scope="module")
def shown():
    from tests.helpers.multimodal_models import tiny_model

    return open_shown(tiny_model(), "tiny", str(SAMPLES / "photos"))


@pytest.fixture(scope="module")
def of_depth():
    from hf_encoders import DepthSemanticEncoderConfig, DepthSemanticEncoderModel
    from tests.conftest import TINY

    model = DepthSemanticEncoderModel(DepthSemanticEncoderConfig(**TINY)).eval()
    return open_shown(model, "tiny", str(SAMPLES / "maps"))


def test_words_and_their_heading(shown):
    query = of_words(shown, ENGLISH, "  a <red> chair ")
    assert query.modality == "text" and "a &lt;red&gt; chair" in results_markup(query, ENGLISH)
    found = search(shown.parts["image"], query, 3, [])
    assert len(found) == 3
    with pytest.raises(InputError, match="Type some words"):
        of_words(shown, ENGLISH, "  ")


def test_a_row_finds_itself(shown):
    part = shown.parts["image"]
    query = of_row(part, 2, "pictures")
    assert search(part, query, 1, [])[0].index == 2 and query.picture == "pictures/image/2.jpg"
    for number in (-1, 4):
        with pytest.raises(InputError, match="no row"):
            of_row(part, number, "pictures")


@pytest.mark.parametrize(("read_as", "modality"), [("auto", "depth"), ("image", "image"), ("depth", "depth")])
def test_a_file_is_what_it_looks_like_or_what_a_person_says(read_as, modality, shown):
    query = of_file(shown, SAMPLES / "maps" / "red_lamp.png", read_as)
    assert query.modality == modality and query.picture.startswith("data:image/jpeg;base64,")


def test_a_file_is_embedded_as_the_model_does(shown):
    path = SAMPLES / "photos" / "red_lamp.jpg"
    query = of_file(shown, path, "auto")
    np.testing.assert_allclose(query.embedding, shown.model.encode_image([str(path)])[0].numpy(), atol=1e-5)


def test_grey_of_8_bits_is_an_image_unless_said(shown, of_depth, tmp_path):
    PIL.Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "grey.png")
    assert of_file(shown, tmp_path / "grey.png", "auto").modality == "image"
    assert of_file(of_depth, tmp_path / "grey.png", "auto").modality == "depth"


def test_what_the_model_does_not_embed_is_said(of_depth):
    with pytest.raises(InputError, match="embeds no texts"):
        of_words(of_depth, ENGLISH, "a chair")
    with pytest.raises(InputError, match="red_lamp.jpg: the model embeds depth, not image"):
        of_file(of_depth, SAMPLES / "photos" / "red_lamp.jpg", "image")


def test_labels_that_no_row_has_find_nothing(shown):
    query = of_words(shown, ENGLISH, "a chair")
    assert search(shown.parts["image"], query, 3, ["lamps"]) == []
