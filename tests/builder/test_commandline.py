"""What the command line answers to a mistake, to `--version`, and to nothing at all."""

import json
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version

import pytest

import app
from builder import __main__ as program
from builder.commandline import Parser
from builder.commands import build_parser, export_parser, quantize_parser
from tests.hub import ROOT

PARSERS = {"app": app.parser, "builder": build_parser, "quantize": quantize_parser, "export": export_parser}


def answer(capsys: pytest.CaptureFixture[str], parser: Parser, *arguments: str) -> str:
    """What a parser says to a mistake: one line, and code 2."""
    with pytest.raises(SystemExit) as end:
        parser.parse_args(arguments)
    said = capsys.readouterr()
    assert (end.value.code, said.out) == (2, "")
    assert said.err.startswith("error: ") and said.err.count("\n") == 1
    assert said.err.endswith(f" '{parser.prog} --help' tells more.\n")
    return said.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--modle x", "there is no flag --modle: did you mean --model?"),
        ("--modle=a=b", "there is no flag --modle: did you mean --model?"),
        ("--kv_memry 4G", "there is no flag --kv-memry: did you mean --kv-memory?"),
        ("--port 1 --exclude-layer lm_head", "did you mean --exclude-layers?"),
        ("--context 10", "there is no flag --context: did you mean --context-length?"),  # an abbreviation
        ("--zzz", "there is no flag --zzz."),
        ("-x", "'-x' belongs to no flag."),
        ("-- x", "there is no flag --."),
        ("meta-llama/Llama-2-7b-chat-hf", "'meta-llama/Llama-2-7b-chat-hf' belongs to no flag."),
        ("--quant-algo awk", "--quant-algo: must be one of awq, gptq, gptaq, none, not 'awk': did you mean awq?"),
        ("--group-size 46", "--group-size: must be one of 32, 64, 128, not '46'."),
        ("-p int8", "-p/--precision: must be int4, not 'int8': did you mean int4?"),
        ("--port", "--port: expected one argument."),
        ("--port abc", "--port: invalid int value: 'abc'."),
        ("--batch=yes", "--batch: ignored explicit argument 'yes'."),
    ],
)
def test_a_mistake_is_answered_with_one_line(arguments: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in answer(capsys, app.parser(), *arguments.split())


def test_a_flag_that_is_required_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "the following arguments are required: --output-dir." in answer(
        capsys, quantize_parser(), "--model-dir", "x"
    )


@pytest.mark.parametrize("name", PARSERS)
def test_every_flag_is_taken_in_both_spellings_and_in_no_shorter_one(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = PARSERS[name]()
    flags = [flag for action in parser._actions for flag in action.option_strings if "-" in flag[2:]]
    assert len(flags) >= 3
    for flag in flags:
        for spelled in (flag, "--" + flag[2:].replace("-", "_")):
            with suppress(SystemExit):  # for what its value is, or another flag that is required
                parser.parse_args([f"{spelled}=x"])
            assert "there is no flag" not in capsys.readouterr().err
        assert f"there is no flag {flag[:-1]}: did you mean {flag}?" in answer(capsys, parser, flag[:-1])


def test_values_keep_their_underscores() -> None:
    flags = app.parser().parse_args(["--allow_host=my_box", "--exclude_layers", "lm_head", "--auth", "a_b:c_d"])
    assert (flags.allow_host, flags.exclude_layers, flags.auth) == (["my_box"], ["lm_head"], "a_b:c_d")


@pytest.mark.parametrize("command", [["app.py"], ["-m", "builder"]])
def test_the_versions_are_told_without_importing_what_they_are_of(command: list[str]) -> None:
    code = (
        "import runpy, sys; sys.argv[1:] = ['--version']\n"
        f"try: runpy.run_{'module' if '-m' in command else 'path'}({command[-1]!r}, run_name='__main__')\n"
        "except SystemExit as end: import json; print(json.dumps([end.code, sorted(sys.modules)]))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    said, ended = run.stdout.splitlines()
    versions = [f"{name} {version(name)}" for name in ("oga-chat", "onnxruntime-genai", "amd-quark")]
    assert (said, run.stderr) == (f"{versions[0]} ({versions[1]}, {versions[2]})", "")
    code_, modules = json.loads(ended)
    assert code_ == 0 and not {"onnxruntime_genai", "quark", "torch", "gradio"} & set(modules)


def test_the_builder_without_arguments_prints_its_help_and_builds_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built: list[str] = []
    monkeypatch.setattr("builder.launch.make", lambda *_, **__: built.append("x"))
    monkeypatch.setattr("builder.launch.describe", lambda _: "")
    assert program.main([]) == 0
    assert capsys.readouterr().out.startswith("usage: python -m builder ") and not built
    assert program.main(["--model", "demo"]) == 0
    assert built
