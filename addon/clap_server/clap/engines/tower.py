"""The audio tower of a checkpoint in Hugging Face format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import ClapModel

from clap_server.clap.checkpoint import first_line
from clap_server.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path


class AudioTower(torch.nn.Module):
    """Embeds log-mel windows: HTSAT, the projection and the normalisation.

    transformers' fusion branch asks the device which windows are longer than 10 s, for which a GPU has to
    stop, and which no graph can hold. It is switched off, which computes the same when none is.

    Args:
        model: it becomes part of this one.
    """

    def __init__(self, model: ClapModel) -> None:
        super().__init__()
        loaded: Any = model
        self.encoder = loaded.audio_model
        self.projection = loaded.audio_projection
        self.encoder.audio_encoder.enable_fusion = False
        self.encoder.audio_encoder.patch_embed.enable_fusion = False
        self.eval()
        self.requires_grad_(requires_grad=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map ``(n, 1, frames, mels)`` in dB to ``(n, dimension)``, L2-normalised."""
        embeddings = self.projection(self.encoder(input_features=features).pooler_output)
        return torch.nn.functional.normalize(embeddings.float(), dim=-1)


def load_checkpoint(folder: Path, name: str) -> ClapModel:
    """Load both towers in float32 on the CPU.

    Args:
        folder: with configuration and weights.
        name: what the user calls it.

    Raises:
        ModelError: they cannot be loaded, or transformers would compute them wrongly.
    """
    try:
        loaded: Any = ClapModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except Exception as error:  # the library raises whatever its parsers raise
        raise ModelError(
            f"The weights of the model {name!r} cannot be loaded ({first_line(error)}). The download may be "
            "incomplete: delete it and try again."
        ) from error
    model, info = loaded
    if info["missing_keys"]:
        # transformers would go on with random numbers in their place.
        raise ModelError(
            f"The weights of the model {name!r} are incomplete ({len(info['missing_keys'])} tensors missing, "
            f"such as {min(info['missing_keys'])}). Download it again."
        )
    audio = model.config.audio_config
    smallest = min(min(resolution) for resolution in model.audio_model.audio_encoder.input_resolutions)
    if smallest < audio.window_size:
        raise ModelError(
            f"The model {name!r} has a stage of resolution {smallest}, smaller than its attention window of "
            f"{audio.window_size}, which transformers cannot compute. Use another model."
        )
    return cast("ClapModel", model)
