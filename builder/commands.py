"""What the command line asks for: a model folder for the chat, a build by itself, or one of its two heavy steps."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol, get_args

from builder import exports, launch, shelf, steps
from builder.checkpoint.kinds import GENAI_CONFIG
from builder.checkpoint.source import Source, look, parse_source
from builder.commandline import Parser, Version
from builder.console import interrupts_raise
from builder.errors import BuildError
from builder.flags import (
    add_build_flags,
    add_export_flags,
    add_original_flag,
    add_quantization_flags,
    check_no_recipe,
    models_dir_from,
    recipe_from,
    target_from,
)
from builder.kept.artifact import check_files, read_manifest
from builder.kept.models import Entry
from builder.measure import LEAST_TOKENS, measure
from builder.progress import Step, terminal
from builder.publish import publish
from builder.quality import LOSS_LIMIT, proof_lines
from builder.recipe import DataType

Usable = Callable[[], Sequence[str]]


class Watch(Protocol):
    """Somebody else who is told how far a build is."""

    def report(self, step: Step) -> None:
        """Each step."""

    def built(self, said: str, quality: dict[str, Any], limit: float) -> None:
        """That the model is there: what was measured, in words, the manifest's figures, and the loss that is much."""


def ready(flags: argparse.Namespace, usable: Usable, watch: Callable[[str], Watch] | None = None) -> tuple[Path, bool]:
    """The folder to serve, and whether it is the bundled demo; built first where it is missing or `--rebuild` is given.

    What is already an export is served as it is, and so is what has that name in the list; what is already quantized is
    exported. usable: says which providers can be used here, the best first. watch: what is told of a build, by the
    title that it has. Raises BuildError.
    """
    is_demo = flags.model == "demo"
    if is_demo and flags.subfolder is not None:
        raise BuildError("--subfolder is for exports, and the demo is none.")
    exported = (Path(flags.model).expanduser() / GENAI_CONFIG).is_file()
    listed = None if is_demo or exported else shelf.served_by_name(models_dir_from(flags), flags.model)
    if listed:
        if flags.rebuild:
            raise BuildError(f"--rebuild needs a checkpoint, and {flags.model} is an export already.")
        folder, is_demo = listed.folder, listed.source.get("kind") == "demo"
    else:
        source = parse_source(flags.model, flags.revision)
        folder = (None if flags.rebuild else _kept(flags, source, usable)) or _made(flags, source, usable, watch)
    if flags.verify:
        check_files(folder)
    if note := launch.note_of(folder):
        print(note, file=sys.stderr)
    return folder, is_demo


def beside(flags: argparse.Namespace) -> list[Entry]:
    """More models of the list, as `--models` names them; none without it. Raises BuildError."""
    found = [] if flags.models is None else shelf.chosen(models_dir_from(flags), flags.models)
    for entry in found if flags.verify else ():
        check_files(entry.folder)
    return found


def _kept(flags: argparse.Namespace, source: Source, usable: Usable) -> Path | None:
    """What was made of this source before, whatever it is: the Hub is not asked."""
    models_dir = models_dir_from(flags)
    if flags.subfolder is None and not exports.is_export(source):
        recipe = recipe_from(flags, source)
        target = target_from(flags, recipe.exclude_layers)
        found = launch.find(source, recipe, target, models_dir, flags.auto_quality)
        found = found or launch.find_quantized(source, target, models_dir, measured=bool(flags.original))
        if found:
            return found
    return exports.find(source, flags.subfolder, usable(), models_dir) if source.kind == "hub" else None


def _made(flags: argparse.Namespace, source: Source, usable: Usable, watch: Callable[[str], Watch] | None) -> Path:
    """What is made of a source, or taken as it is; what was found is said in a line."""
    found, files, revision = look(source, flags.subfolder)
    models_dir = models_dir_from(flags)
    if flags.original and found.kind != "quantized":
        raise BuildError(
            f"--original is for a checkpoint that is quantized already, and {source.name} is {found.named}."
        )
    if found.kind == "export":
        if flags.rebuild and source.kind == "folder":
            raise BuildError(f"--rebuild needs a checkpoint, and {flags.model} is an export already.")
        with interrupts_raise(), terminal() as report:
            taken = exports.take(source, found, files, revision, flags.subfolder, usable(), models_dir, report)
        if taken.line:
            print(taken.line, file=sys.stderr)
        return taken.folder
    recipe = recipe_from(flags, source)
    target = target_from(flags, recipe.exclude_layers)
    if found.kind == "quantized":
        check_no_recipe(flags, f"{source.name} is {found.named}")
        original = parse_source(flags.original, flag="--original") if flags.original else None
        title = f"{source.name}: {found.named}"
        make = partial(launch.make_quantized, source, target, models_dir, original=original)
    else:
        method = f"UINT4, {recipe.quant_algo}, group {recipe.group_size}, for {target.execution_provider}"
        title = f"Building {source.name}, {found.named}: {method}"
        on = flags.quantize_on
        make = partial(launch.make, source, recipe, target, models_dir, auto_quality=flags.auto_quality, quantize_on=on)
    return _watched(title, make, watch)


def _watched(title: str, make: Callable[..., Path], watch: Callable[[str], Watch] | None) -> Path:
    """What `make` makes, while a terminal shows how far that is, and whoever watches; what was measured is said."""
    watching: list[Watch] = []  # from the first step on: what is refused at once needs none
    with interrupts_raise(), terminal(title) as report:

        def both(step: Step) -> None:
            report(step)
            if watch and not watching:
                watching.append(watch(title))
            for each in watching:
                each.report(step)

        made = make(report=both)
    said = launch.describe(made)
    print(said, file=sys.stderr)
    for each in watching:
        each.built(said, read_manifest(made)["quality"], LOSS_LIMIT)
    return made


# `python -m builder`


def run(arguments: list[str]) -> None:
    """Do what the arguments ask for; without any, print what they may be. Raises BuildError."""
    if not arguments:
        build_parser().print_help()
    elif arguments[0] == "quantize":
        quantize(quantize_parser().parse_args(arguments[1:]))
    elif arguments[0] == "export":
        export(export_parser().parse_args(arguments[1:]))
    elif arguments[0] == "measure":
        measured(measure_parser().parse_args(arguments[1:]))
    elif arguments[0] == "publish":
        given(publish_parser().parse_args(arguments[1:]))
    else:
        build(build_parser().parse_args(arguments))


def build_parser() -> Parser:
    """The flags of a whole build."""
    prog = _prog()
    parser = Parser(
        prog,
        "The whole build, without a chat at its end; or one of its two heavy steps by itself.",
        epilog=f"""steps by themselves:
  {prog} quantize --model_dir M --output_dir Q ...   a quantized checkpoint (--help tells more)
  {prog} export -i Q -o O -p int4 -e cpu             a model folder from it
what a model lost:
  {prog} measure FOLDER --against M                  perplexity and KL divergence from the original
to give it away:
  {prog} publish FOLDER --to USER/NAME               on the Hugging Face Hub, private unless --public is said""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=Version)
    add_build_flags(parser)
    parser.add_argument("--output", type=Path, help="the folder to make, instead of one below the models folder")
    return parser


def quantize_parser() -> Parser:
    """The flags of the first step."""
    parser = Parser(f"{_prog()} quantize", quantize.__doc__)
    parser.add_argument("--model-dir", required=True, help="'demo', a local folder, or a Hugging Face id")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument("--output-dir", type=Path, required=True, help="the folder to make")
    add_quantization_flags(parser)
    return parser


def export_parser() -> Parser:
    """The flags of the second step."""
    parser = Parser(f"{_prog()} export", export.__doc__)
    parser.add_argument("-i", "--input", type=Path, required=True, help="a quantized checkpoint")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder to make")
    add_original_flag(parser)
    add_export_flags(parser)
    return parser


def measure_parser() -> Parser:
    """The flags of measuring."""
    parser = Parser(f"{_prog()} measure", measured.__doc__)
    parser.add_argument("folder", type=Path, help="a model folder, or a GGUF file where llama-cpp-python is installed")
    parser.add_argument("--against", required=True, metavar="MODEL", help="the original: 'demo', a folder, or a Hub id")
    parser.add_argument("--revision", help="branch, tag or commit of the original on the Hub")
    parser.add_argument(
        "--text", type=Path, metavar="FILE",
        help="what to measure on: .txt, or .jsonl with 'text' or chat 'messages' (default: what the build held out)",
    )  # fmt: skip
    parser.add_argument(
        "--beside", type=Path, metavar="OTHER",
        help="another model folder or GGUF file: measured on the same tokens, and compared with it token by token",
    )  # fmt: skip
    parser.add_argument("--tokens", type=int, help="measure on so many at most (default: all there are)")
    parser.add_argument(
        "--data-type", choices=get_args(DataType), default="auto", help="type that the original is computed in"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="a file to write the figures into")
    return parser


def publish_parser() -> Parser:
    """The flags of giving a model away."""
    parser = Parser(f"{_prog()} publish", given.__doc__)
    parser.add_argument("folder", help="a built model folder, or its name in 'python app.py --list'")
    parser.add_argument("--to", required=True, metavar="USER/NAME", help="the repository on the Hub; made if need be")
    parser.add_argument("--public", action="store_true", help="let everybody see it (default: only you)")
    parser.add_argument(
        "--license", metavar="ID", help="of the source, where that does not say it, as the Hub names it"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--models-dir", type=Path, help="where built models are kept (default: as of builds)")
    return parser


def build(flags: argparse.Namespace) -> None:
    """From a checkpoint to a proved model folder."""
    source = parse_source(flags.model, flags.revision)
    recipe = recipe_from(flags, source)
    target, output = target_from(flags, recipe.exclude_layers), flags.output
    if output:
        steps.refuse_existing("--output", output)
    with terminal() as report:
        built = launch.make(
            source,
            recipe,
            target,
            models_dir_from(flags),
            report,
            auto_quality=flags.auto_quality,
            output=output.absolute() if output else None,
            quantize_on=flags.quantize_on,
        )
    print(launch.describe(built), file=sys.stderr)
    print(built)


def quantize(flags: argparse.Namespace) -> None:
    """From a checkpoint to a quantized checkpoint."""
    source = parse_source(flags.model_dir, flags.revision)
    recipe = recipe_from(flags, source)
    with terminal() as report:
        fetched, output = launch.fetch(source, recipe, report), flags.output_dir.absolute()
        made = steps.quantize_step(fetched, recipe, output, report, flags.quantize_on)
    print(made)


def export(flags: argparse.Namespace) -> None:
    """From a quantized checkpoint to a model folder."""
    quantized = steps.read_quantized(flags.input.absolute())
    target = target_from(flags, tuple(steps.knobs_of(quantized.checkpoint)["exclude_layers"]))
    original = parse_source(flags.original, flag="--original") if flags.original else None
    with terminal() as report:
        made, quality = steps.export_step(quantized, target, flags.output.absolute(), report, original)
    print("\n".join(proof_lines(quality, target.execution_provider)), file=sys.stderr)
    print(made)


def measured(flags: argparse.Namespace) -> None:
    """What a model lost against its original, in the form of llama.cpp's tables."""
    if flags.tokens is not None and flags.tokens < LEAST_TOKENS:
        raise BuildError(f"--tokens {flags.tokens} are too few: the error would be larger than what is measured.")
    source = parse_source(flags.against, flags.revision, "--against")
    with interrupts_raise(), terminal() as report:
        found = measure(flags.folder, source, flags.text, flags.tokens, flags.data_type, report, flags.beside)
    if flags.json:
        facts = {"model": str(flags.folder), "against": source.name, **asdict(found)}
        facts |= {"model_beside": str(flags.beside)} if flags.beside else {}
        flags.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    for kind, measurement in found.measurements.items():
        print(f"{kind} (SHA-256 of all tokens {found.text[:12]})\n{measurement.table()}\n")
        if flags.beside:
            print(f"{kind}, R: {flags.beside}\n{found.beside[kind].table()}\n\n{found.paired[kind].table()}\n")


def given(flags: argparse.Namespace) -> None:
    """A built model folder onto the Hugging Face Hub, with a card made of its manifest: first shown, then sent."""
    folder = Path(flags.folder).expanduser()
    listed = None if folder.is_dir() else shelf.served_by_name(models_dir_from(flags), flags.folder)
    with interrupts_raise():
        address = publish(listed.folder if listed else folder, flags.to, flags.public, flags.license, flags.yes)
    print(f"{address}\nAnybody who may see it: python app.py --model {flags.to}")


def _prog() -> str:
    script = Path(sys.argv[0]).stem
    return script if script == "oga-chat-builder" else "python -m builder"
