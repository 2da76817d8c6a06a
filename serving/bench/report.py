"""What was measured, as tables in Markdown and as JSON: llama-bench's names for one answer, vLLM's for users at once.

`llama-bench` calls reading a prompt of 512 tokens pp512, and decoding 64 after them tg64 @ d512; `vllm bench serve` has
throughput, TTFT (time to first token) and TPOT (time per output token after the first).
"""

import platform
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np

from serving.bench.measure import Measured, Results, Sample
from serving.bench.plan import Case
from serving.bench.runners import Answer

_LIBRARIES = ("oga-chat", "onnxruntime-genai", "onnxruntime", "llama-cpp-python")
_NANO = 1e9
_MS = 1000.0


def tables(results: Results) -> str:
    """All of it, in Markdown."""
    return "\n\n".join(
        "\n".join(table) for table in (speeds(results), first_tokens(results), users(results), memory(results)) if table
    )


def speeds(results: Results) -> list[str]:
    """Tokens/s of one user, as llama-bench has them; and over the last runner's, where that is another program."""
    ours, theirs = _sides(results)
    heads = ["model", "size", "backend", "threads", "test", "t/s", *([f"over {theirs.name}"] if theirs else [])]
    rows = []
    for runner in results.runners:
        for case in _cases(runner, "context"):
            for test, speed in tests(case, results.plan.answer):
                found = _of(runner, case, speed)
                cells = [results.model, _mib(runner.size), runner.name, str(runner.threads), test, _spread(found)]
                if theirs:
                    cells.append(f"x{over(found, _of(theirs, case, speed)):.2f}" if runner in ours else "")
                rows.append(cells)
    return _table(heads, rows)


def first_tokens(results: Results) -> list[str]:
    """Time to the first token by context, of a prompt that is new, and of a follow-up to its answer."""
    heads = ["backend", "context", "Median TTFT (ms)", "follow-up: Median TTFT (ms)", "cached tokens", "new tokens"]
    rows = []
    for runner in results.runners:
        for case in _cases(runner, "context"):
            later = [sample.follow_up for sample in runner.samples[case] if sample.follow_up]
            cached = int(median(answer.cached_tokens for answer in later))
            rows.append([
                runner.name, str(case.context), f"{_MS * median(_of(runner, case, lambda one: one.first)):.1f}",
                f"{_MS * median(answer.first for answer in later):.1f}", str(cached),
                str(int(median(answer.prompt_tokens for answer in later)) - cached),
            ])  # fmt: skip
    return _table(heads, rows)


def users(results: Results) -> list[str]:
    """Several users at once, as vllm bench serve has it; and tokens/s over the last runner's, if another program's."""
    ours, theirs = _sides(results)
    heads = [
        "backend", "Maximum request concurrency", "Output token throughput (tok/s)", "over one user",
        "Request throughput (req/s)", "Median TTFT (ms)", "P99 TTFT (ms)", "Median TPOT (ms)",
        *([f"over {theirs.name}"] if theirs else []),
    ]  # fmt: skip
    rows = []
    for runner in results.runners:
        cases = _cases(runner, "users")
        for case in cases:
            said = served(runner.samples[case])
            alone = over(_throughputs(runner.samples[case]), _throughputs(runner.samples[cases[0]]))
            rows.append([
                runner.name, str(case.users), f"{said['output_throughput']:.1f}",
                f"x{alone:.2f}" if cases[0].users == 1 else "", f"{said['request_throughput']:.2f}",
                *(f"{said[name]:.1f}" for name in ("median_ttft_ms", "p99_ttft_ms", "median_tpot_ms")),
            ])  # fmt: skip
            if theirs:
                ratio = over(_throughputs(runner.samples[case]), _throughputs(theirs.samples[case]))
                rows[-1].append(f"x{ratio:.2f}" if runner in ours else "")
    return _table(heads, rows)


def memory(results: Results) -> list[str]:
    """What the process of each held: after loading, with the longest context, with all users, and at most."""
    titles = {"loaded": "loaded", "context": f"{results.plan.fitted(results.window)[-1]} tokens", "users": "users"}
    rows = []
    for runner in results.runners:
        peak = max((held.peak or 0 for held in runner.memory.values()), default=0)
        held = [_mib(runner.memory[moment].rss) if moment in runner.memory else "" for moment in titles]
        rows.append([runner.name, _mib(runner.size), *held, _mib(peak) if peak else ""])
    return _table(["backend", "size", *(f"memory: {title}" for title in titles.values()), "peak"], rows)


def facts(results: Results) -> dict[str, Any]:
    """All of it, as JSON: `tests` with llama-bench's fields, `serving` with those of vllm bench serve."""
    about = {"model_filename": results.model, "cpu_info": _processor(), "versions": dict(_versions())}
    measured: list[dict[str, Any]] = []
    first: list[dict[str, Any]] = []
    serving: list[dict[str, Any]] = []
    for runner in results.runners:
        base = {"backend": runner.name, "n_threads": runner.threads, "model_size": runner.size}
        for case in _cases(runner, "context"):
            answer = results.plan.answer
            for (_, speed), (prompt, made, depth) in zip(
                tests(case, answer), ((case.context, 0, 0), (0, answer, case.context)), strict=True
            ):
                found = _of(runner, case, speed)
                nanoseconds = [_NANO * (prompt or made - 1) / each for each in found]
                measured.append({
                    **base, "n_prompt": prompt, "n_gen": made, "n_depth": depth,
                    "avg_ns": mean(nanoseconds), "stddev_ns": _deviation(nanoseconds), "samples_ns": nanoseconds,
                    "avg_ts": mean(found), "stddev_ts": _deviation(found), "samples_ts": found,
                })  # fmt: skip
            later = [sample.follow_up for sample in runner.samples[case] if sample.follow_up]
            first.append({
                "backend": runner.name, "n_prompt": case.context,
                "ttft_ms": [_MS * each for each in _of(runner, case, lambda one: one.first)],
                "follow_up_ttft_ms": [_MS * one.first for one in later],
                "follow_up_prompt_tokens": [one.prompt_tokens for one in later],
                "follow_up_cached_tokens": [one.cached_tokens for one in later],
            })  # fmt: skip
        serving += [
            {"backend": runner.name, "max_concurrency": case.users, **served(runner.samples[case])}
            for case in _cases(runner, "users")
        ]
    held = [
        {"backend": runner.name, "moment": moment, "rss": one.rss, "peak": one.peak}
        for runner in results.runners
        for moment, one in runner.memory.items()
    ]
    return {**about, "tests": measured, "ttft": first, "serving": serving, "memory": held}


def tests(case: Case, answer: int) -> tuple[tuple[str, Callable[[Answer], float]], ...]:
    """What one answer tells, by llama-bench's name of the test; tokens/s."""
    return (
        (f"pp{case.context}", lambda one: one.prefill_speed),
        (f"tg{answer} @ d{case.context}", lambda one: one.decode_speed),
    )


def served(samples: Sequence[Sample]) -> dict[str, float]:
    """Of all rounds with so many users, with the names and meanings of vllm bench serve's result file."""
    answers = [answer for sample in samples for answer in sample.answers]
    duration = sum(sample.seconds for sample in samples)
    read, made = (sum(count) for count in zip(*((a.prompt_tokens, len(a.token_ids)) for a in answers), strict=True))
    said: dict[str, float] = {
        "duration": duration, "completed": len(answers), "total_input_tokens": read, "total_output_tokens": made,
        "request_throughput": len(answers) / duration, "output_throughput": made / duration,
        "total_token_throughput": (read + made) / duration,
    }  # fmt: skip
    for name, seconds in (("ttft", [a.first for a in answers]), ("tpot", [a.per_token for a in answers])):
        milliseconds = _MS * np.asarray(seconds)
        said |= {
            f"mean_{name}_ms": float(milliseconds.mean()),
            f"median_{name}_ms": float(np.median(milliseconds)),
            f"std_{name}_ms": float(milliseconds.std()),
            f"p99_{name}_ms": float(np.percentile(milliseconds, 99)),
        }
    return said


def over(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How many times as much, round by round: the median, so that a noisy round says nothing."""
    return median(a / b for a, b in zip(ours, theirs, strict=True))


def _sides(results: Results) -> tuple[list[Measured], Measured | None]:
    *ours, last = results.runners
    return (ours, last) if last.name == "llama.cpp" else ([*ours, last], None)


def _cases(runner: Measured, kind: str) -> list[Case]:
    return [case for case in runner.samples if case.kind == kind]


def _of(runner: Measured, case: Case, what: Callable[[Answer], float]) -> list[float]:
    return [what(sample.answers[0]) for sample in runner.samples[case]]


def _throughputs(samples: Sequence[Sample]) -> list[float]:
    return [sum(len(answer.token_ids) for answer in sample.answers) / sample.seconds for sample in samples]


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.2f} ± {_deviation(values):.2f}"


def _mib(count: int) -> str:
    return f"{count / (1 << 20):,.2f} MiB" if count < 100 << 20 else f"{count / (1 << 20):,.0f} MiB"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


def _versions() -> Iterator[tuple[str, str]]:
    for library in _LIBRARIES:
        try:
            yield library, version(library)
        except PackageNotFoundError:
            continue


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
