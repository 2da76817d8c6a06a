"""DSPy: a call of the model, and a signature by JSON schema."""

import os

import dspy
import litellm

model = f"openai/{os.environ['MODEL']}"
litellm.register_model({model: {"litellm_provider": "openai", "mode": "chat", "supports_response_schema": True}})
lm = dspy.LM(model, api_base=os.environ["OPENAI_BASE_URL"], cache=False, num_retries=0)
assert lm("hello")[0]
dspy.configure(lm=lm, adapter=dspy.JSONAdapter())
assert isinstance(dspy.Predict("question -> answer: bool")(question="Is 2 even?").answer, bool)
