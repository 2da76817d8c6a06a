"""A model that is served: its name, its engine, and what is known of it."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from serving.folder import ModelFolder, read_json
from serving.http.answers import AnswerEngine
from serving.http.requests.sampled import defaults_from
from serving.types import EngineStatus, SamplingOptions

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Served:
    """A model as requests see it. defaults: the options that its folder suggests; known: what clients are told of it.

    known: sizes are in bytes, losses in nats per token; what a folder that was made elsewhere does not record is left
    out.
    """

    name: str
    engine: AnswerEngine
    defaults: SamplingOptions
    known: Json

    @classmethod
    def of(cls, name: str, engine: AnswerEngine) -> "Served":
        """By the files of the engine's folder."""
        generation = engine.folder.path / "generation_config.json"
        defaults = defaults_from(read_json(generation) if generation.is_file() else {})
        return cls(name, engine, defaults, known_of(engine.folder))


def known_of(folder: ModelFolder) -> Json:
    """What is known of a model: how it was made, and what that lost."""
    recipe, target, quality = (
        part if isinstance(part := folder.manifest.get(key), dict) else {} for key in ("recipe", "target", "quality")
    )
    measured = next((part for kind in ("chats", "text") if isinstance(part := quality.get(kind), dict)), {})
    facts = {
        "size": folder.size,
        "quant_algo": recipe.get("quant_algo"),
        "group_size": recipe.get("group_size"),
        "execution_provider": target.get("execution_provider", folder.provider),
        "kl_divergence": measured.get("kl_divergence"),
        "top1_agreement": measured.get("top1_agreement"),
    }
    return {name: value for name, value in facts.items() if isinstance(value, int | float | str)}


def together(statuses: Collection[EngineStatus]) -> EngineStatus:
    """How busy all of them are."""
    return EngineStatus(
        sum(each.running for each in statuses),
        sum(each.waiting for each in statuses),
        sum(each.kv_bytes for each in statuses),
        sum(each.kv_limit for each in statuses),
        loaded=any(each.loaded for each in statuses),
    )
