"""The group `serve` of pyproject.toml: what serving needs of other packages, all of it and nothing else."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.programs import environment
from tests.servers import asked, ended, events_of

ROOT = Path(__file__).parent.parent
PACKAGE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
GROUP = {canonicalize_name(Requirement(line).name): line for line in PACKAGE["dependency-groups"]["serve"]}
DEPENDENCIES = {canonicalize_name(Requirement(line).name): line for line in PACKAGE["project"]["dependencies"]}
BUILDS_ONLY = {"torch", "amd-quark", "onnx", "pyarrow", "zstandard", "httpx2", "huggingface-hub"}


def with_their_own(names: Iterable[str]) -> set[str]:
    """Distributions, and all that they need here in turn, extras left out."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = canonicalize_name(left.pop())
        if name not in found:
            found.add(name)
            needed = [Requirement(line) for line in distribution(name).requires or ()]
            left += [each.name for each in needed if not each.marker or each.marker.evaluate({"extra": ""})]
    return found


def modules_of(distributions: set[str]) -> set[str]:
    """Top-level modules that only these distributions have."""
    return {
        module
        for module, owners in packages_distributions().items()
        if {canonicalize_name(owner) for owner in owners} <= distributions
    }


def test_the_ranges_are_those_of_the_package() -> None:
    assert {name: DEPENDENCIES.get(name) for name in GROUP} == GROUP
    assert DEPENDENCIES.keys() - GROUP.keys() == BUILDS_ONLY


def test_it_names_what_is_imported_and_nothing_else() -> None:
    code = "import sys, builder.commands; print(*(name for name in sys.modules if name.startswith('builder')))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [ROOT / "app.py", *(ROOT / "serving").rglob("*.py")]
    modules = {alias for file in files for alias in imported(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))}
    for name in run.stdout.split():
        path = ROOT / name.replace(".", "/")
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        modules |= set(imported(ast.parse(file.read_text(encoding="utf-8")).body))  # what a start imports
    owners = packages_distributions()
    needed = {canonicalize_name(owner) for module in modules for owner in owners.get(module, ())}
    assert needed & DEPENDENCIES.keys() == GROUP.keys()


def imported(nodes: Iterable[ast.AST]) -> Iterable[str]:
    """Top-level modules that these statements import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_a_built_folder_is_served_where_nothing_else_is_installed(demo_model: Path, tmp_path: Path) -> None:
    """Page, prompt, grammar and metrics, in all of the server's processes."""
    installed = {canonicalize_name(owner) for owners in packages_distributions().values() for owner in owners}
    others = installed - with_their_own(GROUP) - {"oga-chat", "pip", "setuptools"}
    missing = modules_of(others)
    assert {"torch", "quark", "onnx", "pyarrow"} <= missing
    env = environment(tmp_path, MISSING_LIBRARIES=" ".join(sorted(missing)))
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", "0", "--model", str(demo_model)],
        cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    url = process.stdout.readline().removeprefix("Chat at ").strip().rstrip("/")
    try:
        assert asked(url, "/")[0] == 200 and asked(url, "/metrics")[0] == 200
        question = [{"role": "user", "content": "What is 2 + 3?"}]
        body = {"model": "demo", "messages": question, "guided_regex": "[0-9]", "stream": True}
        status, _, content = asked(url, "/v1/chat/completions", body)
        pieces = [event["choices"][0]["delta"].get("content") or "" for event in events_of(content)[:-1]]
        assert status == 200 and re.fullmatch("[0-9]", "".join(pieces))
    finally:
        _, errors = ended(process)
    assert errors == "\nstopped.\n", errors


def test_a_build_is_refused_at_once_where_its_libraries_are_missing(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "app.py", "--port", "0", "--models-dir", str(tmp_path / "models")],
        cwd=ROOT, env=environment(tmp_path, MISSING_LIBRARIES="torch quark onnx"), capture_output=True, text=True,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("error: this installation only serves: torch and quark and onnx cannot be imported")
    assert run.stderr.count("\n") == 1 and "--model" in run.stderr and not (tmp_path / "models").exists()
