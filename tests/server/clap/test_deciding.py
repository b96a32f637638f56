"""Which model a machine carries."""

from __future__ import annotations

import random

import pytest

from clap_server.clap.deciding import (
    CALM_S,
    ENTER,
    HALF,
    KINDS,
    Kind,
    Speed,
    decide,
    load,
    reason,
)

NAME = "laion/clap-htsat-unfused"


def speed(ms: float) -> Speed:
    return Speed(ms, ms)


@pytest.mark.parametrize(
    ("ms", "hops_s", "kind"),
    [
        # Nobody listens yet: whatever it is, it fits.
        (2000, [], "full"),
        # Five cameras on a mini PC with an engine that takes 45 ms.
        (45, [0.5] * 5, "full"),
        (50, [0.5] * 5, "full"),
        (51, [0.5] * 5, "longer"),
        (45, [0.5] * 11, "longer"),
        (45, [0.5] * 12, "builtin"),
        # One microphone on a slow one.
        (250, [0.5], "full"),
        (251, [0.5], "longer"),
        (500, [0.5], "longer"),
        (501, [0.5], "builtin"),
        # What was asked for at more than a second stays as it is.
        (900, [2.0], "full"),
        (1100, [2.0], "builtin"),
        # Short hops gain most.
        (45, [0.1, 0.1], "longer"),
        # A GPU.
        (0.4, [0.5] * 500, "full"),
    ],
)
def test_the_largest_that_leaves_half_of_the_machine_free(ms: float, hops_s: list[float], kind: Kind) -> None:
    assert decide(speed(ms), hops_s) == kind


def test_from_four_microphones_on_windows_come_in_batches() -> None:
    gpu = Speed(alone_ms=90.0, batch_ms=30.0)
    assert load("full", gpu, [0.5] * 3) == pytest.approx(0.54)
    assert load("full", gpu, [0.5] * 4) == pytest.approx(0.24)


@pytest.mark.parametrize(
    ("ms", "present", "since_s", "kind"),
    [
        # 2 windows a second: 250 ms are half, 200 ms are what may be begun.
        (249, "full", 0.0, "full"),
        (251, "full", 0.0, "longer"),
        (501, "full", 0.0, "builtin"),
        (201, "longer", CALM_S, "longer"),
        (199, "longer", CALM_S, "full"),
        (199, "longer", CALM_S - 1, "longer"),
        (501, "longer", 0.0, "builtin"),
        (401, "builtin", CALM_S, "builtin"),
        (399, "builtin", CALM_S, "longer"),
        (199, "builtin", CALM_S, "full"),
        (1, "builtin", CALM_S - 1, "builtin"),
    ],
)
def test_what_is_there_stays_until_it_is_too_much_or_something_larger_fits_well(
    ms: float, present: Kind, since_s: float, kind: Kind
) -> None:
    assert decide(speed(ms), [0.5], present, since_s) == kind


def test_whatever_happens_it_is_never_too_much_and_never_flaps() -> None:
    rng = random.Random(20261128)
    for _ in range(300):
        at_s, changed_s = 0.0, 0.0
        measured = Speed(rng.uniform(1, 300), rng.uniform(1, 300))
        hops_s = [rng.choice([0.1, 0.25, 0.5, 1.0, 5.0]) for _ in range(rng.randrange(12))]
        present = decide(measured, hops_s)
        for _ in range(60):
            at_s += rng.expovariate(1 / 200)
            if hops_s and rng.random() < 0.5:
                hops_s.pop(rng.randrange(len(hops_s)))
            else:
                hops_s.append(rng.choice([0.1, 0.25, 0.5, 1.0, 5.0]))
            since_s = at_s - changed_s
            kind = decide(measured, hops_s, present, since_s)
            assert load(kind, measured, hops_s) <= HALF
            if KINDS.index(kind) < KINDS.index(present):
                assert since_s >= CALM_S
                assert load(kind, measured, hops_s) <= ENTER
            if KINDS.index(kind) > KINDS.index(present):
                assert load(present, measured, hops_s) > HALF
            if kind != present:
                changed_s = at_s
            # As long as nothing else changes it stays, at once and after any time.
            assert decide(measured, hops_s, kind, 0.0) == kind
            later = decide(measured, hops_s, kind, CALM_S)
            assert decide(measured, hops_s, later, CALM_S) == later
            # A slower machine never makes it larger.
            more = decide(measured.slower(1.1), hops_s, kind, since_s)
            assert KINDS.index(more) >= KINDS.index(decide(measured, hops_s, kind, since_s))
            present = kind


FULL = f"The full model, {NAME}, listens"
SMALL = f"The built-in model listens: of the full model, {NAME},"
LATER = "it is begun at 40 % or less, 10 minutes after the last change"


@pytest.mark.parametrize(
    ("kind", "ms", "count", "words"),
    [
        (
            "full",
            43,
            5,
            (FULL, ": a window takes 43 ms, and 5 microphones keep at most 43 % of the machine busy."),
        ),
        (
            "full",
            43,
            1,
            (FULL, ": a window takes 43 ms, and 1 microphone keeps at most 9 % of the machine busy."),
        ),
        ("full", 43, 0, (FULL, ": a window takes 43 ms, and no microphone is switched on.")),
        (
            "longer",
            90,
            5,
            (
                FULL,
                " with at least 1 s between windows: a window takes 90 ms, and 5 microphones keep at most 45",
                " % of the machine busy; at the time that was asked for it would be 90 % (more than half).",
            ),
        ),
        (
            "builtin",
            230,
            5,
            (
                SMALL,
                " a window takes 230 ms, and even at 1 s between windows 5 microphones would keep 115 %",
                " (more than half) of the machine busy.",
            ),
        ),
        (
            "builtin",
            450,
            1,
            (
                SMALL,
                " a window takes 450 ms, and even at 1 s between windows 1 microphone would keep 45 %",
                f" ({LATER}) of the machine busy.",
            ),
        ),
    ],
)
def test_the_reason_is_a_sentence(kind: Kind, ms: float, count: int, words: tuple[str, ...]) -> None:
    assert reason(kind, speed(ms), [0.5] * count, name=NAME) == "".join(words)
