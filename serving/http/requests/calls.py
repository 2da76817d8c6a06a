"""Functions that a model may call, and the calls that it made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, JsonValue
from pydantic_core import from_json

from serving.http.problems import Problem
from serving.http.requests.wire import Wire
from serving.text.tools import CallFormat, calling
from serving.types import Grammar


class Function(Wire):
    """A function that the model may call."""

    name: str = Field(pattern=r"^[\w.-]{1,64}$")
    description: str | None = None
    parameters: dict[str, JsonValue] | None = Field(None, description="JSON schema of its arguments")
    strict: bool | None = Field(None, description="hold the model to valid calls; of all tools, if of any")


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
    def chosen(cls, functions: Sequence[Function], choice: str | ChosenName | None, several: bool | None) -> "Calls":
        """From tools, tool_choice and parallel_tool_calls. Raises Problem."""
        functions = [] if choice == "none" else functions
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
        unread = {"strict", "type"}
        written = [function.model_dump(exclude_none=True, exclude=unread) for function in self.functions]
        return tuple({"type": "function", "function": function} for function in written) or None

    def grammar(self, form: CallFormat, wanted: Grammar | None) -> Grammar | None:
        """What holds the answer to these calls, where the request asks for more than that they be possible.

        wanted: the answer's own format. An answer that must be a call has no text, and so none that it could be for.
        """
        strict = any(function.strict for function in self.functions)
        if not (self.must or wanted or not self.several or strict):
            return None
        schema = from_json(wanted.text or '{"type": "object"}') if wanted else None
        functions = [function.model_dump() for function in self.functions]
        return calling(form, functions, self.must, self.several, schema)


def call_of(id: str, name: str, text: str, param: str) -> dict[str, Any]:
    """A call for the chat template. text: its arguments. Raises Problem, naming `param`, if they are no JSON object."""
    try:
        arguments = from_json(text, allow_inf_nan=False)
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise Problem.invalid("the arguments of a tool call must be a JSON object, as text.", param)
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
