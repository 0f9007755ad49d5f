"""Lengths of prompts and answers, drawn for a trace that knows only rates.

Both are drawn from a lognormal distribution, independently of each other, rounded to whole tokens and limited. The
figures are fitted (maximum likelihood: mean and standard deviation of the logarithms) to the 19,366 requests of the
conversation trace of the Azure LLM inference dataset 2023 (https://github.com/Azure/AzurePublicDataset, CC-BY-4.0).
The logarithms of the two correlate with 0.09 there, so drawing them independently loses little. A lognormal is a fair
shape, not the truth: it lacks the second hump that the trace's prompts have near 4,100 tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TokenLengths:
    """A lognormal distribution of lengths in whole tokens, from 1 to `longest`."""

    median: float
    sigma: float
    """Standard deviation of the logarithm."""
    longest: float

    def draw(self, count: int, random: np.random.Generator) -> NDArray[np.float64]:
        """Draw `count` lengths: whole tokens as float64."""
        lengths = random.lognormal(math.log(self.median), self.sigma, count)
        np.rint(lengths, out=lengths)
        return np.clip(lengths, 1.0, math.floor(self.longest), out=lengths)


PROMPTS = TokenLengths(median=760.0, sigma=0.985, longest=14_050.0)
ANSWERS = TokenLengths(median=151.0, sigma=0.859, longest=1_000.0)
