"""Choosing labels and thresholds in a form; in forms thresholds are percentages."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, override

from homeassistant.helpers.selector import (
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    ObjectSelector,
    ObjectSelectorConfig,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
)

from .const import CONF_LABEL, CONF_LABELS, CONF_THRESHOLD, DEFAULT_LABELS, DEFAULT_THRESHOLD, MAX_LABELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .client.models import LabelInfo, MicrophoneInfo

MAX_LABEL_LENGTH = 200
_PERCENT = 100


class LabelChoiceError(Exception):
    """Labels that were chosen are not usable.

    Attributes:
        key: translation key of what is wrong.
        label: which one.
    """

    def __init__(self, key: str, label: str = "") -> None:
        super().__init__(key)
        self.key = key
        self.label = label


class _LabelsSelector(ObjectSelector):
    """Leaves it to the flow to check what was entered, and to say what is wrong."""

    @override
    def __call__(self, data: Any) -> Any:
        return data


class LabelChoices:
    """The labels of a library as choices in a form.

    Args:
        library: of the server; empty if it does not answer.
        language: of Home Assistant.

    Attributes:
        names: of the library's labels in that language, by id.
    """

    def __init__(self, library: Sequence[LabelInfo], language: str) -> None:
        self._library = library
        self.names = {label.id: label.name(language) for label in library}
        self._thresholds = {label.id: label.threshold for label in library}
        self._by_spelling = {
            spelling(text): label.id for label in library for text in (label.id, *label.names.values())
        }

    @staticmethod
    def of_microphone(microphone: MicrophoneInfo) -> list[dict[str, Any]]:
        """Return what a microphone of the server watches, as kept in a subentry."""
        return [
            {CONF_LABEL: label.id if label.library else label.name, CONF_THRESHOLD: label.threshold}
            for label in microphone.labels
        ]

    def label_id(self, text: str) -> str | None:
        """Return the id of the library's label that a text means, in any language; None if it means none."""
        return self._by_spelling.get(spelling(text))

    def selector(self) -> ObjectSelector:
        """Make the form's field: a list of labels, from the library or in own words, with thresholds."""
        # The list shows values, not their labels, so the value has to be the name.
        options = [SelectOptionDict(value=name, label=name) for name in self.names.values()]
        label = SelectSelector(
            SelectSelectorConfig(options=options, custom_value=True, mode=SelectSelectorMode.DROPDOWN)
        )
        # A slider would show 0 where nothing is entered, which means the sound's own default.
        threshold = NumberSelector(
            NumberSelectorConfig(
                min=0, max=_PERCENT, step=1, unit_of_measurement="%", mode=NumberSelectorMode.BOX
            )
        )
        return _LabelsSelector(
            ObjectSelectorConfig(
                multiple=True,
                fields={
                    # Without a default the dialog proposes the first of the list, which is there already.
                    CONF_LABEL: {"required": True, "default": "", "selector": label},
                    CONF_THRESHOLD: {"selector": threshold},
                },
                label_field=CONF_LABEL,
                description_field=CONF_THRESHOLD,
                translation_key=CONF_LABELS,
            )
        )

    def default(self) -> list[dict[str, Any]]:
        return self.to_form({CONF_LABEL: label} for label in DEFAULT_LABELS)

    def to_form(self, choices: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Turn what a subentry keeps into what the form shows, each with its threshold if it is known."""
        return [self._shown(choice[CONF_LABEL], choice.get(CONF_THRESHOLD)) for choice in choices]

    def _shown(self, label: str, threshold: float | None) -> dict[str, Any]:
        shown: dict[str, Any] = {CONF_LABEL: self.names.get(label, label)}
        if threshold is None and self._library:
            threshold = self._thresholds.get(label, DEFAULT_THRESHOLD)
        if threshold is not None:
            shown[CONF_THRESHOLD] = round(threshold * _PERCENT)
        return shown

    def to_data(self, entered: object) -> list[dict[str, Any]]:
        """Turn what was entered into what a subentry keeps; names from the library become ids.

        Raises:
            LabelChoiceError: there are none, too many, one twice, or one is not usable.
        """
        if not isinstance(entered, list) or not entered:
            raise LabelChoiceError("no_labels")
        if len(entered) > MAX_LABELS:
            raise LabelChoiceError("too_many_labels")
        choices = [self._choice(item) for item in entered]
        seen: set[str] = set()
        for choice in choices:
            spelled = spelling(choice[CONF_LABEL])
            if spelled in seen:
                raise LabelChoiceError("duplicate_label", choice[CONF_LABEL])
            seen.add(spelled)
        return choices

    def _choice(self, item: object) -> dict[str, Any]:
        fields = item if isinstance(item, dict) else {CONF_LABEL: item}
        text = " ".join(str(fields.get(CONF_LABEL) or "").split())
        if not text or len(text) > MAX_LABEL_LENGTH:
            raise LabelChoiceError("invalid_label", text[:30])
        label = self._by_spelling.get(spelling(text), text)
        percent = fields.get(CONF_THRESHOLD)
        if percent is None:
            return {CONF_LABEL: label}
        if isinstance(percent, bool) or not isinstance(percent, int | float) or not math.isfinite(percent):
            raise LabelChoiceError("threshold_out_of_range", text)
        if not 0 <= percent <= _PERCENT:
            raise LabelChoiceError("threshold_out_of_range", text)
        return {CONF_LABEL: label, CONF_THRESHOLD: percent / _PERCENT}


def spelling(text: str) -> str:
    """Reduce a label to what two spellings of it have in common."""
    return " ".join(text.casefold().replace("_", " ").split())
