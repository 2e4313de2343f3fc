"""How an evaluator takes part in commands that need no spec, ``dfz score`` and ``dfz compare``. Free of torch."""

from collections.abc import Callable, Mapping
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class ScorecardUse:
    """What a scorecard asks of an evaluator.

    Attributes:
        most_samples: images that it sees at most, unless all is measured in full (``--full``); None for no bound.
        fields: fields of its spec.
        brief_fields: further ones, unless all is measured in full.
    """

    most_samples: int | None = None
    fields: Mapping[str, Any] = attrs.field(factory=dict)
    brief_fields: Mapping[str, Any] = attrs.field(factory=dict)

    def settings(self, num_samples: int, full: bool) -> dict[str, Any]:
        """The fields of the evaluator's spec for this many images."""
        if full:
            return {**self.fields, "num_samples": num_samples}
        count = num_samples if self.most_samples is None else min(self.most_samples, num_samples)
        return {**self.fields, **self.brief_fields, "num_samples": count}


@attrs.frozen(kw_only=True)
class ComparisonUse:
    """What a comparison of two folders of images asks of an evaluator of real and generated images.

    Attributes:
        of_features: whether there is one for each of the feature networks that are asked for, by its field
            ``features``.
        paired: whether it takes as many images of the one set as of the other, and always both at once. The others
            take batches of one set alone, too.
        settings: fields of its spec, by the number of images of the smaller set.
    """

    of_features: bool = False
    paired: bool = False
    settings: Callable[[int], Mapping[str, Any]] = lambda count: {}
