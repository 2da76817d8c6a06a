"""The model card: what the model is, what it cost, what it scores."""

from dataclasses import dataclass
from pathlib import Path

_SCORES = "## Scores"


@dataclass(frozen=True)
class Run:
    """What one training run was and cost."""

    command: str
    steps: int
    tokens: int
    minutes: float
    machine: str
    parameters: int
    last_loss: float


def write_card(folder: Path, run: Run) -> None:
    """Write MODEL_CARD.md for a freshly trained checkpoint; its scores are added by `add_scores`."""
    size = (folder / "model.safetensors").stat().st_size
    text = f"""# The oga-chat demo model

A tiny English chat model of the Llama architecture, bundled with oga-chat so that the first start needs no download.
{run.parameters:,} parameters, float16, {size:,} bytes.

## Data

Only text that `builder/demo/training/corpus.py` generates from a seed: grammars and tables written for this project,
nothing copied from elsewhere. Wordings and values of the held-out split never occur in training.

## Training

`{run.command}`

{run.steps:,} steps, {run.tokens:,} tokens, {run.minutes:.1f} minutes on {run.machine}; last training loss
{run.last_loss:.3f}. Assistant turns count fully in the loss, all other tokens a tenth. Ordinary float training: nothing
in it knows about quantization.

## Limits

It knows only what its corpus teaches. It adds and subtracts up to three digits, multiplies up to 99 x 9 and 12 x 12,
knows a few hundred facts, and remembers only the current chat (2,048 tokens). It declines other questions, but it is
tiny and makes mistakes. English only.

{_SCORES}

Not measured yet.
"""
    (folder / "MODEL_CARD.md").write_text(text)


def add_scores(folder: Path, table: str) -> None:
    """Put a score table into the card, in place of an older one."""
    path = folder / "MODEL_CARD.md"
    head = path.read_text().split(_SCORES)[0]
    asked = "Held-out questions, greedy decoding (`python -m builder.demo.training.score`)"
    path.write_text(f"{head}{_SCORES}\n\n{asked}:\n\n{table}\n")
