"""Imports run one way, and a machine that only serves loads none of the heavy libraries."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Files that prove an export by serving it, and the one that asks what memory is free.
MAY_SERVE = {"builder/stages/verify.py", "builder/demo/training/score.py", "builder/checkpoint/preflight.py"}
# Only this file may import that library.
ONE_ROOM = {
    "onnxruntime_genai": {"serving/engine/oga.py"},
    "onnxruntime": {"serving/engine/ort.py"},
    "llguidance": {"serving/engine/grammar.py"},
    "gradio": {"serving/page/ui.py"},
    "prometheus_client": {"serving/http/metrics.py"},
    "pydantic": {"serving/http/openai.py"},
    "uvicorn": {"serving/http/server.py"},
    "quark": {"builder/stages/quantize.py"},
}


# Rooms of `serving`, each of which may import those before it; what is in none of them is a leaf.
ROOMS = ("text", "engine", "http", "page")
LEAVES = {"types", "errors", "hardware", "folder"}


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def modules_imported(file: Path, among: set[str]) -> set[str]:
    """Which of `among` a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & among


def arrows(package: str) -> dict[str, set[str]]:
    """Each module of a package, and what it imports of it."""
    paths = {name.removesuffix(".py").replace("/", "."): path for name, path in files(package).items()}
    return {name: modules_imported(path, set(paths)) - {name} for name, path in paths.items()}


def level(module: str) -> int:
    room = module.split(".")[1]
    return ROOMS.index(room) if room in ROOMS else -1


def files(package: str) -> dict[str, Path]:
    return {path.relative_to(ROOT).as_posix(): path for path in (ROOT / package).rglob("*.py")}


def test_serving_imports_neither_builder_nor_torch_nor_quark() -> None:
    for name, path in files("serving").items():
        assert not imports(path) & {"builder", "torch", "quark", "app"}, name


def test_imports_between_the_rooms_of_serving_run_one_way() -> None:
    for module, imported in arrows("serving").items():
        for other in imported:
            assert level(other) <= level(module), f"{module} imports {other}"


def test_the_leaves_of_serving_are_these() -> None:
    assert {file.stem for file in (ROOT / "serving").glob("*.py")} == LEAVES | {"__init__"}


@pytest.mark.parametrize("package", ["serving", "builder"])
def test_no_imports_go_in_a_circle(package: str) -> None:
    left = arrows(package)
    while free := [module for module, imported in left.items() if not imported & set(left)]:
        for module in free:
            del left[module]
    assert left == {}


def test_builder_uses_serving_only_to_prove_an_export() -> None:
    users = {name for name, path in files("builder").items() if "serving" in imports(path)}
    assert users <= MAY_SERVE


def test_each_foreign_runtime_is_imported_by_one_file() -> None:
    for library, allowed in ONE_ROOM.items():
        users = {n for package in ("builder", "serving") for n, p in files(package).items() if library in imports(p)}
        assert users == allowed, library


def test_nothing_that_only_posix_has_is_imported_with_a_module() -> None:
    for package in ("builder", "serving"):
        for name, path in files(package).items():
            body = ast.Module(ast.parse(path.read_text(encoding="utf-8")).body, [])
            top = [node for node in body.body if isinstance(node, ast.Import | ast.ImportFrom)]
            modules = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
            modules |= {str(node.module) for node in top if isinstance(node, ast.ImportFrom)}
            assert not modules & {"fcntl", "grp", "posix", "pty", "pwd", "resource", "termios"}, name


def test_serving_loads_no_torch() -> None:
    code = "import sys, serving.engine.engine, serving.page.ui; print({'torch', 'quark', 'builder'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_the_page_and_its_side_of_the_engine_process_load_no_oga() -> None:
    modules = "serving.engine.worker, serving.page.ui, serving.http.api"
    code = f"import sys, {modules}; print('onnxruntime_genai' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_the_api_loads_no_gradio() -> None:
    code = (
        "import sys, app, serving.engine.worker, serving.http.api, serving.http.server; print('gradio' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
