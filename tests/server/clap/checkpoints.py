"""Tiny CLAP checkpoints with random weights, in the format of Hugging Face."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, PreTrainedTokenizerFast

if TYPE_CHECKING:
    from pathlib import Path

WINDOW_S = 2


def write_checkpoint(folder: Path, *, fused: bool, stages: int = 2) -> Path:
    """Write one: 2 s windows at 48 kHz, 32 dimensions.

    With two stages of 32 and 16 patches all are at least as large as the attention window of 8; with four
    the last is smaller.
    """
    audio = {
        "spec_size": 128,
        "num_mel_bins": 64,
        "patch_embeds_hidden_size": 16,
        "depths": [2] * stages,
        "num_attention_heads": [2 ** (n + 1) for n in range(stages)],
        "num_hidden_layers": stages,
        "hidden_size": 16 * 2 ** (stages - 1),
    }
    return _write(folder, audio, fused=fused, dimension=32, window_s=WINDOW_S)


def write_htsat_tiny(folder: Path, *, fused: bool) -> Path:
    """Write one with the audio tower of LAION's checkpoints, and a tiny one for texts."""
    # transformers' defaults are that tower's configuration.
    return _write(folder, {}, fused=fused, dimension=512, window_s=10)


def _write(folder: Path, audio: dict[str, Any], *, fused: bool, dimension: int, window_s: int) -> Path:
    torch.manual_seed(7)
    config = ClapConfig(
        projection_dim=dimension,
        text_config={
            "vocab_size": 300,
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 66,
        },
        audio_config=audio | {"enable_fusion": fused, "fusion_type": "aff_2d" if fused else None},
    )
    model: Any = ClapModel(config)
    model.eval()
    # Fresh batch normalisation has running statistics of 0 and 1; real input is around -50 dB.
    norm = model.audio_model.audio_encoder.batch_norm
    norm.running_mean.fill_(-50.0)
    norm.running_var.fill_(400.0)
    model.save_pretrained(folder)
    ClapFeatureExtractor(
        max_length_s=window_s, frequency_min=50, truncation="fusion" if fused else "rand_trunc"
    ).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def tokenizer() -> Any:
    """A byte-level tokenizer like RoBERTa's, with next to no merges."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    own = Tokenizer(models.BPE(unk_token="<unk>"))
    own.normalizer = normalizers.NFC()
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.train_from_iterator(
        ["the sound of a bell"],
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    own.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    wrap: Any = PreTrainedTokenizerFast
    return wrap(
        tokenizer_object=own,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=64,
    )
