"""Memory for large answers: not used twice at a time, used twice one after the other."""

from __future__ import annotations

from ottla.net.frames import KEPT_BYTES_MAX, STEP_BYTES, Frames


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
