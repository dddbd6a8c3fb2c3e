"""Builds the network of somebody's own class, in a process of its own, and runs it: a script, `original.py FOLDER`.

FOLDER/request.json says what to build. The answers are lines of JSON: first what the network consists of; then, once
a line on stdin says that FOLDER/weights.safetensors is there, what it gives. What the code prints goes to stderr.
This file imports nothing of its package: modules of the project may have the same names.
"""

import dataclasses
import importlib
import importlib.util
import inspect
import json
import os
import sys
import sysconfig
import traceback
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

_SEED = 0
_CODE = (".py", ".pyc", ".so")
# Where what Python and its libraries read lies.
_SYSTEM = tuple(
    {*(sysconfig.get_paths().values()), sys.prefix, sys.base_prefix, "/proc", "/sys", "/dev", "/usr", "/etc"}
)


class Refused(Exception):
    """What a person is told; one line."""


class Reads:
    """Notices what a constructor reads from files and asks of the network, which no repo would have."""

    def __init__(self, roots: list[str]):
        self.roots, self.found, self.is_watching = roots, "", False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_watching or event not in ("open", "socket.connect", "socket.getaddrinfo"):
            return
        if event == "open":
            path, mode = arguments[0], arguments[1] or ""
            if not isinstance(path, (str, bytes)) or set("wax+") & set(mode):
                return
            name = os.path.abspath(os.fsdecode(path))
            if name.endswith(_CODE) or name.startswith(_SYSTEM) or os.path.isdir(name):
                return
            what = f"reads the file {os.fsdecode(path)}"
        else:
            what = "asks the network for something"
        self.is_watching = False
        self.found = f"{where(self.roots, traceback.extract_stack())}the constructor {what}, which a repo does not have"
        raise OSError(self.found)


def where(roots: list[str], frames: traceback.StackSummary) -> str:
    """The last line of the project on a stack, for a message."""
    for frame in reversed(frames):
        if frame.filename.startswith(tuple(roots)) and not frame.filename.startswith(_SYSTEM):
            return f"{frame.filename}:{frame.lineno}: "
    return ""


def said(roots: list[str], error: BaseException) -> str:
    """An error of the project's code, with its line."""
    text = " ".join(str(error).split())
    return f"{where(roots, traceback.extract_tb(error.__traceback__))}{type(error).__name__}: {text[:300]}"


def find_class(request: dict[str, Any]) -> type[nn.Module]:
    """Import the class from where it is; from its copy, where its file needs a library that the class does not."""
    places = [(request["roots"], request["module"]), ([request["copies"]], request["copy"])]
    for number, (roots, module) in enumerate(places):
        sys.path[:0] = roots
        try:
            found = getattr(importlib.import_module(module), request["class"])
            break
        except ModuleNotFoundError as error:
            library = (error.name or "").split(".")[0]
            if number or library in request["libraries"]:
                raise Refused(f"{request['file']}: needs {library}, which is not installed") from None
        except Exception as error:
            raise Refused(f"{request['file']} cannot be imported: {said(request['roots'], error)}") from None
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise Refused(f"{request['file']}: {request['class']} is no nn.Module")
    return found


def settings_class(request: dict[str, Any]) -> Callable[[Mapping[str, object]], object]:
    """The class of one object of settings, from its file."""
    spec = importlib.util.spec_from_file_location("_hf_encoders_settings", request["settings"])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Settings


class Call:
    """How a class is called: its arguments, checked against its signature."""

    def __init__(
        self,
        cls: type[nn.Module],
        given: dict[str, Any],
        loose: list[str],
        settings: Callable[[Mapping[str, object]], object],
    ):
        self.cls, self.settings, self.loose = cls, settings, loose
        try:
            self.parameters = [*inspect.signature(cls).parameters.values()]
        except (TypeError, ValueError):
            self.parameters = []
        self.arguments = self._whole(given)
        self._check()

    def _whole(self, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name; all of them are one, where the constructor takes one object of settings."""
        named = [one for one in self.parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
        required = [one for one in named if one.default is one.empty]
        takes_any = any(one.kind is one.VAR_KEYWORD for one in self.parameters)
        if given and len(required) == 1 and not takes_any and not set(given) & {one.name for one in self.parameters}:
            kind = self._hint(required[0].name)
            if dataclasses.is_dataclass(kind) and isinstance(kind, type):
                try:
                    given = dataclasses.asdict(kind(**given))
                except TypeError as error:
                    raise Refused(f"{self.cls.__name__}: its {kind.__name__} refuses the arguments ({error})") from None
            return {required[0].name: given}
        return given

    def _hint(self, name: str) -> object:
        try:
            return typing.get_type_hints(self.cls.__init__).get(name)
        except Exception:  # names that are there for type checkers alone
            return None

    def _check(self) -> None:
        names = [one.name for one in self.parameters if one.kind is not one.VAR_KEYWORD]
        takes_any = any(one.kind is one.VAR_KEYWORD for one in self.parameters)
        needed = [one.name for one in self.parameters if one.default is one.empty
                  and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]  # fmt: skip
        unknown = [name for name in self.arguments if name not in names and not takes_any]
        for name in {*unknown} & {*self.loose}:  # what a checkpoint says of its training too
            del self.arguments[name]
        if unknown := [name for name in unknown if name not in self.loose]:
            raise Refused(f"{self.cls.__name__} has no argument {unknown[0]!r}; it takes {', '.join(names) or 'none'}")
        if missing := [name for name in needed if name not in self.arguments]:
            raise Refused(f"{self.cls.__name__} needs the argument {missing[0]!r}; give it in --kwargs")
        for one in self.parameters:
            if one.kind is one.VAR_POSITIONAL and not isinstance(self.arguments.get(one.name, []), list):
                raise Refused(f"{self.cls.__name__}: the argument {one.name!r} is a list: the class takes *{one.name}")

    def order(self) -> list[list[str]]:
        """Each argument that is given or has a plain default: its name, and how it is passed."""
        has_more = any(one.kind is one.VAR_POSITIONAL and one.name in self.arguments for one in self.parameters)
        found = []
        for one in self.parameters:
            is_given = one.name in self.arguments
            if not is_given and one.default is not one.empty and _is_plain(one.default):
                self.arguments[one.name] = one.default
            if one.name in self.arguments:
                by_place = one.kind is one.POSITIONAL_ONLY or (has_more and one.kind is one.POSITIONAL_OR_KEYWORD)
                how = "more" if one.kind is one.VAR_POSITIONAL else "place" if by_place else "name"
                found.append([one.name, how])
        known = {name for name, _ in found}
        return found + [[name, "name"] for name in self.arguments if name not in known]

    def make(self) -> nn.Module:
        """Call the class."""
        places: list[object] = []
        names: dict[str, object] = {}
        for name, how in self.order():
            value = self.arguments[name]
            value = self.settings(value) if isinstance(value, dict) else value
            if how == "name":
                names[name] = value
            else:
                places += self.arguments[name] if how == "more" else [value]
        return self.cls(*places, **names)


def _is_plain(value: object) -> bool:
    """Whether JSON holds a value and gives it back as it was."""
    return value is None or isinstance(value, (bool, int, float, str))


def describe(network: nn.Module) -> dict[str, Any]:
    """The names, shapes and types of the weights, and which of them are one."""
    first: dict[int, str] = {}
    tied = {}
    for name, weight in network.named_parameters(remove_duplicate=False):
        if first.setdefault(id(weight), name) != name:
            tied[name] = first[id(weight)]
    for name, values in network.named_buffers(remove_duplicate=False):
        if first.setdefault(id(values), name) != name:
            tied[name] = first[id(values)]
    weights = {
        name: None
        if torch.nn.parameter.is_lazy(tensor)
        else [list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
        for name, tensor in network.state_dict(keep_vars=True).items()
        if isinstance(tensor, Tensor)
    }
    takes = [one.name for one in inspect.signature(network.forward).parameters.values()
             if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]  # fmt: skip
    return {"weights": weights, "tied": tied, "takes": takes, "is_lazy": any(one is None for one in weights.values())}


def make_inputs(network: nn.Module, inputs: list[dict[str, Any]], batch: int) -> list[Tensor]:
    """Seeded inputs: normal numbers, or numbers of words that the first table of the network has."""
    generator = torch.Generator().manual_seed(_SEED + batch)
    tables = [module.num_embeddings for module in network.modules() if isinstance(module, nn.Embedding)]
    made = []
    for one in inputs:
        shape = [batch, *one["shape"][1:]]
        if one["dtype"] == "float32":
            made.append(torch.randn(shape, generator=generator))
        elif one["name"].endswith("mask"):
            made.append(torch.ones(shape, dtype=getattr(torch, one["dtype"])))
        else:
            highest = min(one["below"] or tables[0] if tables else 2, tables[0] if tables else 2)
            made.append(torch.randint(0, highest, shape, generator=generator).to(getattr(torch, one["dtype"])))
    return made


def run(request: dict[str, Any], network: nn.Module, folder: Path) -> dict[str, Any]:
    """Run the network on inputs of two sizes, twice, and write inputs and outputs down."""
    state_dict = load_file(folder / "weights.safetensors")
    state_dict |= {name: state_dict[first] for name, first in describe(network)["tied"].items() if first in state_dict}
    network.load_state_dict(state_dict)
    network.eval()
    saved: dict[str, Tensor] = {}
    expected: dict[str, Tensor] = {}
    answer: dict[str, Any] = {}
    for number, batch in enumerate(request["batches"]):
        inputs = make_inputs(network, request["inputs"], batch)
        if number == 0 and "example" in request:
            inputs[0] = load_file(request["example"])["example"]
        saved |= {f"{number}.{one['name']}": tensor for one, tensor in zip(request["inputs"], inputs, strict=True)}
        first, second = (_outputs(request, network, inputs, answer, seed) for seed in (1, 2))
        for name, tensor in first.items():
            if not torch.equal(tensor, second[name]):
                spread = (tensor - second[name]).abs().max().item()
                raise Refused(
                    f"{request['class']} is not deterministic: two runs of one input differ by {spread:.1e} in the"
                    f" {name.replace('_', ' ')}; is dropout left on?"
                )
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise Refused(f"{request['class']} gives NaN or infinity in the {name.replace('_', ' ')}")
        expected |= {f"{number}.{name}": tensor.contiguous().clone() for name, tensor in first.items()}
    save_file(saved, folder / "inputs.safetensors")
    save_file(expected, folder / "expected.safetensors")
    return answer


def _outputs(
    request: dict[str, Any], network: nn.Module, inputs: list[Tensor], answer: dict[str, Any], seed: int
) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    rest = {one["takes"]: tensor.clone() for one, tensor in zip(request["inputs"][1:], inputs[1:], strict=True)}
    with torch.inference_mode():
        output = network(inputs[0].clone(), **rest)
    expressions = request["embedding"] or _choose(output)
    values = []
    for text in expressions:
        try:
            # The expression was checked: it takes items, attributes and methods of the output.
            values.append(eval(text, {"__builtins__": {}}, {"output": output}))
        except Exception as error:
            raise Refused(f"--embedding {text}: {error} (the network returns {shown(output)})") from None
    embedding = values[-1]
    if not isinstance(embedding, Tensor) or embedding.ndim != 2 or len(embedding) != len(inputs[0]):
        raise Refused(f"--embedding {expressions[-1]} is {shown(embedding)}, expected [{len(inputs[0])}, D]")
    number = next(number for number, value in enumerate(values) if isinstance(value, Tensor))
    answer |= {"embedding": expressions[-1], "state": expressions[number], "size": embedding.shape[1]}
    return {"last_hidden_state": values[number].float(), "pooler_output": embedding.float()}


def _choose(output: object) -> list[str]:
    if isinstance(output, Tensor) and output.ndim == 2:
        return ["output"]
    raise Refused(f"say which part of the output is the embedding, with --embedding: it returns {shown(output)}")


def shown(value: object) -> str:
    """What a network returns, for a message."""
    if isinstance(value, Tensor):
        return str(list(value.shape))
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} of " + ", ".join(f"{name!r}: {shown(one)}" for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of " + ", ".join(shown(one) for one in value)
    return f"a {type(value).__name__}"


def main() -> NoReturn:
    """Answer with lines of JSON on what was stdout."""
    folder = Path(sys.argv[1])
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    roots, status = request["roots"], 0

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    try:
        reads = Reads(roots)
        call = Call(find_class(request), request["arguments"], request["loose"], settings_class(request))
        torch.manual_seed(_SEED)
        reads.is_watching = True
        try:
            network = call.make()
        except Exception as error:
            about = "; it needs a GPU" if "cuda" in str(error).lower() or "nvidia" in str(error).lower() else ""
            raise Refused(reads.found or f"{request['class']} cannot be made: {said(roots, error)}{about}") from None
        finally:
            reads.is_watching = False
        if reads.found:
            raise Refused(reads.found)
        answer({"arguments": call.arguments, "order": call.order(), **describe(network)})
        line = sys.stdin.readline()
        if line:
            request |= json.loads(line)
            try:
                answer(run(request, network, folder))
            except Refused:
                raise
            except Exception as error:
                raise Refused(f"{request['class']} cannot be run: {said(roots, error)}") from None
    except Refused as error:
        answer({"error": str(error)})
        status = 1
    sys.exit(status)


if __name__ == "__main__":
    main()
