"""What was measured, as a picture: four charts in one SVG file, which every browser shows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from xml.sax.saxutils import escape

from serving.bench.measure import Measured, Results
from serving.bench.report import served, tests

Points = Sequence[tuple[float, float]]
WIDTH, HEIGHT = 420, 270  # of a chart
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 16, 34, 40
_HEAD = 50
_COLOURS = ("#1f6feb", "#d1561f", "#2f9e44", "#8250df")


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines, each by the name of its runner and whether it is dashed. across: what the x axis has."""

    title: str
    across: str
    lines: Mapping[tuple[str, bool], Points]


def picture(results: Results) -> str:
    """An SVG file's text."""
    names = [runner.name for runner in results.runners]
    colours = {name: _COLOURS[which % len(_COLOURS)] for which, name in enumerate(names)}
    body = [
        f'<text x="16" y="22" font-size="15" font-weight="bold">{escape(results.model)}</text>',
        *(
            f'<text x="{16 + 130 * which}" y="42" fill="{colours[name]}">&#9679; {escape(name)}</text>'
            for which, name in enumerate(names)
        ),
    ]
    for which, chart in enumerate(charts(results)):
        x, y = which % 2 * WIDTH, _HEAD + which // 2 * HEIGHT
        body += [f'<g transform="translate({x},{y})">', *drawn(chart, colours), "</g>"]
    width, height = 2 * WIDTH, _HEAD + 2 * HEIGHT
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#24292f">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *body,
        "</svg>\n",
    ])  # fmt: skip


def charts(results: Results) -> tuple[Chart, ...]:
    """The four of them."""
    answer = results.plan.answer

    def speed(which: int) -> dict[tuple[str, bool], Points]:
        return {
            (runner.name, False): [
                (case.context, median(tests(case, answer)[which][1](sample.answers[0]) for sample in samples))
                for case, samples in runner.samples.items()
                if case.kind == "context"
            ]
            for runner in results.runners
        }

    def first(runner: Measured, later: bool) -> Points:
        return [
            (
                case.context,
                1000
                * median(answer.first for one in samples if (answer := one.follow_up if later else one.answers[0])),
            )
            for case, samples in runner.samples.items()
            if case.kind == "context"
        ]

    waits = {(runner.name, later): first(runner, later) for runner in results.runners for later in (False, True)}
    crowd: dict[tuple[str, bool], Points] = {
        (runner.name, False): [
            (case.users, served(samples)["output_throughput"])
            for case, samples in runner.samples.items()
            if case.kind == "users"
        ]
        for runner in results.runners
    }
    return (
        Chart("prefill, tokens/s", "tokens of the prompt", speed(0)),
        Chart(f"decode of {answer} tokens, tokens/s", "tokens of the prompt", speed(1)),
        Chart("time to first token, ms (dashed: follow-up)", "tokens of the prompt", waits),
        Chart("all users together, tokens/s", "users at once", crowd),
    )


def drawn(chart: Chart, colours: Mapping[str, str]) -> list[str]:
    """A chart's elements. Both axes begin at 0."""
    points = [point for line in chart.lines.values() for point in line]
    most_x, most_y = (max((point[axis] for point in points), default=1.0) or 1.0 for axis in (0, 1))
    step = tick(most_y)
    top = step * -(-most_y // step)
    bottom = HEIGHT - _BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + x / most_x * (WIDTH - _LEFT - _RIGHT),
            bottom - y / top * (bottom - _TOP),
        )

    elements = [f'<text x="{_LEFT}" y="20" font-weight="bold">{escape(chart.title)}</text>']
    for number in range(round(top / step) + 1):
        _, y = at(0, number * step)
        elements.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#d0d7de"/>')
        elements.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number * step:,g}</text>')
    for value in sorted({point[0] for point in points}):
        x, _ = at(value, 0)
        elements.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>')
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    elements.append(f'<text x="{middle}" y="{bottom + 33}" text-anchor="middle">{escape(chart.across)}</text>')
    for (name, dashed), line in chart.lines.items():
        spots = [at(*point) for point in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        elements.append(f'<polyline points="{path}" fill="none" stroke="{colours[name]}" stroke-width="2"{dash}/>')
        elements += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colours[name]}"/>' for x, y in spots]
    return elements


def tick(most: float) -> float:
    """The distance of the lines behind a chart up to `most`: 1, 2 or 5 times a power of ten, six of them at most."""
    power: float = 10.0 ** math.floor(math.log10(most / 6))
    return next(power * factor for factor in (1, 2, 5, 10) if most / (power * factor) <= 6)
