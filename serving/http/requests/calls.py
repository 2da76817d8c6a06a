"""Functions that a model may call, and the calls that it made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field
from pydantic_core import from_json

from serving.http.problems import Problem
from serving.http.requests.wire import Schema, Wire
from serving.text.tools import CallFormat, calling
from serving.types import Grammar


class Function(Wire):
    """A function that the model may call. What comes from JSON is not looked through once more: see Schema."""

    name: str = Field(pattern=r"^[\w.-]{1,128}$")
    description: str | None = None
    parameters: Schema | None = Field(None, description="JSON schema of its arguments")
    strict: bool | None = Field(None, description="hold the model to valid calls; of all tools, if of any")

    def written(self) -> dict[str, Any]:
        """The function as chat templates read it."""
        said = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": {name: value for name, value in said.items() if value is not None}}


class ChosenName(Wire):
    """A function's name."""

    name: str


@dataclass(frozen=True, slots=True)
class Calls:
    """What an answer may call, or has to. several: more than one call at once."""

    functions: tuple[Function, ...]
    must: bool
    several: bool

    @classmethod
    def chosen(
        cls,
        functions: Sequence[Function],
        choice: str | ChosenName | None,
        several: bool | None,
        allowed: Sequence[ChosenName] | None = None,
    ) -> "Calls":
        """From tools, tool_choice (allowed: the tools that it names) and parallel_tool_calls. Raises Problem."""
        functions = [] if choice == "none" else functions
        if allowed is not None:
            names = {each.name for each in allowed}
            if unknown := sorted(names - {function.name for function in functions}):
                raise Problem.invalid(
                    f"tool_choice allows {unknown[0]!r}, which is not among the tools.", "tool_choice"
                )
            functions = [function for function in functions if function.name in names]
        if isinstance(choice, ChosenName):
            functions = [function for function in functions if function.name == choice.name]
            if not functions:
                raise Problem.invalid(
                    f"tool_choice names {choice.name!r}, which is not among the tools.", "tool_choice"
                )
        if len({function.name for function in functions}) < len(functions):
            raise Problem.invalid("two tools have the same name.", "tools")
        must = choice == "required" or isinstance(choice, ChosenName)
        return cls(tuple(functions), must, several is not False)

    def template(self) -> tuple[dict[str, Any], ...] | None:
        """The functions as chat templates read them."""
        return tuple(function.written() for function in self.functions) or None

    def grammar(self, form: CallFormat, wanted: Grammar | None) -> Grammar | None:
        """What holds the answer to these calls, where the request asks for more than that they be possible.

        wanted: the answer's own format. An answer that must be a call has no text, and so none that it could be for.
        Raises Problem for one that is not JSON.
        """
        if wanted and wanted.kind not in ("json_object", "json_schema"):
            raise Problem.invalid(f"an answer that follows a {wanted.kind} cannot call: leave tools out.", "tools")
        strict = any(function.strict for function in self.functions)
        if not (self.must or wanted or not self.several or strict):
            return None
        schema = _schema(wanted) if wanted else None
        functions = [{"name": function.name, "parameters": function.parameters} for function in self.functions]
        return calling(form, functions, self.must, self.several, schema)


def _schema(wanted: Grammar) -> Any:
    try:
        return from_json(wanted.text or '{"type": "object"}')
    except ValueError as error:
        raise Problem.invalid(f"the schema of the answer is not JSON: {error}.") from None


def call_of(id: str, name: str, given: str | dict[str, Any], param: str) -> dict[str, Any]:
    """A call for the chat template. given: its arguments. Raises Problem naming `param`, if they are no JSON object."""
    arguments: Any = given
    if isinstance(given, str):
        try:
            arguments = from_json(given or "{}", allow_inf_nan=False)  # some write nothing where there are none
        except ValueError:
            arguments = None
    if not isinstance(arguments, dict):
        raise Problem.invalid("the arguments of a tool call must be a JSON object, as text.", param)
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
