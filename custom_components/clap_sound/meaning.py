"""What thresholds mean, in the language of Home Assistant: their false alarms, and what they find."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from homeassistant.helpers.translation import async_get_translations

from .const import DOMAIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self

    from homeassistant.core import HomeAssistant

    from .client.models import WatchedLabel

_A_DAY = {"hour": 24.0, "day": 1.0, "week": 1 / 7, "month": 1 / 30, "year": 1 / 365}
_MOST_A_DAY = 1440.0
# From so much of a unit on, a rate is told by it: a little under one still is about one.
_LEAST, _OVER_ONE = 0.75, 1.5
_HARDLY_ANY, _NEARLY_ALL = 0.05, 0.95
_UNKNOWN = frozenset({"own_words", "taught", "not_tested", "false_alarms", "negatives", "denoise", "hop"})
_NORMAL = "normal"
# The server's scale of scores: one false alarm a day at 0.7, and ten times as many for each 0.14 less.
_ONE_A_DAY, _PER_DECADE = 0.7, 0.14
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~&])")


def false_alarms_per_day(score: float) -> float:
    """Return how often a day everyday sound alone reaches a score."""
    return float(10 ** ((_ONE_A_DAY - score) / _PER_DECADE))


class Meanings:
    """Says what the thresholds of labels mean.

    Args:
        texts: of the integration, by key, in one language.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    @classmethod
    async def of_language(cls, hass: HomeAssistant, language: str) -> Self:
        """Load the texts of a language."""
        prefix = f"component.{DOMAIN}.common."
        texts = await async_get_translations(hass, language, "common", {DOMAIN})
        return cls({key.removeprefix(prefix): text for key, text in texts.items()})

    def lines(self, labels: Iterable[WatchedLabel], names: Mapping[str, str]) -> list[str]:
        """Say it of each label, as the items of a list in Markdown.

        Args:
            labels: with their thresholds, as the server understands them.
            names: in the user's language, by id; of others the server's name is told.
        """
        return [f"- {self._line(label, names.get(label.id, label.name))}" for label in labels]

    def _line(self, label: WatchedLabel, name: str) -> str:
        shown = _MARKDOWN.sub(r"\\\1", name)
        if label.false_alarms_per_day is None:
            key = "meaning_normal" if label.id == _NORMAL else "meaning_pattern"
            return self._texts[key].format(label=shown)
        words = self._texts["meaning"].format(
            label=shown,
            threshold=round(100 * label.threshold),
            false_alarms=self.false_alarms(label.false_alarms_per_day),
            found=self._found(label),
        )
        if label.guessed:
            words = f"{words} {self._texts['guessed']}"
        if label.lowered is None:
            return words
        share = label.lowered.found_share
        reason = (
            self._texts["lowered_unknown"]
            if share is None
            else self._texts["lowered"].format(found=self.found(share))
        )
        return f"{words} {reason}"

    def false_alarms(self, per_day: float) -> str:
        """Tell a rate in the units that people count it by: *about 4 false alarms a day*."""
        if per_day > _MOST_A_DAY:
            return self._texts["false_alarms_more"]
        for unit, rate in _A_DAY.items():
            count = per_day / rate
            if count >= _OVER_ONE:
                return self._texts[f"false_alarms_{unit}"].format(count=f"{count:.0f}")
            if count >= _LEAST:
                return self._texts[f"false_alarms_{unit}_one"]
        return self._texts["false_alarms_fewer"]

    def found(self, share: float) -> str:
        """Tell a share, 0 to 1: *found 4 of 10 in tests*."""
        if share < _HARDLY_ANY:
            return self._texts["found_hardly_any"]
        if share > _NEARLY_ALL:
            return self._texts["found_nearly_all"]
        return self._texts["found"].format(count=f"{10 * share:.0f}")

    def _found(self, label: WatchedLabel) -> str:
        if label.found_share is not None:
            return self.found(label.found_share)
        why = label.found_unknown if label.found_unknown in _UNKNOWN else "not_tested"
        return self._texts[f"found_unknown_{why}"]
