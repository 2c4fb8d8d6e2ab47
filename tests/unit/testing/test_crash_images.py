"""Images of a power cut are laid out as the disk has them: what nobody wrote takes no room."""

from random import Random

from ottla.testing.crash_images import Content, PowerCut, RecordingDisk

MIB = 1 << 20


def test_what_nobody_wrote_takes_no_room_in_an_image(tmp_path):
    """An index is made as long as it may grow: writing its zeros made most of an image, and of the time it took."""
    root = tmp_path / "data"
    root.mkdir()
    disk = RecordingDisk(str(root))
    fd = disk.open(str(root / "index"), create=True)
    disk.write(fd, b"first", 0)
    disk.truncate(fd, 10 * MIB)
    disk.write(fd, b"second", 8192)
    disk.sync(fd)
    disk.sync_directory(str(root))
    disk.close(fd)
    PowerCut(disk.record).write_image(str(tmp_path / "image"), Random(1), keep=0.0)
    laid_out = tmp_path / "image" / "index"
    assert laid_out.read_bytes() == (root / "index").read_bytes()
    assert laid_out.stat().st_size == 10 * MIB
    assert laid_out.stat().st_blocks * 512 < MIB


def test_a_content_is_what_a_file_would_hold(tmp_path):
    """The same writes and truncations on a file and on a content, in any order."""
    dice = Random(3)
    root = tmp_path / "data"
    root.mkdir()
    disk = RecordingDisk(str(root))
    fd = disk.open(str(root / "file"), create=True)
    content = Content()
    for _ in range(300):
        if dice.random() < 0.3:
            disk.truncate(fd, dice.randint(0, 300))
        else:
            disk.write(fd, dice.randbytes(dice.randint(1, 40)), dice.randint(0, 300))
        content.apply(disk.record[-1])
        assert content.read() == (root / "file").read_bytes()
    disk.close(fd)
