"""The example of sentence-transformers, run as it is."""

import re
import runpy

from tests.conftest import ROOT


def test_captions_find_images_and_depth_maps(capsys):
    runpy.run_path(str(ROOT / "examples" / "with_sentence_transformers.py"), run_name="__main__")
    output = capsys.readouterr().out
    assert "256 dimensions for text and image" in output
    assert float(re.findall(r"from encode_image: (\S+)", output)[0]) < 1e-5
    images, maps = (float(recall) for recall in re.findall(r"captions.*: +(0\.\d+)", output))
    assert images > 0.85 and maps > 0.6  # chance: 0.01
