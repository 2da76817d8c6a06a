"""Train the demo model from a seed to a Hugging Face folder: python -m builder.demo.training.train"""

import argparse
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import GenerationConfig, LlamaForCausalLM

from builder.demo import CHECKPOINT
from builder.demo.training import model, tokens
from builder.demo.training.card import Run, write_card
from builder.demo.training.drills import Drills
from builder.demo.training.shards import NONE, stream, worker_pool


@dataclass(frozen=True)
class Plan:
    """Everything that decides the result. `minutes`, if set, ends a run that `steps` would not have ended by then."""

    steps: int = 6800
    minutes: float = 0.0
    seed: int = 1
    device: str = "cpu"
    rows: int = 64
    length: int = 2048
    rate: float = 5e-3
    decay: float = 0.1
    muon: bool = True
    drills: Drills = NONE
    average: bool = False
    layers: int = 7
    hidden: int = 256
    intermediate: int = 768
    vocabulary: int = model.VOCABULARY
    tokenizer_samples: int = 30_000
    shard_steps: int = 8
    workers: int = 1
    compiled: bool = False
    save_minutes: float = 5.0


@dataclass
class State:
    """Where a training run is: saved, this is what resuming needs."""

    step: int = 0
    seconds: float = 0.0
    trained_tokens: int = 0
    losses: list[float] = field(default_factory=list)


def train(plan: Plan, out: Path, resume: bool = True, start: Path | None = None) -> Path:
    """Train by the plan and write the finished checkpoint to `out`, all at the end; goes on from `out/work`, if any.

    `start`: a finished checkpoint whose tokenizer and weights a new run begins with, instead of fresh ones.
    """
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(start / "tokenizer.json")) if start else _tokenizer(plan, work)
    assistant = tokens.assistant_id(tokenizer)
    shape = model.config(plan.layers, plan.hidden, plan.intermediate, tokenizer.get_vocab_size())
    net = model.new_model(shape, plan.seed, plan.device)
    before = LlamaForCausalLM.from_pretrained(start, dtype=torch.float32).to(plan.device) if start else None
    if before:
        net.load_state_dict(before.state_dict())
    optimizers = model.optimizers(net, plan.rate, plan.decay, plan.muon)
    state = _restore(work, net, optimizers) if resume else State()

    def loss_of(ids: Tensor) -> Tensor:
        return model.loss_of(net, ids, assistant)

    step_loss = torch.compile(loss_of, dynamic=False) if plan.compiled else loss_of
    autocast = torch.autocast(plan.device, dtype=torch.bfloat16)
    pool = worker_pool(plan.workers)
    started, saved = 0.0, state.seconds
    for batch in _batches(plan, state, pool, tokenizer.to_str()):
        factor = _rate_factor(plan, state)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = plan.rate * factor
        with autocast:
            loss = step_loss(batch)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        # The clock starts after the first step, which compiles and waits for the first shard.
        started = started or time.monotonic() - state.seconds
        state.step += 1
        state.trained_tokens += batch.numel()
        if state.step % 50 == 0 or state.step == 1:
            state.losses.append(loss.item())
            rate = state.trained_tokens / max(1e-9, time.monotonic() - started)
            print(f"step {state.step} loss {loss.item():.4f} lr x{factor:.3f} {rate:,.0f} tokens/s", flush=True)
        state.seconds = time.monotonic() - started
        if state.seconds - saved > plan.save_minutes * 60:
            _save(work, net, optimizers, state)
            saved = state.seconds
    if pool:
        pool.terminate()
    if before and plan.average:
        _average(net, before)
    _export(net, tokenizer, out)
    write_card(out, _run(plan, state, net, start))
    shutil.rmtree(work)
    return out


def _progress(plan: Plan, state: State) -> float:
    by_clock = state.seconds / (plan.minutes * 60) if plan.minutes else 0.0
    return max(by_clock, state.step / plan.steps)


def _rate_factor(plan: Plan, state: State) -> float:
    """Warm up over 100 steps (a tenth of a short run), hold, then go down to nothing from 40 % on."""
    done = _progress(plan, state)
    warm = min(1.0, (state.step + 1) / max(1, min(100, plan.steps // 10)))
    return warm * min(1.0, max(0.0, (1.0 - done) / 0.6))


def _batches(plan: Plan, state: State, pool: Pool | None, tokenizer_json: str) -> Iterator[Tensor]:
    """Batches [rows, length] until the plan is done. A resumed run gets what the whole run would have got."""
    first, skip = divmod(state.step, plan.shard_steps)
    rows = plan.rows
    size = rows * plan.shard_steps, plan.length, plan.drills
    for shard in stream(pool, plan.workers + 2, tokenizer_json, plan.seed, first, *size):
        data = torch.from_numpy(shard.astype("int32")).to(plan.device).long()
        for index in range(skip, plan.shard_steps):
            if _progress(plan, state) >= 1.0:
                return
            yield data[index * rows : (index + 1) * rows]
        skip = 0


def _tokenizer(plan: Plan, work: Path) -> Tokenizer:
    path = work / "tokenizer.json"
    if path.exists() and (work / "state.pt").exists():
        return Tokenizer.from_file(str(path))
    tokenizer = tokens.train_tokenizer(plan.seed, plan.vocabulary, plan.tokenizer_samples)
    tokenizer.save(str(path))
    return tokenizer


def _restore(work: Path, net: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer]) -> State:
    path = work / "state.pt"
    if not path.exists():
        return State()
    saved: dict[str, Any] = torch.load(path, map_location=net.device, weights_only=True)
    net.load_state_dict(saved["model"])
    for optimizer, values in zip(optimizers, saved["optimizers"], strict=True):
        optimizer.load_state_dict(values)
    return State(**saved["state"])


def _save(work: Path, net: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer], state: State) -> None:
    values = {"model": net.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "state": vars(state)}
    torch.save(values, work / "state.tmp")
    os.replace(work / "state.tmp", work / "state.pt")


@torch.no_grad()
def _average(net: LlamaForCausalLM, before: LlamaForCausalLM) -> None:
    """Half of what a second stage changed: it keeps more of the first than the whole (arXiv:2203.05482)."""
    for new, old in zip(net.parameters(), before.parameters(), strict=True):
        new.lerp_(old, 0.5)


def _export(net: LlamaForCausalLM, tokenizer: Tokenizer, out: Path) -> None:
    half = LlamaForCausalLM(net.config)
    half.load_state_dict(net.state_dict())
    half = half.half()
    half.config.dtype = torch.float16
    half.generation_config = GenerationConfig(
        bos_token_id=tokens.END_OF_TEXT_ID,
        eos_token_id=tokens.IM_END_ID,
        pad_token_id=tokens.END_OF_TEXT_ID,
        do_sample=True,
        temperature=0.6,
        top_p=0.9,
    )
    half.save_pretrained(out)
    tokens.save_tokenizer(tokenizer, out)


def _run(plan: Plan, state: State, net: LlamaForCausalLM, start: Path | None) -> Run:
    machine = f"one {torch.cuda.get_device_name()} GPU" if plan.device == "cuda" else "CPU"
    return Run(
        command=_command(replace(plan, steps=state.step), start),
        steps=state.step,
        tokens=state.trained_tokens,
        minutes=state.seconds / 60,
        machine=machine,
        parameters=sum(p.numel() for p in net.parameters()),
        last_loss=state.losses[-1] if state.losses else float("nan"),
    )


def _command(plan: Plan, start: Path | None) -> str:
    """The command line that repeats the plan (with its number of steps, whatever ended it)."""
    first = [f"--start {start.name}"] if start else []
    shown = ("steps", "seed", "rows", "length", "rate")
    flags = [f"--{name} {getattr(plan, name)}" for name in shown if getattr(plan, name) != getattr(Plan, name)]
    drills = (("letter", plan.drills.letters), ("manner", plan.drills.manners))
    flags += [f"--{kind}-drills {share}" for kind, share in drills if share]
    switches = [*(["--average"] if plan.average else []), *([] if plan.muon else ["--adamw"])]
    return " ".join(["python -m builder.demo.training.train", *first, *flags, *switches])


def main() -> None:
    """Parse the flags and train."""
    parser = argparse.ArgumentParser(
        prog="python -m builder.demo.training.train", description="Train the bundled demo model."
    )
    parser.add_argument("--out", type=Path, default=CHECKPOINT, help="folder of the finished checkpoint")
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument("--minutes", type=float, default=0.0, help="end after this time at the latest")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--rows", type=int, default=Plan.rows, help="rows in a step")
    parser.add_argument("--rate", type=float, default=Plan.rate, help="highest learning rate")
    parser.add_argument(
        "--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="processes that write text"
    )
    parser.add_argument("--adamw", action="store_true", help="use AdamW for all weights instead of Muon")
    parser.add_argument("--length", type=int, default=Plan.length, help="tokens in a row")
    parser.add_argument("--start", type=Path, help="begin with the tokenizer and weights of this finished checkpoint")
    parser.add_argument("--letter-drills", type=float, default=0.0, help="share of drills in letters (0 to 1)")
    parser.add_argument("--manner-drills", type=float, default=0.0, help="share of drills in manners (0 to 1)")
    parser.add_argument("--average", action="store_true", help="with --start: end half way between both models")
    parser.add_argument("--fresh", action="store_true", help="start over instead of resuming")
    flags = parser.parse_args()
    plan = Plan(
        steps=flags.steps,
        minutes=flags.minutes,
        device=flags.device,
        seed=flags.seed,
        rows=flags.rows,
        length=flags.length,
        rate=flags.rate,
        drills=Drills(flags.letter_drills, flags.manner_drills),
        average=flags.average,
        workers=flags.workers,
        muon=not flags.adamw,
        compiled=flags.device == "cuda",
    )
    train(plan, flags.out, resume=not flags.fresh, start=flags.start)


if __name__ == "__main__":
    main()
