"""Outlines: text, and an object by JSON schema."""

import os

import outlines
from openai import OpenAI
from pydantic import BaseModel


class Reply(BaseModel):
    """What the answer must be."""

    yes: bool


model = outlines.from_openai(OpenAI(), os.environ["MODEL"])
assert model("hello")
assert Reply.model_validate_json(model("yes or no?", Reply, max_tokens=200))
