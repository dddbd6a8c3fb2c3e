"""The table of families and tools in the documents says what the tests try, and nothing else."""

import pytest

from tests import test_any_encoder as tools
from tests.conftest import ROOT
from tests.export import test_any_encoder as exports
from tests.export import test_int8_kinds as int8
from tests.helpers.any_encoders import BOTH, KINDS, TEXTS
from tests.training import test_any_towers as towers

FAMILIES = {
    "ViT, DeiT, DINO": "vit",
    "DINOv2": "dinov2",
    "DINOv3": "dinov3",
    "ConvNeXt": "convnext",
    "Swin": "swin",
    "ResNet": "resnet",
    "BERT": "bert",
    "RoBERTa": "roberta",
    "ModernBERT": "modernbert",
    "CLIP": "clip",
    "SigLIP": "siglip",
}


def tried(function, name):
    """The values of a parameter that a test is run with."""
    for mark in (mark for mark in function.pytestmark if mark.name == "parametrize"):
        names, values = mark.args[:2]
        names = [names] if isinstance(names, str) else list(names)
        if name in names:
            values = [getattr(value, "values", value) for value in values]
            return {
                value if len(names) == 1 and isinstance(value, str) else value[names.index(name)] for value in values
            }
    raise AssertionError(f"{function.__name__} has no parameter {name}")


def kinds(family):
    return "texts, images" if family in BOTH else "texts" if family in TEXTS else "images"


def expected(family):
    """Column → what the tests try of a family."""
    assert family in tried(tools.test_a_column_of_embeddings, "family")
    assert family in tried(tools.test_embed_writes_a_folder_that_only_its_maker_searches, "family")
    assert family in tried(tools.test_an_index_is_saved_and_loaded_by_its_maker_alone, "family")
    assert family in tried(tools.test_search_finds_what_is_like_the_query, "family")
    assert family in tried(tools.test_evaluate_measures_what_a_family_can_do, "family")
    assert family in tried(exports.test_an_exported_repo_gives_the_same, "kind")
    assert tried(exports.test_an_exported_repo_gives_the_same, "backend") == {"onnx", "openvino"}
    by_words = family in tried(tools.test_classify_gives_the_probabilities_of_the_model, "family")
    assert by_words or family in tried(tools.test_classify_needs_texts_and_pictures, "family")
    trained = [
        modality
        for modality, name in (("text", "text"), ("image", "vision"))
        if family in tried(towers.test_a_locked_image_tower_of_any_family_is_read, name)
    ]
    return {
        "encode": kinds(family),
        "embed, index": kinds(family),
        "search by": kinds(family),
        "classify": "by words" if by_words else "-",
        "evaluate": "probes, retrieval, zero-shot" if by_words else "probes",
        "ONNX, OpenVINO": "yes",
        "int8": "yes" if family in tried(int8.test_int8_tells_inputs_apart_as_float32_does, "kind") else "-",
        "tower of `from_towers`, LiT": ", ".join(trained),
    }


def table(path):
    lines = [line for line in (ROOT / path).read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    start = next(number for number, line in enumerate(lines) if line.startswith("| family |"))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start:]]
    columns = cells[0][1:]
    rows = [row for row in cells[1:] if len(row) == len(cells[0]) and not row[0].startswith("--")]
    return {row[0]: dict(zip(columns, row[1:], strict=True)) for row in rows}


def test_no_family_is_left_out():
    assert set(table("docs/encoders.md")) == set(FAMILIES) and set(FAMILIES.values()) == set(KINDS)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_says_what_is_tried(name):
    assert table("docs/encoders.md")[name] == expected(FAMILIES[name])
