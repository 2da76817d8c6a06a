"""Every attack on the program, and what came of it.

    python -m tests.attacks FOLDER [--only TEXT ...] [--rounds 3] [--span 3] [--keep]

FOLDER: the exported demo. A row for each attack: what the attacker got (status codes, and other outcomes); the longest
wait of a neighbour who asks short questions all the time, beside one long request (median of all rounds that the server
had so far) and beside the attack (median of its rounds); memory of all processes after over before; seconds that
SIGTERM took under attack; what is not as it shall.
"""

import argparse
import signal
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.attacks.measure import Attack, Result, Served, measured
from tests.attacks.table import ATTACKS

HEAD = (
    "| attack | answers | neighbour's longest wait, ms | ratio | memory | peak, MiB | SIGTERM, s | faults |\n"
    "|---|---|---|---|---|---|---|---|"
)


def row(result: Result) -> str:
    """One line of the table."""
    answers = ", ".join(f"{count} x {outcome}" for outcome, count in sorted(result.answers.items()) if count)
    usual, worst = (1000 * statistics.median(waits or [0]) for waits in (result.usual, result.worst))
    ended = "-" if not result.end else "never" if result.ended is None else f"{result.ended:.1f}"
    faults = "; ".join(result.faults)
    return (
        f"| {result.name} | {answers} | {usual:.0f} -> {worst:.0f} | {result.waiting:.1f} | {result.memory:.2f} | "
        f"{result.peak >> 20} | {ended} | {faults} |"
    )


def results(attacks: Sequence[Attack], flags: argparse.Namespace) -> Iterator[Result]:
    """Each on a server of its own; with --keep on that of the one before, if it is of the same kind and unharmed."""
    served: Served | None = None
    try:
        for attack in attacks:
            if served and not served.takes(attack):
                served.close()
                served = None
            served = served or Served(attack, flags.folder, used=flags.rounds > 0)
            result = measured(served, attack, flags.rounds, flags.span, not flags.keep)
            yield result
            if result.faults or not flags.keep:
                served.close()
                served = None
    finally:
        if served:
            served.close()


def main() -> int:
    """Print the table. Returns how many attacks did harm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="attacks whose name has one of these")
    parser.add_argument("--rounds", type=int, default=3, help="0: only SIGTERM under attack")
    parser.add_argument("--span", type=float, default=3.0, metavar="SECONDS", help="how long a round attacks")
    parser.add_argument("--keep", action="store_true", help="go on with a server that was not harmed; no SIGTERM")
    flags = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # through every `finally`: no server shall stay behind
    chosen = [attack for attack in ATTACKS if any(text in attack.name for text in flags.only)]
    print(HEAD, flush=True)
    harmed = 0
    for result in results(chosen, flags):
        print(row(result), flush=True)
        harmed += bool(result.faults)
    print(f"\n{len(chosen)} attacks, {harmed} of which did harm.")
    return min(harmed, 100)


if __name__ == "__main__":
    sys.exit(main())
