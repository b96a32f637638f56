"""A user's own recordings as everyday sound: what is kept of them, and for which labels they count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_evaluation.calibration import own
from clap_evaluation.calibration.own import OwnSound, hear_own, piece
from clap_evaluation.manifest import Occurrence, Recording, read_manifest
from clap_server.audio.encode import encode
from clap_server.detection.everyday.preparing import model_key
from clap_server.detection.library import load_library
from clap_server.detection.scoring import LabelScorer
from clap_server.errors import ConfigurationError
from tests.server.listening.spectral import RATE, SpectralModel, crash, scene, tone

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LIBRARY = load_library()
BY_ID = {label.id: label for label in LIBRARY.labels}
LABELS = [BY_ID["glass_breaking"], BY_ID["alarm"]]
HUM = scene(4.0, (0.5, tone(3.0)))


@pytest.fixture
def enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second of sound is enough."""
    monkeypatch.setattr(own, "LEAST_BLOCKS", 1)


def hear(folder: Path, sounds: dict[str, NDArray[np.float32]], *rows: str) -> OwnSound:
    for name, samples in sounds.items():
        (folder / name).write_bytes(encode(samples, RATE, "flac"))
    manifest = folder / "clips.csv"
    manifest.write_text("\n".join(["file,label,onset_s,offset_s", *rows]))
    model = SpectralModel()
    scorer = LabelScorer(model, LABELS, LIBRARY.background)
    return hear_own(model, scorer, read_manifest(manifest, LIBRARY), BY_ID, sources="some clips")


@pytest.mark.usefixtures("enough")
def test_what_is_above_the_gate_is_kept_in_the_order_of_the_manifest(tmp_path: Path) -> None:
    sounds = {"a.flac": HUM, "b.flac": scene(30.0, (20.0, crash()))}
    found = hear(tmp_path, sounds, "b.flac,negative", "a.flac,negative")
    bank = found.bank
    assert (bank.made_for, bank.sources, len(bank.pieces)) == (model_key(SpectralModel()), "some clips", 2)
    of_crash, of_hum = (bank.ends_s[bank.recordings == number] for number in (0, 1))
    assert 20.0 < of_crash.max() < 25.0
    assert len(of_crash) < 30, "60 windows would be the whole recording"
    assert 0 < of_hum.max() <= 4.0, "the windows after the end are no sound of the room"
    assert 0 < bank.hours < 34.0 / 3600
    heard = found.results[1].windows
    assert heard.ends_s.max() == pytest.approx(5.0), "but the detector hears them, as in evaluate"


@pytest.mark.usefixtures("enough")
@pytest.mark.parametrize("length_s", [6.5, 7.0, 7.5, 8.0, 8.5])
def test_it_does_not_matter_where_a_batch_ends(tmp_path: Path, length_s: float) -> None:
    found = hear(tmp_path, {"a.flac": scene(length_s, (0.0, tone(length_s)))}, "a.flac,negative")
    assert found.bank.ends_s.max() == pytest.approx(length_s, abs=0.01)
    assert found.results[0].windows.ends_s.max() > length_s + 0.9


@pytest.mark.usefixtures("enough")
def test_margins_take_the_place_of_scores(tmp_path: Path) -> None:
    found = hear(tmp_path, {"a.flac": HUM}, "a.flac,alarm")
    windows = found.results[0].windows
    assert windows.label_ids == ("glass_breaking", "alarm")
    assert windows.column("alarm").max() > windows.column("glass_breaking").max() + 0.3
    assert windows.column("glass_breaking").min() < 0, "scores never are"


def recording(*label_ids: str | None) -> Recording:
    rows = tuple(Occurrence(2, label_id, None, None, "") for label_id in label_ids)
    return Recording(own.__file__, "x.wav", rows)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("label_ids", "holds"),
    [
        ((None,), set()),
        (("dog_bark",), {"dog_bark"}),
        (("alarm",), {"alarm", "smoke_alarm", "carbon_monoxide_alarm", "siren"}),
        (
            ("speech", "car_horn"),
            {"speech", "laughter", "scream", "fighting_shouting", "car_horn", "vehicle"},
        ),
    ],
)
def test_a_recording_counts_for_all_labels_but_its_own_and_what_they_may_mean(
    label_ids: tuple[str | None, ...], holds: set[str]
) -> None:
    assert piece(recording(*label_ids), BY_ID).holds == holds


def test_words_of_ones_own_are_said_in_words() -> None:
    words = LIBRARY.resolve("Bottle bank")
    found = piece(recording(words.id, "dog_bark"), {**BY_ID, words.id: words})
    assert set(found.tags) == {"bottle bank", BY_ID["dog_bark"].names["en"].lower()}


@pytest.mark.usefixtures("enough")
def test_rows_that_cannot_be_used_are_named_and_the_rest_counts(tmp_path: Path) -> None:
    (tmp_path / "text.flac").write_text("no sound")
    rows = ("a.flac,alarm", "gone.flac,negative", "text.flac,alarm", "b.flac,glass_breaking,50,51")
    found = hear(tmp_path, {"a.flac": HUM, "b.flac": HUM}, *rows)
    assert len(found.results) == len(found.bank.pieces) == 1
    assert [problem.partition(": ")[0] for problem in found.problems] == ["Row 3", "Row 4", "Row 5"]
    assert "b.flac: A sound starts at 50 s" in found.problems[2]
    assert set(found.bank.recordings.tolist()) == {0}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("a.flac,negative",), r"0 minutes of everyday sound above the gate, and 18 are needed"),
        (("a.flac,negative", "gone.flac,negative"), r"as negative\. Row 3: gone\.flac: The file is missing"),
        (("quiet.flac,negative",), "0 minutes of everyday sound"),
    ],
)
def test_too_little_everyday_sound_is_refused(tmp_path: Path, rows: tuple[str, ...], message: str) -> None:
    sounds = {"a.flac": HUM, "quiet.flac": np.zeros(3 * RATE, np.float32)}
    with pytest.raises(ConfigurationError, match=message):
        hear(tmp_path, sounds, *rows)
