"""What is kept of a quantization that is stopped, and what is made again."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from builder.kept.results import Facts, keep
from builder.progress import Step, silent
from builder.stages.layerwise import STATES, WEIGHTS, States, finished, run

LAYERS = 5


class Stop(Exception):
    """Stands for whatever ends the process."""


class Layers:
    """Layers that add one, and remember which of them were made."""

    def __init__(self, stop_in: int = -1) -> None:
        self.made: list[int] = []
        self.stop_in = stop_in

    def first(self) -> States:
        self.made.append(-1)
        return States(
            [torch.zeros(1, 2, 4), torch.ones(1, 2, 4)], [torch.full((1, 3, 4), 2.0)], torch.full((1, 1, 4), 3.0)
        )

    def advance(self, number: int, before: States, folder: Path) -> States:
        self.made.append(number)
        save_file({f"layers.{number}": before.proof.clone()}, folder / WEIGHTS)
        if number == self.stop_in:
            raise Stop
        return States([s + 1 for s in before.calibration], [s + 1 for s in before.measured], before.proof + 1)


def go(layers: Layers, work: Path, report: Callable[[Step], None] = silent) -> tuple[States, list[Path]]:
    return run(LAYERS, layers.first, layers.advance, work, report)


def test_every_layer_gets_what_the_one_before_it_made(tmp_path: Path) -> None:
    layers = Layers()
    states, files = go(layers, tmp_path)
    assert layers.made == [-1, 0, 1, 2, 3, 4]
    assert [float(s[0, 0, 0]) for s in (*states.calibration, *states.measured, states.proof)] == [5, 6, 7, 8]
    assert [list(load_file(file)) for file in files] == [[f"layers.{number}"] for number in range(LAYERS)]
    assert [float(load_file(file)[f"layers.{n}"][0, 0, 0]) for n, file in enumerate(files)] == [3, 4, 5, 6, 7]


def test_no_finished_layer_is_made_again(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        go(Layers(stop_in=3), tmp_path)
    again, steps = Layers(), list[Step]()
    states, files = go(again, tmp_path, steps.append)
    assert again.made == [3, 4]
    assert steps[0].note == "3 of 5 layers were finished before: going on with layer 4."
    assert float(states.proof[0, 0, 0]) == 8
    assert len(files) == LAYERS


def test_when_all_are_finished_none_is_made(tmp_path: Path) -> None:
    made, _ = go(Layers(), tmp_path)
    again = Layers()
    assert torch.equal(go(again, tmp_path)[0].proof, made.proof)
    assert again.made == []


def test_states_of_a_layer_that_is_not_kept_are_not_taken_for_finished_work(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        go(Layers(stop_in=3), tmp_path)
    for part in tmp_path.glob("layer-*"):  # as a kill between the two leaves it
        if part.is_dir() and "layers.2" in load_file(part / WEIGHTS):
            part.with_suffix(".json").unlink()
    assert finished(tmp_path, LAYERS) == 0  # what went into layer 2 was given up for what came out of it
    again = Layers()
    states, _ = go(again, tmp_path)
    assert again.made[0] == -1 and float(states.proof[0, 0, 0]) == 8


def test_what_came_out_of_a_layer_does_not_stand_for_its_weights(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        go(Layers(stop_in=3), tmp_path)

    def states(folder: Path) -> Facts:
        folder.mkdir()
        Layers().first().save(folder / STATES)
        return {}

    keep(tmp_path, "states", {"layers": 4}, states, silent)  # kept before the layer, and then came the kill
    again = Layers()
    assert float(go(again, tmp_path)[0].proof[0, 0, 0]) == 8
    assert again.made == [3, 4]


def test_a_layer_that_the_disk_spoiled_is_made_again(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        go(Layers(stop_in=4), tmp_path)
    spoiled = next(part for part in tmp_path.glob("layer-*") if part.is_dir())
    (spoiled / WEIGHTS).write_bytes(b"\0" * (spoiled / WEIGHTS).stat().st_size)
    states, files = go(Layers(), tmp_path)
    assert float(states.proof[0, 0, 0]) == 8
    assert [list(load_file(file)) for file in files] == [[f"layers.{number}"] for number in range(LAYERS)]


def test_after_the_first_layer_it_is_known_what_is_left(tmp_path: Path) -> None:
    steps = list[Step]()
    go(Layers(), tmp_path, steps.append)
    assert [step.note for step in steps] == [f"layer {n} of 5" for n in range(1, 6)]
    assert [step.left is None for step in steps] == [True, False, False, False, False]
