"""Transformers' own tests of models and processors, run on ours.

They are no part of the installed package: they come from the source distribution of the release that is installed. The
files beside this one are run by tests/integrations/test_transformers_mixins.py, in processes of their own, because
these tests change what the whole process shares.
"""

import importlib
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from unittest import SkipTest

import transformers

# Names the folder that `download` returns.
FOLDER = "TRANSFORMERS_TESTS"
# Its tests are called `tests`, as ours are.
PACKAGE = "transformers_tests"

# The tests that do not apply, by the class that is tested.
NOT_APPLICABLE = {
    "depth models": {
        "test_model_get_set_embeddings": "there is no table of tokens",
    },
    "MultimodalEncoderModel": {
        "test_attention_outputs": "each tower's output has its own attentions, as CLIP's",
        "test_hidden_states_output": "each tower's output has its own hidden states, as CLIP's",
        "test_retain_grad_hidden_states_attentions": "each tower's output has its own hidden states, as CLIP's",
    },
    "DepthImageProcessor": {
        "test_call_numpy_4_channels": "it gives options for colours, which a depth map does not have",
    },
    "MultimodalEncoderProcessor": {
        "test_model_input_names": "it gives no depth maps; the processor without a depth part runs it",
        "test_processor_from_and_save_pretrained_as_nested_dict": "it knows no parts but those of transformers",
    },
    "MultimodalEncoderProcessor without depth": {
        "test_processor_from_and_save_pretrained_as_nested_dict": "it knows no parts but those of transformers",
    },
}


def download(folder: Path) -> Path:
    """Unpack the tests of the installed release, and return their folder; it takes a network.

    Raises:
        RuntimeError: if they cannot be had.
    """
    wanted = f"transformers=={transformers.__version__}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--no-binary", ":all:", "--dest", str(folder), wanted], capture_output=True, text=True
    )
    archives = list(folder.glob("transformers-*.tar.gz"))
    if done.returncode or not archives:
        raise RuntimeError(
            f"the source distribution of {wanted}, which holds transformers' own tests, cannot be downloaded; this test"
            f" needs a package index: {done.stderr.strip()[-500:]}"
        )
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("transformers-*/tests"))


def theirs(name: str) -> ModuleType:
    """One of transformers' test modules, such as "test_modeling_common"."""
    if PACKAGE not in sys.modules:
        _stand_in("fetch_hub_objects_for_ci", url_to_local_path=lambda url: url)
        package = _stand_in(PACKAGE)
        package.__path__ = [os.environ[FOLDER]]
        # Folders that the source distribution leaves out: tests of export and of `generate`, which concern no encoder.
        for folder, module, mixin in [
            ("exporters", "test_export", "ExportTesterMixin"),
            ("generation", "test_utils", "GenerationTesterMixin"),
        ]:
            _stand_in(f"{PACKAGE}.{folder}").__path__ = []
            _stand_in(f"{PACKAGE}.{folder}.{module}", **{mixin: type(mixin, (), {})})
    return importlib.import_module(f"{PACKAGE}.{name}")


def _stand_in(name: str, **contents: object) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None, is_package=True)
    vars(module).update(contents)
    sys.modules[name] = module
    return module


def leaving_out(reasons: dict[str, str]) -> type:
    """A class that stands before a mixin, and skips its tests by name, for the reasons that are given."""

    def skipping(reason: str) -> Callable[[object], None]:
        def skip(self: object) -> None:
            raise SkipTest(reason)

        return skip

    return type("LeavingOut", (), {name: skipping(reason) for name, reason in reasons.items()})
