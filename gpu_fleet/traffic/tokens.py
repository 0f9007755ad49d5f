"""How long prompts and answers are, where a trace tells only how many requests there were.

Both lengths are drawn from a lognormal distribution, independently of each other, rounded to whole tokens, at least 1
and at most a limit. The shape is fitted (maximum likelihood: mean and standard deviation of the logarithms) on the
19,366 requests of the conversation trace of the Azure LLM inference dataset 2023
(https://github.com/Azure/AzurePublicDataset, CC-BY-4.0):

    prompt   exp(6.633) = 760 tokens in the middle, sigma 0.985, largest seen 14,050
    answer   exp(5.019) = 151 tokens in the middle, sigma 0.859, largest seen 1,000

The logarithms of the two correlate with 0.09 there, which is why they are drawn independently. A lognormal is a fair
shape, not the truth: the trace's prompts have a second hump near 4,100 tokens that it does not show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

INPUT_SIGMA = 0.985
OUTPUT_SIGMA = 0.859
INPUT_MEDIAN_TOKENS = 760.0
OUTPUT_MEDIAN_TOKENS = 151.0
MOST_MEANS = 12.0
"""The longest prompt drawn, in means: 14,050 / 1,155 in the trace."""


@dataclass(frozen=True, slots=True)
class TokenLengths:
    """Distribution of prompt and answer lengths: medians in tokens, sigma of the logarithm, longest in tokens."""

    input_median: float = INPUT_MEDIAN_TOKENS
    input_sigma: float = INPUT_SIGMA
    input_most: float = 14_050.0
    output_median: float = OUTPUT_MEDIAN_TOKENS
    output_sigma: float = OUTPUT_SIGMA
    output_most: float = 1_000.0

    def __post_init__(self) -> None:
        for name in ("input_median", "output_median", "input_most", "output_most"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name}: must be at least 1 token (got {getattr(self, name)})")
        for name in ("input_sigma", "output_sigma"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: must not be negative (got {getattr(self, name)})")

    @classmethod
    def around(cls, input_tokens: float, output_tokens: float) -> Self:
        """The same spread around another typical request: `input_tokens` and `output_tokens` are its means.

        The mean of a lognormal is median * exp(sigma^2 / 2): means of 1000 and 200 give medians of 616 and 138.
        Raises ValueError where a mean is so small that its median would be below one token.
        """
        return cls(
            input_median=input_tokens / math.exp(INPUT_SIGMA**2 / 2),
            input_most=input_tokens * MOST_MEANS,
            output_median=output_tokens / math.exp(OUTPUT_SIGMA**2 / 2),
            output_most=output_tokens * MOST_MEANS,
        )

    @classmethod
    def fitted(cls, input_tokens: NDArray[np.float64], output_tokens: NDArray[np.float64]) -> Self:
        """The lognormals of greatest likelihood for these requests (lengths below one token count as one)."""
        inputs, outputs = np.maximum(input_tokens, 1.0), np.maximum(output_tokens, 1.0)
        return cls(
            input_median=float(np.exp(np.log(inputs).mean())),
            input_sigma=float(np.log(inputs).std()),
            input_most=float(inputs.max()),
            output_median=float(np.exp(np.log(outputs).mean())),
            output_sigma=float(np.log(outputs).std()),
            output_most=float(outputs.max()),
        )

    def draw(self, count: int, random: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Prompt and answer lengths of `count` requests, whole tokens as float64."""
        return (
            _lognormal(count, self.input_median, self.input_sigma, self.input_most, random),
            _lognormal(count, self.output_median, self.output_sigma, self.output_most, random),
        )


def _lognormal(
    count: int, median: float, sigma: float, most: float, random: np.random.Generator
) -> NDArray[np.float64]:
    lengths = random.lognormal(math.log(median), sigma, count)
    np.rint(lengths, out=lengths)
    return np.clip(lengths, 1.0, math.floor(most), out=lengths)
