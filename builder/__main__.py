"""`python -m builder`: the whole build, without a chat at its end; or one of its two heavy steps by itself."""

# As in app.py: what is imported later is private, is ours where it bears our names, and is imported where main answers.
import os
import sys

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main(argv: list[str] | None = None) -> int:
    """Build a model folder and print its path. Returns the exit code: 2 for an error the user can mend."""
    try:
        from builder.console import interrupts_end_it

        with interrupts_end_it():
            from builder.commands import run
        run(sys.argv[1:] if argv is None else argv)
    except (Exception, KeyboardInterrupt) as error:
        from builder.console import exit_code

        return exit_code(error, stopped="stopped: what was finished is kept, and the next build goes on from there.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
