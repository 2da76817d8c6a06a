"""Instructor: an object by JSON schema and by a tool."""

import os

import instructor
from openai import OpenAI
from pydantic import BaseModel


class Reply(BaseModel):
    """What the answer must be."""

    yes: bool


messages = [{"role": "user", "content": "yes or no?"}]
for mode in (instructor.Mode.JSON_SCHEMA, instructor.Mode.TOOLS):
    asking = instructor.from_openai(OpenAI(), mode=mode).chat.completions.create
    made = asking(model=os.environ["MODEL"], messages=messages, response_model=Reply, max_retries=0)
    assert isinstance(made, Reply)
