"""The house: arrows point one way, no circles, rooms of a size that one can survey."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "hf_encoders"
# From the ground up; a room or file imports its own floor and those below.
FLOORS = [
    {"models", "_version", "arrays", "launched_processes", "outputs", "places", "progress", "top_k", "versions"},
    {
        "checkpoints",
        "backends",
        "losses",
        "modalities",
        "fingerprint",
        "plurals",
        "maker",
        "towers",
        "image_sizes",
        "model_kinds",
        "any_encoder",
        "sentence_encoder",
        "sentence_towers",
        "load_report",
        "encode_methods",
        "thumbnails",
        "depth_colours",
    },
    {"hub", "data"},
    {"search", "conversion", "adopt", "evaluation", "embed", "export", "zero_shot", "command_line"},
    {"training", "legacy", "demo"},
    {"commands"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# These name what they serve without importing it at their own import.
FREE = {"__init__", "registration"}
MOST_MODULES = 24
# It is copied into repos as remote code, which takes sibling files alone: no folder of it can be made.
FLAT = {"models": 36}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imported(path):
    """Names below `hf_encoders` that a file imports, at its top or in a function, as tuples of their parts.

    An import for types alone is none: it happens when nothing runs.
    """
    package = path.relative_to(PACKAGE).parent.parts
    for node in walk_what_runs(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            for alias in node.names:
                yield *base, *(node.module or "").split("."), alias.name
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "hf_encoders":
            raise AssertionError(f"{path}: imports the face; write a relative import")


def walk_what_runs(node):
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield child
            yield from walk_what_runs(child)


def arrows():
    """Module → the modules that it imports, within the package."""
    known = {name_of(path) for path in modules()}
    found = defaultdict(set)
    for path in (path for path in modules() if path.stem != "__main__"):  # the door of a command
        for parts in imported(path):
            target = tuple(part for part in parts if part)
            while target not in known:
                target = target[:-1]
            if target and target != name_of(path):
                found[name_of(path)].add(target)
    return found


def room_of(module):
    return module[0] if module else "__init__"


def test_every_room_has_its_floor():
    assert {room_of(name_of(path)) for path in modules()} - FREE == set(FLOOR)


def test_arrows_point_down():
    upward = [
        f"{'.'.join(source)} → {'.'.join(target)}"
        for source, targets in arrows().items()
        for target in targets
        if not {room_of(source), room_of(target)} & FREE and FLOOR[room_of(source)] < FLOOR[room_of(target)]
    ]
    assert not upward, upward


def circle(graph):
    """Some circle of a graph, or None."""
    done, path = set(), []

    def walk(node):
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        path.append(node)
        found = next(filter(None, map(walk, sorted(graph.get(node, ())))), None)
        path.pop()
        done.add(node)
        return found

    return next(filter(None, map(walk, sorted(graph))), None)


def test_no_circles_of_files_or_of_rooms():
    files = {source: targets for source, targets in arrows().items() if room_of(source) not in FREE}
    assert circle(files) is None
    rooms = defaultdict(set)
    for source, targets in files.items():
        rooms[room_of(source)] |= {room_of(target) for target in targets} - {room_of(source)} - FREE
    assert circle(rooms) is None


@pytest.mark.parametrize("folder", sorted({path.parent for path in modules()}), ids=lambda path: path.name)
def test_rooms_can_be_surveyed(folder):
    files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= FLAT.get(folder.name, MOST_MODULES)
    for path in files:
        assert len(path.read_text(encoding="utf-8").splitlines()) < 400, path


def test_no_script_edits_the_path_but_the_doors_of_a_clone():
    doors = {"conversion/convert_ckpt.py", "conversion/export_legacy.py"}
    doors |= {f"training/{name}.py" for name in ("pretrain", "pretrain_depth", "evaluate")}
    scripts = [path for folder in ("hf_encoders", "conversion", "training", "examples", "benchmarks", "tests")
               for path in (ROOT / folder).rglob("*.py") if path != Path(__file__)]  # fmt: skip
    assert {str(path.relative_to(ROOT)) for path in scripts if "sys.path." in path.read_text()} == doors
    for name in doors:
        assert len((ROOT / name).read_text().splitlines()) <= 12
