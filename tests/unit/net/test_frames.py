"""Memory for large answers: not used twice at a time, used twice one after the other."""

from __future__ import annotations

import mmap

import pytest

from ottla.net.frames import HUGE_PAGES, KEPT_BYTES_MAX, STEP_BYTES, Frames


def test_a_buffer_is_used_again_when_no_view_of_it_is_left() -> None:
    frames = Frames()
    first = frames.take(100_000)
    part = first[10:20]
    buffer = first.obj
    first.release()
    assert frames.take(100_000).obj is not buffer
    part.release()
    again = frames.take(STEP_BYTES)
    assert again.obj is buffer
    assert len(again) == STEP_BYTES


def test_large_answers_lie_in_huge_pages_which_are_used_again_as_well() -> None:
    frames = Frames()
    first = frames.take(3_000_000)
    first[-1] = 7
    part = first[-1:]
    buffer = first.obj
    assert isinstance(buffer, bytearray if HUGE_PAGES is None else mmap.mmap)
    first.release()
    assert frames.take(3_000_000).obj is not buffer
    assert bytes(part) == b"\x07"
    part.release()
    again = frames.take(3_500_000)
    assert again.obj is buffer
    assert len(again) == 3_500_000


def test_an_answer_that_would_waste_half_a_huge_page_lies_in_ordinary_memory() -> None:
    assert isinstance(Frames().take((1 << 20) + 100).obj, bytearray)


def test_without_huge_pages_large_answers_lie_in_ordinary_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ottla.net.frames.HUGE_PAGES", -1)  # no kernel knows this advice
    frames = Frames()
    view = frames.take(3_000_000)
    assert isinstance(view.obj, bytearray)
    assert len(view) == 3_000_000


def test_what_is_too_small_is_passed_over() -> None:
    frames = Frames()
    buffer = frames.take(1).obj
    larger = frames.take(STEP_BYTES + 1)
    assert larger.obj is not buffer
    assert len(larger) == STEP_BYTES + 1


def test_what_is_kept_is_bounded() -> None:
    frames = Frames()
    size = KEPT_BYTES_MAX // 4
    views = [frames.take(size) for _ in range(5)]
    buffers = [view.obj for view in views]
    views.clear()
    again = [frames.take(size) for _ in range(4)]
    assert {id(view.obj) for view in again} == {id(buffer) for buffer in buffers[1:]}
    beyond = frames.take(KEPT_BYTES_MAX + 1).obj
    assert frames.take(KEPT_BYTES_MAX + 1).obj is not beyond


def test_a_forgotten_buffer_stays_valid_for_who_looks_at_it() -> None:
    frames = Frames()
    view = frames.take(3)
    view[:] = b"abc"
    frames.forget_one()
    frames.forget_one()
    frames.take(3)[:] = b"xyz"
    assert bytes(view) == b"abc"
