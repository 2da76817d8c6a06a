"""One decoder layer after another: what goes through them, and what is kept of each.

Only the stage that quantizes imports this.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import load_file, save_file
from torch import Tensor

from builder.kept.results import Facts, Kept, discard, find, keep, place
from builder.progress import Report, Step, silent

WEIGHTS, STATES = "model.safetensors", "states.safetensors"


@dataclass(frozen=True, slots=True)
class States:
    """What goes into a layer, or comes out of it: each [1, length, hidden].

    calibration: of what Quark looks at. measured: of the original model. proof: of the quantized one. originals: of
    the calibration in the original model, where that is another and somebody asks.
    """

    calibration: Sequence[Tensor]
    measured: Sequence[Tensor]
    proof: Tensor
    originals: Sequence[Tensor] = ()

    def save(self, file: Path) -> None:
        """Into a new file."""
        named = {f"calibration.{number}": states for number, states in enumerate(self.calibration)}
        named |= {f"measured.{number}": states for number, states in enumerate(self.measured)}
        named |= {f"originals.{number}": states for number, states in enumerate(self.originals)}
        named["proof"] = self.proof
        save_file({name: states.detach().cpu().contiguous() for name, states in named.items()}, file)

    @classmethod
    def load(cls, file: Path) -> "States":
        """From a file, which is mapped: they take memory while they are looked at."""
        named = load_file(file)

        def all_of(kind: str) -> list[Tensor]:
            return [named[f"{kind}.{number}"] for number in range(sum(name.startswith(f"{kind}.") for name in named))]

        return cls(all_of("calibration"), all_of("measured"), named["proof"], all_of("originals"))


def run(
    layers: int, first: Callable[[], States], advance: Callable[[int, States, Path], States], work: Path, report: Report
) -> tuple[States, list[Path]]:
    """What comes out of the last layer, and the files with the layers' weights.

    first: makes what goes into the first layer. advance: takes a layer's number and what goes into it, writes the
    layer's WEIGHTS into a folder, and answers with what comes out. work: the folder in which each finished layer is
    kept, and with the last of them what came out of it.
    """
    done = finished(work, layers)
    clear(work, done)
    if done:
        note = f"{done} of {layers} layers were finished before: going on with layer {min(done + 1, layers)}."
        report(Step("quantize", done, layers, note, lasting=True))
    before = _keep_states(work, done, first)
    began = time.monotonic()
    for number in range(done, layers):
        spent = time.monotonic() - began
        left = spent / (number - done) * (layers - number) if number > done else None
        report(Step("quantize", number, layers, f"layer {number + 1} of {layers}", left=left))
        before = _one(number, before, advance, work)
    files = [place(work, "layer", {"number": number}) / WEIGHTS for number in range(layers)]
    return States.load(before.folder / STATES), files


def finished(work: Path, layers: int) -> int:
    """Layers, from the first, that need not be made again."""
    whole = (number for number in range(layers) if find(work, "layer", {"number": number}) is None)
    done = next(whole, layers)
    return done if find(work, "states", {"layers": done}) else 0


def clear(work: Path, done: int) -> None:
    """Remove what was being made when an attempt ended: also states of a layer that is not kept itself."""
    current = place(work, "states", {"layers": done}).name
    for leftover in (*work.glob("*.partial"), *work.glob("tmp*"), *work.glob("states-*")):
        if leftover.is_dir() and leftover.name != current:
            shutil.rmtree(leftover, ignore_errors=True)


def _one(number: int, before: Kept, advance: Callable[[int, States, Path], States], work: Path) -> Kept:
    """Keep a layer, and what came out of it instead of what went into it."""
    with TemporaryDirectory(dir=work) as scratch:
        made = Path(scratch)
        after = _keep_states(work, number + 1, lambda: advance(number, States.load(before.folder / STATES), made))

        def take(folder: Path) -> Facts:
            folder.mkdir()
            (made / WEIGHTS).rename(folder / WEIGHTS)
            return {}

        keep(work, "layer", {"number": number}, take, silent)
    discard(before)
    return after


def _keep_states(work: Path, layers: int, make: Callable[[], States]) -> Kept:
    """What comes out of so many layers."""

    def write(folder: Path) -> Facts:
        states = make()
        folder.mkdir()
        states.save(folder / STATES)
        return {}

    return keep(work, "states", {"layers": layers}, write, silent)
