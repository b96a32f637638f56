"""How windows are made ready for the audio tower."""

from __future__ import annotations

import pytest
import torch

from clap_server.clap.builtin.audio_tower import QUIET_LEAD, QUIET_SHARE, fill_up

FRAMES = 201


@pytest.mark.parametrize(("frames", "lead"), [(1, QUIET_LEAD), (50, QUIET_LEAD), (198, 3), (200, 1)])
def test_a_short_window_lies_in_its_own_quiet(frames: int, lead: int) -> None:
    torch.manual_seed(1)
    sound = torch.randn(frames, 64)
    mel = torch.zeros(FRAMES, 64)
    mel[:frames] = sound
    fill_up(mel, frames)
    assert torch.equal(mel[lead : lead + frames], sound)
    quiet = sound.quantile(QUIET_SHARE, dim=0)
    assert torch.equal(mel[:lead], quiet.expand(lead, 64))
    assert torch.equal(mel[lead + frames :], quiet.expand(FRAMES - frames - lead, 64))


def test_a_whole_window_stays_as_it_is() -> None:
    mel = torch.randn(FRAMES, 64)
    before = mel.clone()
    fill_up(mel, FRAMES)
    assert torch.equal(mel, before)
