"""Which clients there are, what each needs, and the script that is its shortest real use."""

from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).parent / "scripts"


@dataclass(frozen=True)
class Client:
    """A client. packages: of PyPI or npm, the one whose version is told first. script: in scripts/."""

    name: str
    script: str
    packages: tuple[str, ...]

    @property
    def file(self) -> Path:
        """The script."""
        return SCRIPTS / self.script

    @property
    def node(self) -> bool:
        """Whether it runs in Node, and not in Python."""
        return self.script.endswith(".mjs")

    @property
    def what(self) -> str:
        """What the script does, as its first line says."""
        first = self.file.read_text(encoding="utf-8").partition("\n")[0]
        return first.partition(": ")[2].rstrip('."')


CLIENTS = (
    Client("openai (Python)", "openai_python.py", ("openai",)),
    Client("openai (Node)", "openai_node.mjs", ("openai",)),
    Client("anthropic (Python)", "anthropic_python.py", ("anthropic",)),
    Client("anthropic (Node)", "anthropic_node.mjs", ("@anthropic-ai/sdk",)),
    Client("Vercel AI SDK", "ai_sdk.mjs", ("ai", "@ai-sdk/openai", "@ai-sdk/openai-compatible", "@ai-sdk/anthropic")),
    Client("LangChain", "langchain_chat.py", ("langchain-openai",)),
    Client("LlamaIndex", "llama_index_llm.py", ("llama-index-llms-openai-like",)),
    Client("LiteLLM", "litellm_python.py", ("litellm",)),
    Client("Instructor", "instructor_python.py", ("instructor",)),
    Client("Pydantic AI", "pydantic_ai_agent.py", ("pydantic-ai-slim", "pydantic-ai-slim[openai]")),
    Client("OpenAI Agents", "openai_agents.py", ("openai-agents",)),
    Client("Haystack", "haystack_generator.py", ("haystack-ai",)),
    Client("DSPy", "dspy_predict.py", ("dspy",)),
    Client("Guidance", "guidance_program.py", ("guidance", "openai")),
    Client("Outlines", "outlines_model.py", ("outlines", "openai")),
    Client("llm", "llm_command.py", ("llm",)),
    Client("aider", "aider_command.py", ("aider-chat",)),
    Client("Open WebUI", "open_webui.py", ("open-webui",)),
    Client("lm-eval", "lm_eval_tasks.py", ("lm-eval", "lm-eval[api]", "transformers")),
    Client("guidellm", "guidellm_command.py", ("guidellm",)),
)
