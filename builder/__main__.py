"""`python -m builder`: the whole build, without a chat at its end."""

import argparse
import sys
from pathlib import Path

from builder import launch
from builder.build import build
from builder.errors import BuildError
from builder.flags import add_build_flags, models_dir_from, recipe_from, target_from
from builder.progress import terminal
from builder.source import parse_source


def main() -> int:
    """Build a model folder and print its path. Returns the exit code: 2 for an error the user can mend."""
    parser = argparse.ArgumentParser(prog="python -m builder", description=__doc__)
    add_build_flags(parser)
    parser.add_argument("--output", type=Path, help="the folder to make, instead of one below the models folder")
    flags = parser.parse_args()
    try:
        source = parse_source(flags.model, flags.revision)
        recipe, target = recipe_from(flags, source), target_from(flags)
        if flags.output and flags.output.exists():
            raise BuildError(f"--output {flags.output} exists: nothing is overwritten, so name a new folder.")
        with terminal() as report:
            if flags.output:
                built = build(launch.fetch(source, recipe), recipe, target, flags.output.absolute(), report)
            else:
                built = launch.make(source, recipe, target, models_dir_from(flags), report)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped: what was finished is kept, and the next build goes on from there.", file=sys.stderr)
        return 130
    print(launch.summary(built), file=sys.stderr)
    print(built)
    return 0


if __name__ == "__main__":
    sys.exit(main())
