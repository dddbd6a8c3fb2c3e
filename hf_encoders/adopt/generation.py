"""The files that a person would write to make a network a model of transformers: its configuration and its model."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import transformers
from transformers.configuration_utils import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from ..hub.requirements import code_requirements

BASE, SETTINGS = "adopted_network", "settings_object"
_LINE = 120
_SHORT = 60
# What reads raw inputs needs beside transformers.
_OF_PROCESSORS = {"image": ("pillow",), "depth": ("numpy", "pillow")}
_CASTS = {"bool": ".bool()", "int32": ".int()", "int64": ".long()", "float32": ".float()", "uint8": ".byte()"}
# Names that a configuration has already, and what our tools read in it.
_RESERVED = {
    *dir(PreTrainedConfig()),
    "hidden_size",
    "embedding_output",
    "embeds",
    "field",
    # What transformers takes for a configuration within the configuration.
    "text_config",
    "vision_config",
    "audio_config",
    "text_encoder",
    "encoder",
    "decoder",
    "generator",
    "quantization_config",
    "is_encoder_decoder",
    "reads_padding",
    "pads_to_limit",
    "model_type",
    "tie_word_embeddings",
    "self",
}


@dataclass(frozen=True)
class Input:
    """An input of a network.

    Args:
        name: what the model of transformers calls it.
        takes: what the network's `forward` calls it.
        shape: with the batch first.
        dtype: of its values, such as "float32".
        below: integers lie below this; None: as the network's first table tells.
        is_inverted: whether it is a mask that the network wants the other way round: true where nothing is to be read.
    """

    name: str
    takes: str
    shape: tuple[int, ...]
    dtype: str
    below: int | None = None
    is_inverted: bool = False

    @property
    def passed(self) -> str:
        """The expression that the network gets: processors of transformers give numbers of words and masks in int64."""
        value = f"({self.name} == 0)" if self.is_inverted else self.name
        given = "bool" if self.is_inverted else "int64"
        is_words = self.name in ("input_ids", "attention_mask")
        return f"{value}{_CASTS[self.dtype]}" if is_words and self.dtype != given else value


@dataclass(frozen=True)
class ModelNames:
    """What the model of transformers and its files are called.

    Args:
        name: of the network's class.
    """

    name: str

    @property
    def base(self) -> str:
        """The class's name without "Model", and with "Adopted" where transformers has models of that name."""
        short = self.name.removesuffix("Model").removesuffix("Config") or self.name
        ours = (f"{short}Model", f"{short}Config")
        is_taken = self.name in ours or any(hasattr(transformers, name) for name in ours)
        return f"Adopted{short}" if is_taken else short

    @property
    def snake(self) -> str:
        """The name for files."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", self.base).lower()

    @property
    def model_type(self) -> str:
        """What config.json calls the kind of model; never a name of transformers."""
        return f"adopted_{self.snake}" if self.snake in CONFIG_MAPPING_NAMES else self.snake


def taken_modules(name: str) -> tuple[str, ...]:
    """The modules of a repo that hf-encoders writes, for the class of this name."""
    snake = ModelNames(name).snake
    return BASE, SETTINGS, f"configuration_{snake}", f"modeling_{snake}"


@dataclass(frozen=True)
class Network(ModelNames):
    """What is generated about.

    Args:
        module: the sibling that holds it.
        file: the file that it came from, for people.
        arguments: of its constructor, by name.
        order: each of them, and how it is passed: "name", "place" or "more" (the items of `*name`).
        inputs: the main one first.
        embedding: the expression over `output` that gives the embedding.
        state: the one that gives the last hidden state.
        size: of the embedding.
        is_tied: whether weights are shared.
        is_lazy: whether layers learn their sizes from their first input.
        modality: "image", "depth" or "text"; None where nothing reads raw inputs.
        makers: argument → the dataclass beside the network that is made of it.
        padding: how much the embedding of a text changes with words that its mask hides; None if it does not.
    """

    module: str
    file: str
    arguments: Mapping[str, object]
    order: Sequence[Sequence[str]]
    inputs: Sequence[Input]
    embedding: str
    state: str
    size: int
    is_tied: bool
    is_lazy: bool
    modality: str | None = None
    makers: Mapping[str, str] = field(default_factory=dict)
    padding: float | None = None

    @property
    def fields(self) -> dict[str, str]:
        """Argument → its name in the configuration."""
        return {name: f"network_{name}" if name in _RESERVED else name for name in self.arguments}

    @property
    def reads_padding(self) -> bool:
        """Whether texts are padded to the limit: the network cannot tell their words from what fills a batch."""
        return self.inputs[0].name == "input_ids" and all(one.name != "attention_mask" for one in self.inputs)

    @property
    def pads_to_limit(self) -> bool:
        """Whether texts are padded to the limit although the network gets a mask: the embedding is of all positions."""
        return self.padding is not None

    def settings(self) -> dict[str, object]:
        """The content of config.json, without the precision of the weights."""
        auto = {
            "AutoConfig": f"configuration_{self.snake}.{self.base}Config",
            "AutoModel": f"modeling_{self.snake}.{self.base}Model",
        }
        return {
            "architectures": [f"{self.base}Model"],
            "auto_map": auto,
            "model_type": self.model_type,
            **{field: self.arguments[name] for name, field in self.fields.items()},
            "hidden_size": self.size,
            "embedding_output": "pooler_output",
            **({"embeds": self.modality} if self.modality else {}),
            **({"reads_padding": True} if self.reads_padding else {}),
            **({"pads_to_limit": True} if self.pads_to_limit else {}),
            **({"tie_word_embeddings": True} if self.is_tied else {}),
            "transformers_version": transformers.__version__,
        }


def configuration_file(network: Network) -> str:
    """The text of configuration_NAME.py."""
    fields = [f"    {field}: {_kind(network.arguments[name])} = {_default(network.arguments[name])}"
              for name, field in network.fields.items()]  # fmt: skip
    needs_field = any("field(" in line for line in fields)
    flags = {"reads_padding": network.reads_padding, "pads_to_limit": network.pads_to_limit}
    padding = [f"    {name}: bool = True  # of texts" for name, is_set in flags.items() if is_set]
    tied = ["    tie_word_embeddings: bool = True  # some weights are one tensor"] if network.is_tied else []
    lines = [
        f'"""The configuration of {network.name}."""',
        "",
        *(["from dataclasses import field", ""] if needs_field else []),
        "from transformers import PreTrainedConfig",
        "",
        "",
        f"class {network.base}Config(PreTrainedConfig):",
        f'    """The arguments of {network.name}, and the size of its embedding."""',
        "",
        f'    model_type = "{network.model_type}"',
        "",
        *fields,
        f"    hidden_size: int = {network.size}",
        '    embedding_output: str = "pooler_output"',
        *([f'    embeds: str = "{network.modality}"'] if network.modality else []),
        *padding,
        *tied,
    ]
    return "\n".join(lines) + "\n"


def modeling_file(network: Network, libraries: Sequence[str]) -> str:
    """The text of modeling_NAME.py.

    Args:
        network: what it makes.
        libraries: what the network's files import; transformers names those that this file imports and are missing.
    """
    call = _call(network)
    main, *others = network.inputs
    passed = ", ".join([main.passed, *(f"{one.takes}={one.passed}" for one in others)])
    takes = ", ".join(f"{one.name}: Tensor" for one in network.inputs)
    build = [f"return {call}"]
    if network.is_lazy:
        shapes = [f"torch.zeros({list(one.shape)}, dtype=torch.{one.dtype})" for one in network.inputs]
        examples = ", ".join(
            [shapes[0], *(f"{one.takes}={shape}" for one, shape in zip(others, shapes[1:], strict=True))]
        )
        build = [f"network = {call}.eval()", f"network({examples})  # some layers learn their sizes from an input",
                 "return network.train()"]  # fmt: skip
    uses_settings = "Settings(" in call
    lines = [
        f'"""{network.name} of {network.file} as a model of transformers."""',
        "",
        *_imports({*libraries, *(["torch"] if network.is_lazy else [])}, network.is_lazy),
        "from torch import Tensor, nn",
        "from transformers.modeling_outputs import BaseModelOutputWithPooling",
        "",
        f"from .{BASE} import AdoptedModel",
        f"from .configuration_{network.snake} import {network.base}Config",
        f"from .{network.module} import {', '.join(sorted({network.name, *network.makers.values()}))}",
        *([f"from .{SETTINGS} import Settings"] if uses_settings else []),
        "",
        "",
        f"class {network.base}Model(AdoptedModel):",
        f'    """{network.name}, whose output has the names that transformers gives."""',
        "",
        f"    config_class = {network.base}Config",
        f"    config: {network.base}Config",
        f'    main_input_name = "{main.name}"',
        "",
        "    def build(self) -> nn.Module:",
        '        """Make the network; its weights are loaded afterwards."""',
        *(f"        {line}" for line in build),
        "",
        f"    def forward(self, {takes}, **_: object) -> BaseModelOutputWithPooling:",
        f'        """Run the network; pooler_output [B, {network.size}] is the embedding."""',
        f"        output = self.network({passed})",
        f"        state, embedding = {network.state}, {network.embedding}",
        "        return BaseModelOutputWithPooling(last_hidden_state=state, pooler_output=embedding)",
    ]
    return "\n".join(lines) + "\n"


def _imports(libraries: set[str], uses_torch: bool) -> list[str]:
    """Lines that import libraries; all but torch are there for those who lack them."""
    others = sorted(libraries - {"torch", "transformers"})
    lines = [f"import {name}  # noqa: F401 - the network's code needs it" for name in others]
    return sorted([*lines, *(["import torch"] if uses_torch else [])])


def requirements_file(libraries: Sequence[str], modality: str | None) -> str:
    """The text of requirements.txt: what pip calls the libraries that the files and the processor import."""
    names = {*libraries, "torch", "transformers", *_OF_PROCESSORS.get(modality or "", ())}
    return "".join(f"{line}\n" for line in code_requirements(names))


def _call(network: Network) -> str:
    parts = []
    for name, how in network.order:
        value = f"self.config.{network.fields[name]}"
        if name in network.makers:
            value = f"{network.makers[name]}(**{value})"
        elif isinstance(network.arguments[name], dict):
            value = f"Settings({value})"
        parts.append(f"{name}={value}" if how == "name" else f"*{value}" if how == "more" else value)
    line = f"{network.name}({', '.join(parts)})"
    if len(line) + len("        return ") <= _LINE:
        return line
    inner = "".join(f"            {part},\n" for part in parts)
    return f"{network.name}(\n{inner}        )"


def _kind(value: object) -> str:
    if value is None:
        return "object"
    return "float | int" if isinstance(value, float) else type(value).__name__


def _default(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if not isinstance(value, (list, dict)):
        return repr(value)
    is_short = value and len(repr(value)) < _SHORT  # config.json holds all of a longer one
    return f"field(default_factory=lambda: {value!r})" if is_short else f"field(default_factory={type(value).__name__})"
