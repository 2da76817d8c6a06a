"""A parser of flags that answers a mistake with one line: what was meant, perhaps, and where help is."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

_OGA = ("onnxruntime-genai", "onnxruntime-genai-cuda", "onnxruntime-genai-winml")  # builds of one library


class Parser(argparse.ArgumentParser):
    """Every long flag may be written with underscores too, as Quark's own scripts do, but none may be cut short."""

    def __init__(self, prog: str, description: str | None, **settings: Any) -> None:
        super().__init__(prog, description=description, allow_abbrev=False, **settings)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """The flags of sys.argv, or of `args`. A mistake ends the program with code 2."""
        words = kebab(sys.argv[1:] if args is None else args)
        for word in words:  # before argparse: it would rather miss the flag that was meant, where that is required
            name = word.partition("=")[0]
            if name.startswith("--") and name not in self._option_string_actions:
                self.error(f"there is no flag {name}{_meant(name, self._option_string_actions)}")
        flags, unknown = self.parse_known_args(words, namespace)
        if unknown:
            self.error(f"{unknown[0]!r} belongs to no flag")
        return flags

    def error(self, message: str) -> NoReturn:
        """End the program with code 2 and one line."""
        line = " ".join(message.removeprefix("argument ").split())
        self.exit(2, f"error: {line}{'' if line.endswith('?') else '.'} '{self.prog} --help' tells more.\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            among = f"one of {', '.join(known)}" if len(known) > 1 else known[0]
            raise argparse.ArgumentError(action, f"must be {among}, not {str(value)!r}{_meant(str(value), known)}")


class Version(argparse.Action):
    """Prints which versions are installed of this program and of what it stands on. Imports none of them."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help="print it and end")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        """Print them and end the program."""
        print(f"{_version('oga-chat')} ({_version(*_OGA)}, {_version('amd-quark')})")
        parser.exit()


def kebab(arguments: Iterable[str]) -> list[str]:
    """Long flags as they are spelled here, with hyphens."""
    spelled = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        spelled.append(name.replace("_", "-") + equals + value if name.startswith("--") else argument)
    return spelled


def _meant(word: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    known = list(known)
    close = [name for name in known if name.startswith(word)]
    close = close if len(close) == 1 else get_close_matches(word, known, 1)
    return f": did you mean {close[0]}?" if close else ""


def _version(*packages: str) -> str:
    """Name and version of the first of these that is installed."""
    from importlib.metadata import PackageNotFoundError, version

    for package in packages:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
    return f"{packages[0]} not installed"
