"""Fusion of features of several depths and networks, by attention and then level by level.

Level one, within a source: a few learnt queries attend over its tokens (multi-scale attention,
since sources are maps of different sides and depths). Level two, within a group: its sources are
weighed by a softmax of their own content. Level three: so are the groups, which are the
transformer's depths, the critic's maps, the self-supervised vector and a pretrained stem. Each
group also tells the findings by a small head of its own while training (deep supervision: Lee et
al., AISTATS 2015), so that no group is left without a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

Sources = dict[str, tuple[Tensor, ...]]
"""By group, the tokens (B, N, C) of each of its sources."""
_QUERIES = 4


class AttentionPool(nn.Module):
    """Tokens (B, N, C) to one vector (B, F): each query attends for its share of F."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.values = nn.Linear(channels, width)
        self.scores = nn.Linear(channels, _QUERIES, bias=False)  # a softmax ignores a shift

    def forward(self, tokens: Tensor) -> Tensor:
        """Pool."""
        normed = self.norm(tokens)
        weights = torch.softmax(self.scores(normed), dim=1)  # (B, N, Q)
        values = self.values(normed).unflatten(2, (_QUERIES, -1))  # (B, N, Q, F / Q)
        pooled: Tensor = (weights.unsqueeze(3) * values).sum(dim=1).flatten(1)
        return pooled


class Gate(nn.Module):
    """Vectors (B, K, F) to their weighted sum (B, F), the weights from the vectors themselves."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """Weigh and sum."""
        normed = self.norm(vectors)
        weighed: Tensor = (torch.softmax(self.score(normed), dim=1) * normed).sum(dim=1)
        return weighed


class Fusion(nn.Module):
    """Sources of several groups to one vector (B, F) and each group's own opinion.

    Args:
        channels: by group, C of each of its sources.
        width: F, a multiple of 4.
        outputs: of the opinions; no opinions if ``deep`` is false.
        deep: whether groups have opinions.
    """

    def __init__(
        self, *, channels: dict[str, tuple[int, ...]], width: int, outputs: int, deep: bool
    ) -> None:
        super().__init__()
        self.pools = nn.ModuleDict(
            {
                group: nn.ModuleList(AttentionPool(each, width) for each in sources)
                for group, sources in channels.items()
            }
        )
        self.within = nn.ModuleDict(
            {group: Gate(width) for group, sources in channels.items() if len(sources) > 1}
        )
        self.between = Gate(width)
        self.mix = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.opinions = nn.ModuleDict(
            {group: nn.Linear(width, outputs) for group in channels} if deep else {}
        )

    def forward(self, sources: Sources) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the fused vector (B, F) and the opinions (B, outputs), one a group."""
        vectors = []
        for group, tokens in sources.items():
            pools = self.pools[group].children()
            pooled = [pool(each) for pool, each in zip(pools, tokens, strict=True)]
            several = group in self.within
            vectors.append(self.within[group](torch.stack(pooled, dim=1)) if several else pooled[0])
        fused = self.between(torch.stack(vectors, dim=1))
        opinions = tuple(
            self.opinions[group](vector)
            for group, vector in zip(sources, vectors, strict=True)
            if group in self.opinions
        )
        return fused + self.mix(fused), opinions
