"""The same sound at several microphones is one group, whatever the order in which it is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_server.listening.groups import MEMORY_S, MOST_GROUPS, TOGETHER_S, UNSURE_DB, EventGroups
from tests.support.sound_events import START, sound_event

if TYPE_CHECKING:
    from random import Random

    from clap_server.listening.events import EventGroup, SoundEvent


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def heard(microphone_id: str, at_s: float, above_db: float = 20.0, **changes: object) -> SoundEvent:
    """A shot, so far above the microphone's L90."""
    return sound_event(
        id=f"{microphone_id} {at_s}",
        microphone_id=microphone_id,
        label_id=changes.pop("label_id", "explosion_gunshot"),
        started_at=START + timedelta(seconds=at_s),
        peak_level_dbfs=-60.0 + above_db,
        noise_floor_dbfs=-60.0,
        **changes,
    )


def over(event: SoundEvent) -> SoundEvent:
    return replace(event, ended_at=event.started_at + timedelta(seconds=5))


def test_an_event_alone_is_a_group_whose_nearest_microphone_is_its_own() -> None:
    event = heard("kitchen", 0.0)
    (group,) = EventGroups().take(event).values()
    assert (group.id, group.nearest, group.margin_db, group.unsure) == (event.id, "kitchen", None, False)


def test_the_microphone_at_which_it_stands_out_most_is_the_nearest_however_loud_the_others_are() -> None:
    groups = EventGroups()
    # 30 dB above a quiet room, although the street is louder.
    quiet = sound_event(microphone_id="cellar", noise_floor_dbfs=-70.0, peak_level_dbfs=-40.0)
    loud = sound_event(microphone_id="street", noise_floor_dbfs=-35.0, peak_level_dbfs=-15.0)
    groups.take(loud)
    changed = groups.take(quiet)
    assert changed.keys() == {loud.id, quiet.id}
    assert changed[quiet.id] == changed[loud.id]
    group = changed[quiet.id]
    assert (group.id, group.nearest, group.margin_db, group.unsure) == (loud.id, "cellar", 10.0, False)
    assert [(at.id, at.level_above_l90_db) for at in group.microphones] == [
        ("cellar", 30.0),
        ("street", 20.0),
    ]


@pytest.mark.parametrize(("margin_db", "unsure"), [(UNSURE_DB, False), (UNSURE_DB - 0.5, True), (0.0, True)])
def test_a_small_margin_is_unsure(margin_db: float, unsure: bool) -> None:
    groups = EventGroups()
    groups.take(heard("hall", 0.0, 20.0))
    group = groups.take(heard("kitchen", 0.1, 20.0 + margin_db))["kitchen 0.1"]
    assert group.margin_db == margin_db
    assert group.unsure is unsure


def test_another_label_or_a_sound_at_another_time_is_another_group() -> None:
    groups = EventGroups()
    first = groups.take(heard("hall", 0.0))["hall 0.0"]
    assert groups.take(heard("kitchen", 0.2, label_id="glass_breaking"))["kitchen 0.2"].id != first.id
    assert groups.take(heard("cellar", TOGETHER_S + 0.1))["cellar 1.6"].id != first.id


def test_a_second_shot_is_a_group_of_its_own_at_all_microphones() -> None:
    groups = EventGroups()
    ids = {}
    for microphone, at_s in (("hall", 0.0), ("kitchen", 0.1), ("hall", 1.6), ("kitchen", 1.7)):
        event = heard(microphone, at_s)
        ids[event.id] = groups.take(event)[event.id].id
    assert ids == {
        "hall 0.0": "hall 0.0",
        "kitchen 0.1": "hall 0.0",
        "hall 1.6": "hall 1.6",
        "kitchen 1.7": "hall 1.6",
    }


def test_what_is_told_late_or_after_the_end_still_finds_its_group() -> None:
    clock = Clock()
    groups = EventGroups(clock)
    first = heard("hall", 1.0)
    groups.take(first)
    assert groups.take(over(first)).keys() == {first.id}
    clock.now_s += MEMORY_S - 1
    # It was heard before, but comes from a stream that is late.
    late = heard("kitchen", 0.0, 30.0)
    changed = groups.take(late)
    assert changed.keys() == {first.id, late.id}
    assert (changed[late.id].id, changed[late.id].nearest) == (first.id, "kitchen")


def test_a_higher_peak_at_the_end_changes_the_ranking_of_all() -> None:
    groups = EventGroups()
    hall, kitchen = heard("hall", 0.0, 20.0), heard("kitchen", 0.1, 25.0)
    groups.take(hall)
    groups.take(kitchen)
    assert groups.take(over(kitchen)).keys() == {kitchen.id}, "nothing is another"
    changed = groups.take(over(replace(hall, peak_level_dbfs=-30.0)))
    assert changed.keys() == {hall.id, kitchen.id}
    assert changed[kitchen.id].nearest == "hall"


def test_an_event_of_which_no_noise_is_known_ranks_last() -> None:
    groups = EventGroups()
    groups.take(replace(heard("hall", 0.0), noise_floor_dbfs=None))
    assert groups.take(heard("kitchen", 0.1, 1.0))["kitchen 0.1"].nearest == "kitchen"


def test_groups_are_forgotten_when_nothing_can_come_and_never_while_an_event_goes_on() -> None:
    clock = Clock()
    groups = EventGroups(clock)
    lasting, ended = heard("hall", 0.0), over(heard("kitchen", 30.0))
    groups.take(lasting)
    groups.take(ended)
    clock.now_s += MEMORY_S + 1
    groups.take(heard("cellar", 100.0))
    assert len(groups) == 2
    assert groups.take(over(heard("hall", 30.0)))["hall 30.0"].id == "hall 30.0"
    assert groups.take(over(lasting))[lasting.id].id == lasting.id


def test_memory_of_groups_is_bounded() -> None:
    groups = EventGroups(Clock())
    for number in range(MOST_GROUPS + 50):
        groups.take(over(heard("hall", 10.0 * number)))
    assert len(groups) == MOST_GROUPS
    # The newest stay.
    assert groups.take(heard("kitchen", 10.0 * (MOST_GROUPS + 49)))["kitchen 10490.0"].nearest in {
        "hall",
        "kitchen",
    }
    assert groups.take(heard("kitchen", 0.0))["kitchen 0.0"].id == "kitchen 0.0"


TOLD = st.lists(
    st.tuples(
        st.sampled_from(["hall", "kitchen", "cellar"]),
        st.floats(0, 8).map(lambda at_s: round(at_s, 2)),
        st.sampled_from(["explosion_gunshot", "glass_breaking"]),
        st.floats(0, 60),
        st.booleans(),
    ),
    max_size=25,
    unique_by=lambda told: told[:2],
)


@settings(max_examples=150, deadline=None)
@given(told=TOLD)
def test_a_group_has_one_label_each_microphone_once_and_onsets_close_together(
    told: list[tuple[str, float, str, float, bool]],
) -> None:
    groups = EventGroups(Clock())
    known: dict[str, EventGroup] = {}
    events: dict[str, SoundEvent] = {}
    for microphone, at_s, label_id, above_db, has_ended in told:
        event = heard(microphone, at_s, above_db, label_id=label_id)
        events[event.id] = event
        changed = groups.take(event)
        assert event.id in changed
        assert changed.keys() <= events.keys()
        before = {id_: group.id for id_, group in known.items()}
        known |= changed
        assert all(known[id_].id == group_id for id_, group_id in before.items()), "never another group"
        if has_ended:
            known |= groups.take(over(event))
    for group in known.values():
        members = [events[id_] for id_, other in known.items() if other.id == group.id]
        assert all(known[member.id] == group for member in members), "all tell the same"
        assert len({member.label_id for member in members}) == 1
        assert sorted(at.id for at in group.microphones) == sorted(member.microphone_id for member in members)
        assert len({at.id for at in group.microphones}) == len(members)
        onsets = [member.started_at for member in members]
        assert (max(onsets) - min(onsets)).total_seconds() <= TOGETHER_S
        levels = [at.level_above_l90_db for at in group.microphones]
        assert levels == sorted(levels, reverse=True)
        assert group.nearest == group.microphones[0].id
        assert group.margin_db == (levels[0] - levels[1] if len(levels) > 1 else None)
        assert group.unsure == (len(levels) > 1 and levels[0] - levels[1] < UNSURE_DB)


@settings(max_examples=60, deadline=None)
@given(onsets_s=st.lists(st.floats(0, TOGETHER_S - 0.001), min_size=1, max_size=5), order=st.randoms())
def test_one_sound_is_one_group_in_whatever_order_it_is_told(onsets_s: list[float], order: Random) -> None:
    events = [heard(f"microphone_{number}", at_s) for number, at_s in enumerate(onsets_s)]
    order.shuffle(events)
    groups = EventGroups()
    known: dict[str, EventGroup] = {}
    for event in events:
        known |= groups.take(event)
    assert len({group.id for group in known.values()}) == 1
    assert all(len(group.microphones) == len(events) for group in known.values())
