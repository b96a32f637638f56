"""The text tower: word pieces, two transformer layers, a mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class TextTower(nn.Module):
    """Embeds token ids.

    Args:
        vocabulary: number of tokens; token 0 fills up.
        width: of a token's embedding.
        hidden: width of the transformer.
        layers: of the transformer.
        heads: of each attention.
        feed_forward: width inside a layer.
        max_tokens: longest text.
        dimension: of the embedding in the space shared with audio.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        width: int,
        hidden: int,
        layers: int,
        heads: int,
        feed_forward: int,
        max_tokens: int,
        dimension: int,
    ) -> None:
        super().__init__()
        self.hidden = hidden
        self.tokens = nn.Embedding(vocabulary, width)
        self.widen = nn.Linear(width, hidden)
        self.positions = nn.Parameter(torch.zeros(max_tokens, hidden))
        layer = nn.TransformerEncoderLayer(
            hidden, heads, feed_forward, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Sequential(nn.Linear(hidden, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, dimension))

    def mean(self, ids: torch.Tensor) -> torch.Tensor:
        """Reduce ``(n, tokens)`` ids, filled up with 0, to ``(n, hidden)``."""
        # The first token always counts, even if a text is empty: attention over nothing has no value.
        filling = (ids == 0).index_fill(1, torch.zeros(1, dtype=torch.long, device=ids.device), value=False)
        values = self.widen(self.tokens(ids)) + self.positions[: ids.shape[1]]
        values = self.encoder(values, src_key_padding_mask=filling)
        kept = (~filling).unsqueeze(2).to(values.dtype)
        total: torch.Tensor = self.norm((values * kept).sum(1) / kept.sum(1).clamp_min(1.0))
        return total

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Embed ``(n, tokens)`` ids as ``(n, dimension)``, L2-normalised."""
        return functional.normalize(self.head(self.mean(ids)).float(), dim=1)


def load_tokenizer(path: Path, max_tokens: int) -> Tokenizer:
    """Read ``tokenizer.json``; longer texts are cut, shorter ones in a batch filled up with token 0."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(max_tokens)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    return tokenizer


def token_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> torch.Tensor:
    """Turn texts into ``(n, tokens)`` ids."""
    return torch.tensor([encoding.ids or [0] for encoding in tokenizer.encode_batch(list(texts))])
