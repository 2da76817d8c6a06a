"""The table of endpoints and parameters in docs/api.md, from the wire models: `python -m tests.api_table`."""

from serving.http.document import SUMMARIES
from serving.http.requests.endpoints import REQUESTS
from tests.marks import Part

PART = Part("api.md", "python -m tests.api_table")
SHORT = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
    "/v1/messages/count_tokens": "count",
    "/tokenize": "tokenize",
    "/detokenize": "detokenize",
}


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


if __name__ == "__main__":
    PART.write(table())
