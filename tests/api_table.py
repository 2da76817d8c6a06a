"""The README's table of endpoints and parameters, from the wire models: `python -m tests.api_table`."""

from pathlib import Path

from serving.http.document import SUMMARIES
from serving.http.requests.endpoints import REQUESTS

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- api: written by `python -m tests.api_table` -->\n", "<!-- end of api -->"
SHORT = {"/v1/chat/completions": "chat", "/v1/completions": "text", "/v1/responses": "responses"}


def table() -> str:
    """Markdown: the endpoints, then every parameter with those that take it."""
    rows = ["| endpoint | gives |", "|---|---|"]
    for path, summary in SUMMARIES.items():
        method = f"POST, *{SHORT[path]}* below" if path in REQUESTS else "GET"
        rows.append(f"| `{path}` ({method}) | {summary} |")
    rows += ["", "| parameter | of | what it does |", "|---|---|---|"]
    parameters: dict[tuple[str, str], list[str]] = {}
    for path, model in REQUESTS.items():
        for name, field in model.model_fields.items():
            parameters.setdefault((name, field.description or ""), []).append(SHORT[path])
    rows += [f"| `{name}` | {', '.join(of)} | {what} |" for (name, what), of in sorted(parameters.items())]
    return "\n".join(rows) + "\n"


def between_marks(readme: str) -> str:
    """The table as it stands in the README."""
    return readme.partition(BEGIN)[2].partition(END)[0]


def main() -> None:
    readme = README.read_text(encoding="utf-8")
    before, _, rest = readme.partition(BEGIN)
    README.write_text(before + BEGIN + table() + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
