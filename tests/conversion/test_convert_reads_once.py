"""A conversion reads its file once, and lets go of it before the written repo is loaded and compared."""

import gc
import os
from pathlib import Path

import pytest
from transformers import AutoModel

from hf_encoders.checkpoints.files import open_checkpoint
from hf_encoders.conversion import convert as convert_module
from hf_encoders.conversion import depth, multimodal
from hf_encoders.conversion.convert import convert
from hf_encoders.conversion.families.legacy import depth_layouts, multimodal_layouts
from hf_encoders.conversion.multimodal import MultimodalOptions
from tests.helpers.legacy_files import write_legacy
from tests.helpers.multimodal_files import write_multimodal

WRITERS = {"depth": write_legacy, "multimodal": write_multimodal}
SAVINGS = {"zip": {}, "old format": {"_use_new_zipfile_serialization": False}}
OPTIONS = {"depth": {}, "multimodal": {"multimodal": MultimodalOptions(allow_no_tokenizer=True)}}


def is_mapped(path):
    """Whether a file is part of this process's memory."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("this system does not tell what a process has mapped")
    gc.collect()
    return str(path) in maps.read_text()


def watched(function, look):
    def call(*words):
        look()
        return function(*words)

    return call


@pytest.mark.parametrize("saving", SAVINGS)
@pytest.mark.parametrize("family", WRITERS)
def test_a_file_is_read_once_and_released_before_the_repo_is_verified(family, saving, tmp_path, monkeypatch):
    checkpoint = WRITERS[family](tmp_path / "a.pth", **SAVINGS[saving])
    read, seen = [], []

    def reading(path):
        read.append(path)
        content = open_checkpoint(path)
        seen.append(is_mapped(checkpoint))
        return content

    for module in (convert_module, depth_layouts, multimodal_layouts):
        monkeypatch.setattr(module, "open_checkpoint", reading)
    for module, name in (
        *((depth, "depth_outputs"), (multimodal, "multimodal_outputs")),
        *((depth, "verify_depth"), (multimodal, "verify_multimodal")),
    ):
        monkeypatch.setattr(module, name, watched(getattr(module, name), lambda: seen.append(is_mapped(checkpoint))))
    repo = convert(checkpoint, **OPTIONS[family])
    assert read == [checkpoint]
    opened, computed, verified = seen
    assert not opened and not verified  # nothing is mapped before a tensor is asked for
    assert computed or saving == "old format"  # whose tensors lie where memory cannot be mapped
    assert not is_mapped(checkpoint)
    os.truncate(checkpoint, 0)  # whoever still looked into the mapped file would end here
    model = AutoModel.from_pretrained(repo)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    checkpoint.unlink()
