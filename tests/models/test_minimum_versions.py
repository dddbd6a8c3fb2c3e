"""Too old a library is one line at the first import: of the package, and of the code that lies in a repo."""

import os
import shutil
import subprocess
import sys

import pytest

from hf_encoders.hub.remote_code import write_remote_code
from hf_encoders.models.minimum_versions import MINIMUM_VERSIONS
from tests.conftest import ROOT
from tests.helpers.multimodal_models import tiny_model

CODE = ROOT / "hf_encoders" / "models"
# The modules that a repo's `auto_map`s name, but for models, which come after their configuration.
ENTRIES = [
    *("configuration_depth_semantic_encoder", "configuration_multimodal_encoder"),
    *("image_processing_depth", "processing_multimodal_encoder"),
]
LOAD = """
import sys
from transformers import AutoConfig, AutoProcessor
for auto in (AutoConfig, AutoProcessor):
    try:
        auto.from_pretrained(sys.argv[1], trust_remote_code=True)
    except ImportError as error:
        print(error)
"""


def python(*arguments, path=(), **environment):
    """Run Python where these folders come before all installed packages."""
    paths = [*map(str, path), os.environ.get("PYTHONPATH", "")]
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], env=os.environ | environment, capture_output=True, text=True
    )


@pytest.fixture
def pretend(tmp_path):
    """Makes a folder whose metadata says that a library has a version."""

    def metadata(name, version):
        folder = tmp_path / "old" / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        return folder.parent

    return metadata


@pytest.mark.parametrize(
    ("name", "version"), [("transformers", "5.17.9"), ("huggingface_hub", "1.9.2"), ("torch", "2.6.0+cu124")]
)
def test_the_package_names_what_is_too_old(name, version, pretend):
    done = python("-c", "import hf_encoders", path=[pretend(name, version), ROOT])
    needed = f"hf_encoders needs {name} >= {MINIMUM_VERSIONS[name]} (found {version}): pip install -U {name}"
    assert done.stderr.splitlines()[-1] == f"ImportError: {needed}"


@pytest.mark.parametrize("version", [f"{MINIMUM_VERSIONS['transformers']}.0.dev0", "5.100.0+local", "6.0.0rc1"])
def test_what_is_new_enough_is_imported(version, pretend):
    done = python("-c", "import hf_encoders", path=[pretend("transformers", version), ROOT])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("module", ENTRIES)
def test_code_in_a_repo_asks_before_it_imports(module, tmp_path):
    shutil.copytree(CODE, tmp_path / "repo")
    done = python(
        "-S", "-c", f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; import repo.{module}"
    )  # -S: no packages
    assert "ImportError: hf_encoders needs transformers >= " in done.stderr.splitlines()[-1]
    assert "(found none): pip install -U transformers" in done.stderr.splitlines()[-1]


def test_auto_classes_pass_the_line_on(pretend, tmp_path):
    tiny_model().save_pretrained(tmp_path / "repo")
    write_remote_code(tmp_path / "repo")
    done = python(
        "-c", LOAD, tmp_path / "repo", path=[pretend("transformers", "5.3.0")], HF_MODULES_CACHE=str(tmp_path / "cache")
    )
    needed = f"transformers >= {MINIMUM_VERSIONS['transformers']} (found 5.3.0): pip install -U transformers"
    assert done.stdout.splitlines() == 2 * [f"hf_encoders needs {needed}"], done.stderr
