"""An engine that draws nothing: made-up rollouts of the usual size, at once, for `scale.py`."""

from collections.abc import Iterator, Sequence

from attrib.sampling.engine import Answered, Engine, FinishReason, Request, Rollout, SamplingParams
from attrib.sampling.engines import EngineSettings
from attrib.sampling.models import ModelFiles

TOKENS = 12
CHARACTERS = 44


class MadeUpEngine:
    """Answers with what is at hand."""

    name = "made-up"
    is_reproducible = True

    def respond(
        self, requests: Sequence[Request], params: SamplingParams, seed: int
    ) -> Iterator[Answered]:
        """Yield rollouts of twelve tokens and forty-four characters each."""
        for position, request in enumerate(requests):
            drawn = []
            for index in range(request.first, request.stop):
                words = f"{request.stream} {index} and so on and so on and on"
                token_ids = tuple(range(index, index + TOKENS))
                text = words[:CHARACTERS]
                drawn.append(Rollout(index, text, token_ids, TOKENS, -1.0, FinishReason.STOP))
            yield Answered(position, drawn)


def make(settings: EngineSettings, files: ModelFiles) -> Engine:
    """Return the engine."""
    return MadeUpEngine()
