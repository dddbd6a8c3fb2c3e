"""A multimodal encoder with towers of somebody's own code: its class, in files that are saved beside its weights."""

import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from transformers.configuration_utils import PreTrainedConfig
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.modeling_utils import PreTrainedModel

from ..hub.remote_code import copy_code, files_of
from ..models.configuration_multimodal_encoder import JOINED, embeds_by_itself
from ..models.modeling_multimodal_encoder import MultimodalEncoderModel
from ..models.multimodal_towers import Part, Towers, brings_code

_CONFIGURATION, _MODELING = "configuration_joined_encoder", "modeling_joined_encoder"
_CONFIG, _MODEL = "JoinedEncoderConfig", "JoinedEncoderModel"
_SUBMODULES: Mapping[Part, str] = {"text": "text_encoder", "vision": "visual_encoder"}
# The imports that transformers follows when it copies the code of a repo: there are no others among its files.
_IMPORT = re.compile(r"^(\s*from\s+\.)(\w+)(\s+import\b)", re.MULTILINE)


def join_with_code(towers: Towers) -> tuple[type[PreTrainedModel], Towers]:
    """Make the class of a multimodal encoder with towers whose code lies in their repos.

    The files of the class are of a few lines. Beside them lie those of the towers and of this package's model, so that
    the model loads without this package too. Where it is imported, the class inherits from this package's.

    Args:
        towers: "text" and "vision" → tower; the code of one of them at least lies in its repo.

    Returns:
        The class, and the towers: those with code are built anew by its copy, with the same weights and buffers.

    Raises:
        ValueError: if the code of a tower cannot be copied, or builds another network than the tower is.
    """
    own = {part: tower for part, tower in towers.items() if brings_code(tower.config)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "joined_encoder"  # transformers keeps code of a folder under its name, by content
        folder.mkdir()
        copy_code(folder, [MultimodalEncoderModel])
        for file, text in joined_files(own, {path.name for path in folder.iterdir()}).items():
            (folder / file).write_text(text, encoding="utf-8")
        found = cast("type[MultimodalEncoderModel]", get_class_from_dynamic_module(f"{_MODELING}.{_MODEL}", folder))
    config_class = cast("type[PreTrainedConfig]", found.config_class)
    found.register_for_auto_class("AutoModel")
    config_class.register_for_auto_class()
    rebuilt = {
        part: _rebuilt(tower, found.own_towers[part], config_class.sub_configs[f"{part}_config"])
        for part, tower in own.items()
    }
    return found, towers | rebuilt


def joined_files(towers: Mapping[Part, PreTrainedModel], taken: set[str]) -> dict[str, str]:
    """The files of the class, and those of the towers: name → text.

    A tower's files keep their names, unless one is taken by another file: then all of the tower's are renamed.

    Args:
        towers: part, such as "vision" → tower whose code lies in its repo.
        taken: names of other files beside them.

    Raises:
        ValueError: if a file of a tower cannot be read.
    """
    taken = taken | {f"{_CONFIGURATION}.py", f"{_MODELING}.py"}
    files: dict[str, str] = {}
    imports: dict[Part, tuple[str, str]] = {}
    restored = [part for part, tower in towers.items() if embeds_by_itself(tower.config)]
    for tower in (towers[part] for part in restored):
        if not callable(getattr(tower, "restore", None)):  # it would load with buffers of any value
            raise ValueError(
                f"{_name(tower)}: adopted by an older hf-encoders, so it loads by itself alone; adopt it again"
            )
    for part, tower in towers.items():
        own = _code_of(tower)
        prefix = ""
        while any(prefix + name in taken or files.get(prefix + name, text) != text for name, text in own.items()):
            prefix += f"own_{part}_"
        files |= {prefix + name: _renamed(text, own, prefix) for name, text in own.items()}
        imports[part] = tuple(f"from .{prefix}{_module(cls)} import {cls.__name__}"
                              for cls in (type(tower.config), type(tower)))  # type: ignore[assignment]  # fmt: skip
    return files | {
        f"{_CONFIGURATION}.py": _configuration({part: config for part, (config, _) in imports.items()}),
        f"{_MODELING}.py": _modeling({part: model for part, (_, model) in imports.items()}, restored),
    }


def _configuration(imports: Mapping[Part, str]) -> str:
    lines = [
        '"""The configuration of a multimodal encoder with towers of somebody\'s own code, which lies beside."""',
        "",
        "import sys",
        "from importlib import import_module",
        "",
        *(f"{line} as {part.title()}Config" for part, line in imports.items()),
        "",
        *_base("MultimodalEncoderConfig", "configuration_multimodal_encoder"),
        "",
        "",
        f"class {_CONFIG}(MultimodalEncoderConfig):",
        '    """As `MultimodalEncoderConfig`, with classes of the towers\' own."""',
        "",
        f'    model_type = "{JOINED}"',
        "    sub_configs = {",
        "        **MultimodalEncoderConfig.sub_configs,",
        *(f'        "{part}_config": {part.title()}Config,' for part in imports),
        "    }",
    ]
    return "\n".join(lines) + "\n"


def _modeling(imports: Mapping[Part, str], restored: Sequence[Part]) -> str:
    own = [f'"{part}": {part.title()}Model' for part in imports]
    lines = [
        '"""A multimodal encoder with towers of somebody\'s own code, which lies beside."""',
        "",
        "import sys",
        "from importlib import import_module",
        "",
        f"from .{_CONFIGURATION} import {_CONFIG}",
        *(f"{line} as {part.title()}Model" for part, line in imports.items()),
        "",
        *_base("MultimodalEncoderModel", "modeling_multimodal_encoder"),
        "",
        "",
        f"class {_MODEL}(MultimodalEncoderModel):",
        '    """As `MultimodalEncoderModel`, with towers of the code beside."""',
        "",
        f"    config_class = {_CONFIG}",
        f"    config: {_CONFIG}",
        f"    own_towers = {{{', '.join(own)}}}",
    ]
    if restored:
        lines += [
            "",
            "    @classmethod",
            "    def from_pretrained(cls, *source, **options):",
            '        """Load as every model of transformers, and restore what that loses of the towers."""',
            "        loaded = super().from_pretrained(*source, **options)",
            "        model = loaded[0] if isinstance(loaded, tuple) else loaded",
            *(f"        model.{_SUBMODULES[part]}.restore()" for part in restored),
            "        return loaded",
        ]
    return "\n".join(lines) + "\n"


def _base(name: str, module: str) -> list[str]:
    """Lines that import what a class inherits from."""
    return [
        'if sys.modules.get("hf_encoders"):  # its class, as for every repo of its models',
        f'    {name} = import_module("hf_encoders").{name}',
        "else:",
        f"    from .{module} import {name}",
    ]


def _code_of(tower: PreTrainedModel) -> dict[str, str]:
    """The files of a tower's code: name → text."""
    try:
        paths = map(Path, sorted(files_of([type(tower), type(tower.config)])))
        return {path.name: path.read_text(encoding="utf-8") for path in paths}
    except OSError as error:  # imports from folders, which transformers does not copy from a local repo either
        raise ValueError(f"{_name(tower)}: its code cannot be copied ({error.filename}: {error.strerror})") from error


def _renamed(text: str, names: Mapping[str, str], prefix: str) -> str:
    """A file's text, which imports files beside it under their new names."""

    def new(match: re.Match[str]) -> str:
        return f"{match[1]}{prefix if f'{match[2]}.py' in names else ''}{match[2]}{match[3]}"

    return _IMPORT.sub(new, text) if prefix else text


def _name(tower: PreTrainedModel) -> str:
    return tower.config.name_or_path or type(tower).__name__


def _module(cls: type) -> str:
    return Path(str(sys.modules[cls.__module__].__file__)).stem


def _rebuilt(
    tower: PreTrainedModel, model_class: type[PreTrainedModel], config_class: type[PreTrainedConfig]
) -> PreTrainedModel:
    """The same network of a class of the copied code, with its weights and buffers.

    Raises:
        ValueError: if the code builds another network.
    """
    settings = tower.config.to_dict()
    for name in ("auto_map", "_name_or_path"):  # of the repo that it came from
        settings.pop(name, None)
    made = model_class(config_class(**settings))
    theirs = {**dict(tower.named_parameters()), **dict(tower.named_buffers())}
    ours = {**dict(made.named_parameters()), **dict(made.named_buffers())}
    shapes = [{name: tensor.shape for name, tensor in tensors.items()} for tensors in (theirs, ours)]
    if shapes[0] != shapes[1]:
        other = min(name for name, _ in shapes[0].items() ^ shapes[1].items())
        raise ValueError(f"{_name(tower)}: its code and its configuration build another network ({other})")
    with torch.no_grad():
        for name, tensor in ours.items():
            tensor.data = theirs[name].detach().clone()
            tensor.requires_grad_(theirs[name].requires_grad)
    return made.train(tower.training)
