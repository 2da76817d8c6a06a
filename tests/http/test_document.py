"""What the API says of itself."""

import json
from typing import Any, cast

from serving.http.answers import AnswerEngine
from serving.http.document import SUMMARIES, document
from serving.http.requests.endpoints import REQUESTS
from tests import api_table
from tests.page.test_ui import Speaker
from tests.servers import api_served, asked


def test_the_table_is_the_one_written_from_the_wire_models() -> None:
    assert api_table.PART.read() == api_table.table(), f"run {api_table.PART.command}"


def test_every_parameter_is_explained() -> None:
    for path, model in REQUESTS.items():
        assert all(field.description for field in model.model_fields.values()), path


def test_the_served_document_names_every_route_and_its_references_lead_somewhere() -> None:
    with api_served(cast(AnswerEngine, Speaker()), "a model") as url:
        served = json.loads(asked(url, "/openapi.json")[2])
    assert served == document(served["info"]["version"], ["a model"])
    assert served["paths"].keys() == SUMMARIES.keys() >= REQUESTS.keys()

    def references(part: Any) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
            return own + [found for value in part.values() for found in references(value)]
        return [found for value in part for found in references(value)] if isinstance(part, list) else []

    found = {reference.rpartition("/")[2] for reference in references(served)}
    assert found <= served["components"]["schemas"].keys() and len(found) > 5
