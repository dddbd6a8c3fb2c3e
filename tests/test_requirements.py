"""pyproject.toml names what the package imports, and the oldest versions are the same wherever they are named."""

import ast
import sys
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from hf_encoders import __version__
from hf_encoders.hub.requirements import (
    code_requirements,
    handler_requirements,
    imported_libraries,
    model_requirements,
    sentence_transformers_requirement,
)
from hf_encoders.models.minimum_versions import MINIMUM_VERSIONS
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNTIME = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = [Requirement(line) for lines in PROJECT["optional-dependencies"].values() for line in lines]
# Modules that are not called like what installs them.
INSTALLED_BY = {"PIL": "pillow", "faiss": "faiss-cpu", "sklearn": "scikit-learn", "yaml": "pyyaml"}


def versions(requirements, operator):
    """Name → the version after the operator; what has none is left out."""
    return {
        canonicalize_name(one.name): Version(specifier.version)
        for one in requirements
        for specifier in one.specifier
        if specifier.operator == operator
    }


def names(requirements):
    return {canonicalize_name(one.name) for one in requirements}


def imported(nodes):
    """What installs the modules that some code imports, but for Python's own and ours."""
    modules = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules.add(node.module.partition(".")[0])
    theirs = modules - sys.stdlib_module_names - {"hf_encoders", "_typeshed"}  # the last is read by mypy alone
    return {canonicalize_name(INSTALLED_BY.get(module, module)) for module in theirs}


def test_the_lowest_constraints_are_the_lower_bounds():
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    pins = versions([Requirement(line) for line in lines if not line.startswith("#")], "==")
    assert versions(RUNTIME, ">=").keys() == names(RUNTIME)
    assert pins == versions([*RUNTIME, *EXTRAS], ">=")


def test_the_versions_that_are_checked_at_import_are_the_lower_bounds():
    bounds = versions(RUNTIME, ">=")
    for name, minimum in MINIMUM_VERSIONS.items():
        assert bounds[canonicalize_name(name)] == Version(minimum)


def test_a_repo_asks_for_the_versions_that_the_package_asks_for():
    stated = {canonicalize_name(one.name): one.specifier for one in [*RUNTIME, *EXTRAS]}
    lines = [*model_requirements(has_package=True), sentence_transformers_requirement(), *handler_requirements()]
    for one in map(Requirement, lines):
        if one.name == "hf-encoders":
            assert __version__ in one.specifier  # this release loads what it writes
        else:
            assert one.specifier == stated[canonicalize_name(one.name)]
    assert not any("hf-encoders" in line for line in [*model_requirements(has_package=False), *handler_requirements()])


def test_what_is_imported_is_declared_and_nothing_else():
    trees = {path: ast.parse(path.read_text()) for path in (ROOT / "hf_encoders").rglob("*.py")}
    anywhere = imported(node for tree in trees.values() for node in ast.walk(tree))
    # The page is imported when its command runs, which looks for its extra first.
    others = [tree for path, tree in trees.items() if ROOT / "hf_encoders" / "demo" not in path.parents]
    at_the_top = imported(node for tree in others for node in tree.body)
    assert at_the_top <= names(RUNTIME) <= anywhere <= names([*RUNTIME, *EXTRAS])


def test_what_code_imports_is_named_as_pip_names_it(tmp_path):
    lines = ["import os, yaml", "import PIL.Image", "from . import beside", "from torch.nn import Linear"]
    (tmp_path / "net.py").write_text("\n".join([*lines, "def late():", "    import never", ""]))
    libraries = imported_libraries([tmp_path / "net.py"])
    assert libraries == {"yaml", "PIL", "torch"}
    assert [line.split(">=")[0] for line in code_requirements({*libraries, "not_here"})] == [
        "PyYAML", "not_here", "pillow", "torch",
    ]  # fmt: skip
