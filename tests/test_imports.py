"""Imports run one way, and a machine that only serves loads none of the heavy libraries."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Files that prove an export by serving it, those that ask what the machine has, and one that asks what may be served.
MAY_SERVE = {
    "builder/stages/prompts.py",
    "builder/stages/verify.py",
    "builder/stages/measure.py",
    "builder/demo/training/score.py",
    "builder/checkpoint/preflight.py",
    "builder/checkpoint/weights.py",
    "builder/checkpoint/choice.py",
}
# Only these files may import that library.
ONE_ROOM = {
    "onnxruntime_genai": {"serving/engine/oga.py"},
    "onnxruntime": {"serving/engine/ort.py"},
    "llama_cpp": {"serving/gguf.py"},
    "llguidance": {"serving/text/grammar.py"},
    "gradio": {"serving/page/ui.py", "serving/page/mount.py"},
    "segno": {"serving/page/address.py"},
    "prometheus_client": {"serving/http/metrics.py"},
    "pydantic": {
        f"serving/http/requests/{name}.py"
        for name in (
            "wire",
            "calls",
            "formats",
            "guided",
            "sampled",
            "chat",
            "text",
            "responses",
            "messages",
            "tokens",
            "endpoints",
        )
    },
    "uvicorn": {"serving/http/server.py", "serving/http/connections.py"},
    "ray": {f"serving/cluster/{name}.py" for name in ("start", "replica", "engine", "front")},
    "quark": {"builder/stages/quark.py", "builder/stages/awq_search.py", "builder/stages/gptaq.py"},
}


# Rooms, each of which may import those before it; leaves may import no room.
ROOMS = {
    "serving": ("text", "engine", "bench", "http", "page"),
    "builder": ("kept", "checkpoint", "giving", "stages"),
}
LEAVES = {
    "serving": {"types", "errors", "hardware", "heap", "processes", "genai_config", "folder", "gguf"},
    "builder": {
        "errors",
        "progress",
        "recipe",
        "statistics",
        "quality",
        "comparison",
        "measurement",
        "console",
        "commandline",
    },
}
# The whole of it elsewhere: nothing but app.py imports this.
TOP = {"serving": "cluster"}
# And what puts the rooms together.
ABOVE = {
    "serving": {"flags"},
    "builder": {"build", "steps", "launch", "exports", "measure", "flags", "shelf", "publish", "commands", "__main__"},
}


@cache
def statements(file: Path) -> list[ast.Import | ast.ImportFrom]:
    """What a file imports, wherever in it."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


@cache
def imports(file: Path) -> frozenset[str]:
    found: set[str] = set()
    for node in statements(file):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif node.module:
            found.add(node.module.partition(".")[0])
    return frozenset(found)


def modules_imported(file: Path, among: set[str]) -> set[str]:
    """Which of `among` a file imports, wherever in it."""
    found: set[str] = set()
    for node in statements(file):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & among


def arrows(package: str) -> dict[str, set[str]]:
    """Each module of a package, and what it imports of it."""
    paths = {
        name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path
        for name, path in files(package).items()
    }
    return {name: modules_imported(path, set(paths)) - {name} for name, path in paths.items()}


def level(module: str) -> int:
    package, _, rest = module.partition(".")
    room = rest.partition(".")[0]
    if room == TOP.get(package):
        return len(ROOMS[package]) + 1
    if room in ABOVE[package]:
        return len(ROOMS[package])
    return ROOMS[package].index(room) if room in ROOMS[package] else -1


def files(package: str) -> dict[str, Path]:
    return {path.relative_to(ROOT).as_posix(): path for path in (ROOT / package).rglob("*.py")}


def test_serving_imports_neither_builder_nor_torch_nor_quark() -> None:
    for name, path in files("serving").items():
        assert not imports(path) & {"builder", "torch", "quark", "app"}, name


@pytest.mark.parametrize("package", ROOMS)
def test_imports_between_the_rooms_run_one_way(package: str) -> None:
    for module, imported in arrows(package).items():
        for other in imported:
            assert level(other) <= level(module), f"{module} imports {other}"


@pytest.mark.parametrize("package", ROOMS)
def test_what_is_in_no_room_is_known(package: str) -> None:
    assert {file.stem for file in (ROOT / package).glob("*.py")} == LEAVES[package] | ABOVE[package] | {"__init__"}


def test_what_trained_the_demo_is_imported_by_nothing_that_builds_or_serves_it() -> None:
    training = {module for module in arrows("builder") if module.startswith("builder.demo.training")}
    everything = files("builder") | files("serving") | {"app.py": ROOT / "app.py"}
    users = {name for name, path in everything.items() if modules_imported(path, training)}
    assert training and all(name.startswith("builder/demo/training/") for name in users), users


@pytest.mark.parametrize("package", ROOMS)
def test_no_imports_go_in_a_circle(package: str) -> None:
    left = arrows(package)
    while free := [module for module, imported in left.items() if not imported & set(left)]:
        for module in free:
            del left[module]
    assert left == {}


def test_a_raw_configuration_is_seen_only_where_the_model_builder_is_told_another() -> None:
    for name, path in files("builder").items():
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        seen = any(isinstance(node, ast.Attribute) and node.attr == "raw" for node in nodes)
        assert seen == (name == "builder/checkpoint/told.py"), name


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
    modules = "serving.engine.process, serving.page.ui, serving.http.api"
    code = f"import sys, {modules}; print('onnxruntime_genai' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_the_api_loads_no_gradio() -> None:
    code = (
        "import sys, app, serving.engine.process, serving.http.api, serving.http.server; print('gradio' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
