"""The private names of other libraries that the package uses: all in one table, and each still there.

A name is private if it begins with an underscore, or if its library does not document it. Methods and attributes that a
library expects its subclasses to define (`_init_weights`, `_forward`, `_no_split_modules`) are not listed.
"""

import argparse
import ast
import importlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "hf_encoders"


@dataclass(frozen=True)
class PrivateName:
    """A private name.

    Args:
        library: the distribution that has it; "python" for the standard library.
        name: as the code writes it.
        files: the files of the package that use it.
        why: what it is needed for.
        seen: the release of the library in which it was last seen working.
        is_there: whether the installed release has it.
    """

    library: str
    name: str
    files: tuple[str, ...]
    why: str
    seen: str
    is_there: Callable[[], bool]


def has(module: str, *path: str) -> Callable[[], bool]:
    """Whether a module has a name, or a name in a name."""

    def check() -> bool:
        found = importlib.import_module(module)
        for name in path:
            if not hasattr(found, name):
                return False
            found = getattr(found, name)
        return True

    return check


def takes(module: str, function: str, parameter: str) -> Callable[[], bool]:
    """Whether a function has a parameter."""
    return lambda: parameter in inspect.signature(getattr(importlib.import_module(module), function)).parameters


def hook_is_kept() -> bool:
    """Whether Accelerate keeps the hook of a module where we look for it."""
    from accelerate.hooks import ModelHook, add_hook_to_module
    from torch import nn

    return hasattr(add_hook_to_module(nn.Linear(1, 1), ModelHook()), "_hf_hook")


def launcher_sets(*names: str) -> Callable[[], bool]:
    """Whether `accelerate launch` tells its processes by these environment variables."""
    return lambda: all(
        name in inspect.getsource(importlib.import_module("accelerate.utils.launch"))
        or name in inspect.getsource(importlib.import_module("accelerate.utils.dataclasses"))
        for name in names
    )


def registries_register() -> bool:
    """Whether transformers' registries take classes themselves, beside the auto classes that check them."""
    names = ["MODEL_MAPPING", "IMAGE_PROCESSOR_MAPPING", "PROCESSOR_MAPPING"]
    return all(hasattr(getattr(importlib.import_module("transformers"), name), "register") for name in names)


TOWERS = "models/multimodal_towers.py"
EXPORTED = "backends/exported_files.py"
ABSENT = "a repo may lack a file, and the reason why a file cannot be had is told apart"
RENAMING = "towers' files have older names than the model in memory"
ON_CPUS = "Accelerate allows FSDP on accelerators only"
LAUNCH = "`accelerate launch` tells its processes of FSDP and DeepSpeed in the environment alone"
ARROW = "rows that are in memory are embedded without a file"

TRANSFORMERS, ACCELERATE, DATASETS = "5.23.0", "1.15.0", "5.2.0"
TABLE = [
    PrivateName("transformers", "_auto_class", ("models/processing_multimodal_encoder.py", "models/saved_processor.py"),
                "a model that is remote code is saved with its code", TRANSFORMERS,
                has("transformers", "ProcessorMixin", "_auto_class")),
    PrivateName("transformers", "_merge_kwargs", ("models/processing_multimodal_encoder.py",),
                "processors check options, and keep the tokenizer's saved ones, by it alone", TRANSFORMERS,
                has("transformers", "ProcessorMixin", "_merge_kwargs")),
    PrivateName("transformers", "_commit_hash",
                (EXPORTED, "any_encoder.py", "fingerprint.py", "models/saved_processor.py", "sentence_encoder.py"),
                "files of a repo are read at the commit of its weights", TRANSFORMERS,
                lambda: "_commit_hash" in inspect.getsource(importlib.import_module("transformers").PreTrainedConfig)),
    PrivateName("transformers", "_attn_implementation", (TOWERS, "sentence_encoder.py"),
                "a tower and the model share one configuration; flash attention takes tokens without padding",
                TRANSFORMERS,
                lambda: hasattr(importlib.import_module("transformers").PreTrainedConfig(), "_attn_implementation")),
    PrivateName("transformers", "_supports_sdpa", (TOWERS,),
                "some towers have eager attention alone", TRANSFORMERS,
                has("transformers", "PreTrainedModel", "_supports_sdpa")),
    PrivateName("transformers", "_is_hf_initialized", ("adopt/adopted_network.py",),
                "weights that a file lacks are told from those that were loaded", TRANSFORMERS,
                lambda: "_is_hf_initialized"
                in inspect.getsource(importlib.import_module("transformers.initialization"))),
    PrivateName("huggingface_hub", "_CACHED_NO_EXIST", ("sentence_encoder.py",),
                "that a repo has no such file is known without the Hub", "2.4.0",
                has("huggingface_hub", "_CACHED_NO_EXIST")),
    *[PrivateName("transformers", name, (EXPORTED, "models/encoding_multimodal.py"), ABSENT, TRANSFORMERS,
                  takes("transformers.utils.hub", "cached_files", name))
      for name in ("_raise_exceptions_for_missing_entries", "_raise_exceptions_for_gated_repo",
                   "_raise_exceptions_for_connection_errors")],
    PrivateName("transformers", "get_model_conversion_mapping", (TOWERS,), RENAMING, TRANSFORMERS,
                has("transformers.conversion_mapping", "get_model_conversion_mapping")),
    *[PrivateName("transformers", name, (TOWERS,), RENAMING, TRANSFORMERS, has("transformers.core_model_loading", name))
      for name in ("WeightRenaming", "rename_source_key")],
    PrivateName("transformers", "PROCESSOR_MAPPING", ("registration.py",),
                "the registries take proxies, so that importing the package imports no model", TRANSFORMERS,
                registries_register),
    PrivateName("transformers", "LARGE_INTEGER", ("models/text_reading.py",), "it stands for no limit of a tokenizer",
                TRANSFORMERS, has("transformers.tokenization_utils_base", "LARGE_INTEGER")),
    PrivateName("transformers", "get_relative_import_files", ("hub/remote_code.py",),
                "the code that is pushed is the code that remote code imports", TRANSFORMERS,
                has("transformers.dynamic_module_utils", "get_relative_import_files")),
    PrivateName("transformers", "custom_object_save", ("models/processing_multimodal_encoder.py",),
                "a processor that is remote code is saved with its code", TRANSFORMERS,
                has("transformers.dynamic_module_utils", "custom_object_save")),
    PrivateName("transformers", "create_and_tag_model_card", ("hub/push_to_hub.py",),
                "tags that a push is given join those on the Hub", TRANSFORMERS,
                has("transformers.utils.hub", "create_and_tag_model_card")),
    PrivateName("accelerate", "_hf_hook", ("models/backend.py",), "a dispatched model says where its inputs go",
                ACCELERATE, hook_is_kept),
    PrivateName("accelerate", "processes.distributed_type = ", ("training/accelerator.py",), ON_CPUS, ACCELERATE,
                lambda: "distributed_type" in importlib.import_module("accelerate").PartialState._known_attrs),
    PrivateName("accelerate", "state.fsdp_plugin = ", ("training/accelerator.py",), ON_CPUS, ACCELERATE,
                lambda: "fsdp_plugin" in importlib.import_module("accelerate.state").AcceleratorState._known_attrs),
    PrivateName("accelerate", "ACCELERATE_USE_", ("training/accelerator.py",), LAUNCH, ACCELERATE,
                launcher_sets("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")),
    PrivateName("accelerate", "ACCELERATE_MIXED_PRECISION", ("training/precision.py",), LAUNCH, ACCELERATE,
                launcher_sets("ACCELERATE_MIXED_PRECISION")),
    PrivateName("datasets", "_fingerprint", ("embed/column.py",), "an embedded column is found again in the cache",
                DATASETS,
                lambda: hasattr(importlib.import_module("datasets").Dataset.from_dict({}), "_fingerprint")),
    PrivateName("datasets", "InMemoryTable", ("embed/arrow.py",), ARROW, DATASETS,
                has("datasets.table", "InMemoryTable")),
    PrivateName("datasets", "table_cast", ("embed/arrow.py",), ARROW, DATASETS, has("datasets.table", "table_cast")),
    PrivateName("datasets", "Hasher", ("embed/column.py",), "an embedded column is found again in the cache", DATASETS,
                has("datasets.fingerprint", "Hasher", "hash")),
    PrivateName("datasets", "builder.hash", ("data/collection.py", "data/splits.py"),
                "a report names the version of data", DATASETS,
                lambda: "self.hash" in inspect.getsource(importlib.import_module("datasets").DatasetBuilder)),
    PrivateName("datasets", "config.data_files", ("data/location.py", "data/picture_folder.py", "data/splits.py"),
                "a report names the data's files", DATASETS,
                has("datasets", "BuilderConfig", "data_files")),
    PrivateName("datasets", "packaged_modules", ("data/picture_folder.py",),
                "folders with .avif and .heic files have splits and captions too", DATASETS,
                has("datasets.packaged_modules.imagefolder.imagefolder", "ImageFolder", "EXTENSIONS")),
    PrivateName("torch", "_BatchNorm", ("losses/batch_norm.py", "models/freezing.py"),
                "one class stands for BatchNorm of every dimension", "2.13.0",
                has("torch.nn.modules.batchnorm", "_BatchNorm")),
    PrivateName("torch", "_version", ("backends/kept_tensors.py", "backends/packed_convolutions.py"),
                "a change in place is noticed", "2.13.0",
                has("torch", "Tensor", "_version")),
    *[PrivateName("torch", name, ("backends/folded_tower.py",), "a network that somebody watches runs itself", "2.13.0",
                  lambda name=name: hasattr(importlib.import_module("torch").nn.Module(), name))
      for name in ("_forward_hooks", "_forward_pre_hooks", "_compiled_call_impl")],
    *[PrivateName("torch", name, ("backends/packed_convolutions.py",), "weights stay in the layout of oneDNN", "2.13.0",
                  lambda name=name: hasattr(importlib.import_module("torch").ops.mkldnn, name))
      for name in ("_reorder_convolution_weight", "_convolution_pointwise")],
    PrivateName("python", "_ActionsContainer", ("commands/options.py",), "options join a parser or a group of one",
                "3.11", lambda: hasattr(argparse, "_ActionsContainer")),
    *[PrivateName("python", name, files, "a parser lists its commands and options", "3.11",
                  lambda name=name: hasattr(argparse, name) or hasattr(argparse.ArgumentParser(), name))
      for name, files in {"_actions": ("command_line.py", "commands/completion.py"),
                          "_SubParsersAction": ("commands/completion.py",)}.items()],
]  # fmt: skip


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.library}: {row.name.strip()}")
def test_the_installed_release_has_the_name(row):
    installed = "" if row.library == "python" else version(row.library)
    assert row.is_there(), (
        f"{row.library} {installed} has no {row.name} (seen working in {row.seen}); {', '.join(row.files)} need it:"
        f" {row.why}"
    )


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.library}: {row.name.strip()}")
def test_the_name_is_used_where_the_table_says_and_nowhere_else(row):
    word = re.compile(rf"(?<!\w){re.escape(row.name)}" + (r"(?!\w)" if row.name[-1].isalnum() else ""))
    found = [
        path.relative_to(PACKAGE).as_posix()
        for path in sources()
        if (row.name in used_names(path) if row.name.startswith("_") else word.search(path.read_text("utf-8")))
    ]
    assert sorted(found) == sorted(row.files), "the table lists other files: correct its row, or delete it"


def test_every_name_with_an_underscore_is_in_the_table():
    known = {row.name for row in TABLE} | own_names()
    strange = {
        f"{path.relative_to(PACKAGE)}: {name}" for path in sources() for name in used_names(path) if name not in known
    }
    assert not strange, "use a public door, or add a row to the table"


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def used_names(path: Path) -> set[str]:
    """Names with one leading underscore that a file takes from something else."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.keyword) and node.arg:
            names.add(node.arg)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            names |= {argument.value for argument in node.args[1:2] if isinstance(argument, ast.Constant)}
        elif isinstance(node, ast.Dict):  # arguments that are given as a mapping
            names |= {str(key.value) for key in node.keys if isinstance(key, ast.Constant)}
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def own_names() -> set[str]:
    """Names that the package itself defines."""
    names: set[str] = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, ast.arg):
                names.add(node.arg)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                owner = node.value
                names |= {node.attr} if isinstance(owner, ast.Name) and owner.id in ("self", "cls") else set()
    return names
