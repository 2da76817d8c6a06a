"""Guidance: a chat with a generation in it."""

import os

from guidance import assistant, gen, models, user

model = models.OpenAI(os.environ["MODEL"], base_url=os.environ["OPENAI_BASE_URL"], echo=False)
with user():
    model += "hello"
with assistant():
    model += gen("answer", max_tokens=50)
assert model["answer"]
