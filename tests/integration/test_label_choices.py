"""Sounds that were taught to the server are offered like its own, by the names that they were given."""

from custom_components.clap_sound.client.models import LabelInfo
from custom_components.clap_sound.label_choices import LabelChoices

GLASS = LabelInfo("glass_breaking", {"en": "Glass breaking", "zh-Hans": "玻璃破碎"}, 0.7, "mdi:glass-fragile")
# As GET /api/labels tells of a taught sound.
BELL = LabelInfo.from_json(
    {
        "id": "my_bell",
        "names": {"en": "My bell"},
        "prompts": ["my bell"],
        "negatives": [],
        "kind": "impulsive",
        "threshold": 0.5,
        "icon": "mdi:school",
        "library": False,
        "taught": True,
    }
)


def test_a_taught_sound_is_offered_by_its_own_name_in_every_language() -> None:
    for language in ("en", "zh-Hans", "fr"):
        choices = LabelChoices([GLASS, BELL], language)
        assert choices.to_form([{"label": "my_bell"}]) == [{"label": "My bell", "threshold": 50}]


def test_a_taught_sound_that_is_chosen_is_kept_by_its_id() -> None:
    choices = LabelChoices([GLASS, BELL], "en")
    assert choices.to_data([{"label": "my  bell", "threshold": 60}]) == [
        {"label": "my_bell", "threshold": 0.6}
    ]
