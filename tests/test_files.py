"""Atomic writes: the old content or the new, whatever happens in between."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import textwrap
import time

import pytest

from deeplabv3p.errors import DataError
from deeplabv3p.files import atomic_path, write_bytes, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_text_is_utf8_and_bytes_are_bytes(tmp_path):
    write_text(tmp_path / "a.txt", "Straße\n")
    write_bytes(tmp_path / "b.bin", b"\x00\r\n\xff")
    assert (tmp_path / "a.txt").read_bytes() == "Straße\n".encode()
    assert (tmp_path / "b.bin").read_bytes() == b"\x00\r\n\xff"
    assert names(tmp_path) == ["a.txt", "b.bin"]


def test_the_temporary_file_is_beside_the_target_with_its_suffix(tmp_path):
    target = tmp_path / "new folder" / "model.keras"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".keras"
        assert temporary != target
        assert not target.exists()
        temporary.write_bytes(b"x")
    assert names(target.parent) == ["model.keras"]


def test_a_failing_block_leaves_the_old_content(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def fail():
        with atomic_path(target) as temporary:
            temporary.write_text("half of the n")
            raise KeyError("unrelated")

    with pytest.raises(KeyError):
        fail()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path):
    write_text(tmp_path / "a.txt", "x")
    (tmp_path / "b.txt").write_text("x")
    mode_a, mode_b = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.txt", "b.txt"))
    assert mode_a == mode_b


def test_a_long_name_fits(tmp_path):
    target = tmp_path / ("n" * 240 + ".png")
    write_bytes(target, b"x")
    assert target.read_bytes() == b"x"


def test_a_full_disk_is_one_line_and_the_old_content_stays(tmp_path, monkeypatch):
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)  # where a full disk may show first, after buffered writes went well
    with pytest.raises(DataError) as caught:
        write_text(target, "new")
    assert str(target) in str(caught.value)
    assert "No space left on device" in str(caught.value)
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on the size of files")
def test_a_write_that_the_system_cuts_short_leaves_the_old_content(tmp_path):
    """The same with a real failing write: files of this process may not grow beyond 64 KiB."""
    import resource

    target = tmp_path / "a.bin"
    write_bytes(target, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    try:
        with pytest.raises(DataError, match=r"cannot write .*a\.bin"):
            write_bytes(target, bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_folder_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot write"):
        write_text(tmp_path / "file" / "a.txt", "x")


def test_a_target_that_is_a_folder_is_one_line(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(DataError, match="cannot write"):
        write_text(tmp_path / "a.txt", "x")
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_without_permission_is_one_line(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    try:
        if os.access(folder, os.W_OK):
            pytest.skip("this user may write everywhere")
        with pytest.raises(DataError, match="Permission denied"):
            write_text(folder / "a.txt", "x")
    finally:
        folder.chmod(0o755)


def test_a_killed_writer_leaves_the_old_content(tmp_path):
    target = tmp_path / "a.bin"
    write_bytes(target, b"old")
    code = """
        import sys
        from deeplabv3p.files import atomic_path
        with atomic_path(sys.argv[1]) as temporary:
            temporary.write_bytes(bytes(100_000))
            print("writing", flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        writer.kill()
    assert target.read_bytes() == b"old"


def test_a_reader_never_sees_half(tmp_path):
    """A reader in a loop beside a writer in a loop: each read is one whole version."""
    target = tmp_path / "a.bin"
    write_bytes(target, b"0" * 300_000)
    code = """
        import sys
        from deeplabv3p.files import write_bytes
        for i in range(40):
            write_bytes(sys.argv[1], b"%d" % (i % 10) * 300_000)
    """
    seen = set()
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(target)]) as writer:
        deadline = time.monotonic() + 20
        while writer.poll() is None and time.monotonic() < deadline:
            content = target.read_bytes()
            assert len(content) == 300_000
            assert len(set(content)) == 1
            seen.add(content[0])
    assert writer.returncode == 0
    assert len(seen) > 1
