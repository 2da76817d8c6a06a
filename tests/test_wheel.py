"""The wheel, installed: all of the program and nothing else of the repository, and no stranger runs in its place."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import urllib.request
import venv
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from builder.demo import CHECKPOINT, TEXTS
from tests.programs import environment, interrupted
from tests.servers import ended

ROOT = Path(__file__).parent.parent
PACKAGES = ("builder", "serving")
STRANGER = "import sys; sys.stderr.write('a stranger runs\\n'); sys.exit(99)\n"
pytestmark = pytest.mark.skipif(os.name == "nt", reason="scripts have other names and places")


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel, and strangers: beside it, and in a folder of their own."""

    wheel: Path
    scripts: Path
    site: Path
    strangers: Path

    def environment(self, **variables: str) -> dict[str, str]:
        """Of somebody whose own modules have our names."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return {**kept, "PYTHONPATH": str(self.strangers), **variables}

    def run(self, script: str, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """A script, started among the strangers."""
        return subprocess.run(
            [self.scripts / script, *arguments],
            cwd=self.strangers, env=self.environment(**variables), capture_output=True, text=True,
        )  # fmt: skip


def settle(folder: Path) -> None:
    """Modules and packages of our names that are not ours."""
    for name in ("app", *PACKAGES):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(STRANGER)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Built from a copy, as building leaves a folder in the repository, and installed with pip; libraries are ours."""
    work = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
    shutil.copytree(ROOT, work / "copy", ignore=ignored)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(work), str(work / "copy")]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = work.glob("*.whl")

    venv.create(work / "venv", symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(work / "venv")}))
    settle(site)
    settle(work / "strangers")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = work / "venv" / "bin" / "python"
    install = [
        *pip,
        "--python",
        str(python),
        "install",
        "--no-deps",
        "--ignore-installed",
        "--no-compile",
        "--no-index",
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    return Installed(wheel, python.parent, site, work / "strangers")


def test_every_module_and_what_it_reads_is_in_the_wheel_and_nothing_else(installed: Installed) -> None:
    modules = {path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    data = {
        path.relative_to(ROOT)
        for path in (
            *CHECKPOINT.iterdir(),
            *TEXTS.values(),
            *(ROOT / "serving" / "page" / "assets").iterdir(),
            *(ROOT / "serving" / "page" / "pdfjs").iterdir(),
        )
    }
    assert len(modules) > 60 and len(data) > 6
    wanted = {"oga_chat/app.py", *(f"oga_chat/{path.as_posix()}" for path in modules | data)}
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == wanted


def test_strangers_stay_as_they_are_and_are_not_run(installed: Installed) -> None:
    for folder in (installed.site, installed.strangers):
        for name in ("app", *PACKAGES):
            assert (folder / name / "__init__.py").read_text() == STRANGER
            assert [path.name for path in (folder / name).iterdir()] == ["__init__.py"]
    said = installed.run("oga-chat", "--version")
    assert (said.returncode, said.stderr) == (0, "") and said.stdout.startswith(f"oga-chat {version('oga-chat')} (")
    for script, usage in (("oga-chat", "--kv-memory"), ("oga-chat-builder", "oga-chat-builder quantize")):
        said = installed.run(script, "--help")
        assert (said.returncode, said.stderr) == (0, "") and usage in said.stdout
    refused = installed.run("oga-chat", "--model", "no such", "--port", "0")  # imports both packages
    assert (refused.returncode, refused.stdout) == (2, "") and refused.stderr.startswith("error: --model 'no such' is")


@pytest.mark.parametrize("safe_path", ["", "1"])
def test_the_engines_process_is_ours(installed: Installed, demo_model: Path, safe_path: str) -> None:
    process = subprocess.Popen(
        [installed.scripts / "oga-chat", "--no-ui", "--port", "0", "--model", str(demo_model)],
        cwd=installed.strangers, env=installed.environment(PYTHONSAFEPATH=safe_path),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("API at http://127.0.0.1:")
        with urllib.request.urlopen(line.split()[2].removesuffix("/v1,") + "/health") as response:
            assert json.load(response)
    finally:
        _, errors = ended(process)
    assert errors == "\nstopped.\n"


def test_the_stages_of_a_build_are_ours(installed: Installed, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import oga_chat.app; from builder.stages.stage import run_stage\n"
        "run_stage('builder.stages.export', {}, Path(sys.argv[1]), print)"
    )
    log = tmp_path / "log"
    subprocess.run(
        [installed.scripts / "python", "-P", "-c", code, str(log)],
        cwd=installed.strangers, env=installed.environment(), capture_output=True,
    )  # fmt: skip
    said = log.read_text()
    assert "a stranger runs" not in said
    assert f'File "{installed.site}/oga_chat/builder/' in said  # it starts, and misses its job


def test_ctrl_c_ends_a_script_with_one_word(installed: Installed, demo_model: Path, tmp_path: Path) -> None:
    command = [str(installed.scripts / "oga-chat"), "--port", "0", "--model", str(demo_model)]
    env = {**installed.environment(), **environment(tmp_path, FIRST_LINE_OF="app.py")}
    for moment in (0.01, 0.05, 0.3, 0.9):
        end = interrupted(command, moment, env, tmp_path)
        assert (end.code, end.err) == (130, "\nstopped.\n"), moment
