"""The label library and the way from the user's words to a label."""

from __future__ import annotations

import re

import pytest

from clap_server.detection import library as library_module
from clap_server.detection.labels import Label, LabelKind
from clap_server.detection.library import MAX_LABELS, NORMAL, LabelLibrary, load_library, slug, split_labels
from clap_server.detection.patterns import RAISED_BY
from clap_server.errors import LabelError

LIBRARY = load_library()
PROMISED = [
    "glass_breaking",
    "alarm",
    "fighting_shouting",
    "explosion_gunshot",
    "metal_impact",
    "dog_bark",
    "baby_cry",
    "doorbell",
    "door_knock",
    "smoke_alarm",
    "carbon_monoxide_alarm",
    "smoke_alarm_low_battery",
]
LANGUAGES = {"en", "de", "fr", "es", "zh-Hans"}


def test_promised_labels_are_there() -> None:
    for label_id in PROMISED:
        assert LIBRARY.get(label_id) is not None
    assert LIBRARY.version >= 1
    assert LIBRARY.get("no_such_label") is None


@pytest.mark.parametrize("label", LIBRARY.labels, ids=lambda label: label.id)
def test_every_label_is_complete(label: Label) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]{1,39}", label.id)
    assert set(label.names) == LANGUAGES
    assert all(label.names.values())
    if label in LIBRARY.described:
        assert 3 <= len(label.prompts) <= 8
        assert len(set(label.prompts)) == len(label.prompts)
        assert label.negatives
    assert not set(label.prompts) & set(label.negatives)
    assert 0.6 <= label.threshold <= 0.9
    assert label.icon.startswith("mdi:")
    assert label.library


def test_what_patterns_mean_is_in_the_library_and_has_a_pattern_if_it_has_no_prompts() -> None:
    meant = {label_id for ids in RAISED_BY.values() for label_id in ids}
    assert all(LIBRARY.get(label_id) for label_id in meant)
    assert {label.id for label in LIBRARY.labels if not label.prompts} <= meant


def test_the_bank_is_large_and_without_repetition() -> None:
    assert len(LIBRARY.background) >= 20
    assert len(set(LIBRARY.background)) == len(LIBRARY.background)


def test_every_id_and_name_in_every_language_leads_to_its_label() -> None:
    for label in LIBRARY.labels:
        for text in (label.id, *label.names.values()):
            assert LIBRARY.resolve(text) is label
            assert LIBRARY.resolve(f"  {text.upper()} ") is label


@pytest.mark.parametrize(
    "text", ["glass breaking", "Breaking glass!", "GLASS-BREAKING", "玻璃破碎", "glasbruch", "bris de verre"]
)
def test_spellings_of_a_library_label_are_understood(text: str) -> None:
    assert LIBRARY.resolve(text).id == "glass_breaking"


def test_normal_is_none_of_the_others() -> None:
    assert LIBRARY.resolve("normal") is NORMAL
    assert LIBRARY.resolve("正常") is NORMAL
    assert NORMAL not in LIBRARY.labels
    assert NORMAL.prompts == ()


def test_own_words_become_a_label() -> None:
    label = LIBRARY.resolve("  the neighbour's   rooster ")
    assert label.id == "the_neighbour_s_rooster"
    assert label.names == {"en": "the neighbour's rooster"}
    assert label.prompts[0] == "the neighbour's rooster"
    assert len(label.prompts) > 1
    assert label.kind is LabelKind.SUSTAINED
    assert not label.library
    assert LIBRARY.resolve("The neighbour's rooster").id == label.id


@pytest.mark.parametrize(
    ("text", "label_id"),
    [
        ("猫头鹰", "猫头鹰"),
        ("Петух кричит!", "петух_кричит"),
        ("ひどい音", "ひどい音"),
        ("🔔 Bell 鐘", "bell_鐘"),
        ("صوت الجرس", "صوت_الجرس"),
        ("नमस्ते", "नमस्ते"),
        ("ＡＬＡＲＭ２ 鐘", "alarm2_鐘"),  # noqa: RUF001 - what is tested
    ],
)
def test_words_in_any_script_get_an_id_that_can_be_read(text: str, label_id: str) -> None:
    label = LIBRARY.resolve(text)
    assert label.id == label_id
    assert label.names["en"] == text


def test_different_words_get_different_ids() -> None:
    long = "a very long description of a sound that nobody has ever heard before in this "
    texts = ["猫头鹰", "公鸡", "петух", "петухи", f"{long} house", f"{long} garden", "rooster", "álarm"]
    ids = [LIBRARY.resolve(text).id for text in texts]
    assert len(set(ids)) == len(texts)
    assert all(len(label_id) <= 40 for label_id in ids)
    assert not {label.id for label in LIBRARY.labels} & set(ids)


def test_accents_are_dropped_from_ids() -> None:
    assert slug("Müllabfuhr à côté") == "mullabfuhr_a_cote"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty: name a sound"),
        (" \t", "empty: name a sound"),
        ("!?", "no words"),
        ("x" * 201, "at most 200"),
    ],
)
def test_unusable_text_is_refused_with_what_to_do(text: str, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        LIBRARY.resolve(text)


def test_lists_are_limited() -> None:
    assert [label.id for label in LIBRARY.resolve_all(["alarm", "my own"])] == ["alarm", "my_own"]
    with pytest.raises(LabelError, match="at least one"):
        LIBRARY.resolve_all([])
    with pytest.raises(LabelError, match="at most 200"):
        LIBRARY.resolve_all([f"sound {n}" for n in range(MAX_LABELS + 1)])


def test_typed_lists_are_split_at_commas() -> None:
    assert split_labels(" glass breaking, alarm ,,normal, alarm") == ["glass breaking", "alarm", "normal"]
    assert split_labels("玻璃破碎，警报、جرس، صراخ") == ["玻璃破碎", "警报", "جرس", "صراخ"]  # noqa: RUF001
    with pytest.raises(LabelError, match="at least one"):
        split_labels(" , ,")
    with pytest.raises(LabelError, match="10000 labels are too many"):
        split_labels(",".join(f"sound {n}" for n in range(10_000)))


def test_two_labels_of_one_name_are_refused() -> None:
    labels = [
        Label(id="one", names={"en": "Same"}, prompts=("a",)),
        Label(id="two", names={"en": "same"}, prompts=("b",)),
    ]
    with pytest.raises(LabelError, match="names both one and two"):
        LabelLibrary(1, labels, ["silence"])


def test_hundreds_of_labels_are_spelt_out_once_however_often_they_are_asked_for() -> None:
    texts = [f"the noise of machine {number}" for number in range(MAX_LABELS)]
    first = LIBRARY.resolve_all(texts)
    spelt = [function.cache_info().misses for function in (library_module._key, library_module.slug)]
    assert LIBRARY.resolve_all(texts) == first
    assert [function.cache_info().misses for function in (library_module._key, library_module.slug)] == spelt
