from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from agent import wal_format as form
from agent.wal import MemoryLog, Wal
from agent.wal_recovery import CorruptLog
from core.errors import CtlError, StorageFull
from core.raft.messages import COMMAND, CONFIGURATION, NOOP, Entry
from core.raft.ready import HardState, Ready
from tests.agent.wal_disk import IO_ERROR, NO_SPACE, FlakyFiles

SMALL = 1 << 15


def open_wal(folder: Path, files: FlakyFiles | None = None, size: int = SMALL) -> Wal:
    return Wal(folder, Random(7), files, size)


def batch(first: int, count: int = 1, term: int = 1, size: int = 20) -> Ready:
    return Ready(
        entries=[Entry(i, term, COMMAND, b"%d:" % i + b"x" * size) for i in range(first, first + count)]
    )


def all_entries(wal: Wal) -> list[Entry]:
    return wal.read(wal.recovered.base + 1, wal.recovered.last)


def only_segment(folder: Path) -> Path:
    (path,) = folder.glob("*.seg")
    return path


def end_of(wal: Wal) -> int:
    return wal._current.end


def test_everything_comes_back(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    entries = [
        Entry(1, 1, CONFIGURATION, b"conf", None),
        Entry(2, 2, NOOP, None, None),
        Entry(3, 2, COMMAND, b"", b""),
        Entry(4, 2, COMMAND, b"data", b"ext"),
    ]
    wal.append(Ready(hard_state=HardState(2, "node-\u00e9"), entries=entries))
    wal.close()
    wal = open_wal(tmp_path)
    assert all_entries(wal) == entries
    found = wal.recovered
    assert (found.hard, found.last, found.base) == (HardState(2, "node-\u00e9"), 4, 0)
    assert found.runs == [(1, 1), (2, 2)]
    assert found.configurations == [(1, b"conf")]
    wal.close()


def test_a_batch_is_one_write(tmp_path: Path) -> None:
    files = FlakyFiles()
    wal = open_wal(tmp_path, files)
    before = files.writes
    wal.append(Ready(hard_state=HardState(1, "a"), truncate=0, entries=batch(1, 50).entries))
    assert files.writes == before + 1
    wal.close()


def test_truncation_drops_and_replaces(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    wal.append(batch(1, 5))
    wal.append(batch(6, 5))
    wal.append(Ready(truncate=4, entries=batch(4, 2, term=3).entries))
    assert [(e.index, e.term) for e in wal.read(1, 5)] == [(1, 1), (2, 1), (3, 1), (4, 3), (5, 3)]
    wal.close()
    wal = open_wal(tmp_path)
    assert [(e.index, e.term) for e in all_entries(wal)] == [(1, 1), (2, 1), (3, 1), (4, 3), (5, 3)]
    assert wal.recovered.runs == [(1, 1), (4, 3)]
    wal.close()


def test_truncations_within_one_batch(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    wal.append(batch(1, 4))
    readies = [
        Ready(truncate=4, entries=batch(4, 4, term=2).entries),
        Ready(truncate=3, entries=batch(3, 2, term=3).entries),
        Ready(truncate=4, entries=batch(4, 3, term=4).entries),
    ]
    frame = wal.prepare(readies)
    wal.write(frame)
    wal.finish(frame)
    expected = [(1, 1), (2, 1), (3, 3), (4, 4), (5, 4), (6, 4)]
    assert [(e.index, e.term) for e in wal.read(1, 6)] == expected
    wal.close()
    wal = open_wal(tmp_path)
    assert [(e.index, e.term) for e in all_entries(wal)] == expected
    wal.close()


def test_tail_torn_at_every_byte(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, size=8192)
    wal.append(batch(1, 3))
    start = end_of(wal)
    wal.append(batch(4, 2))
    end = end_of(wal)
    wal.close()
    path = only_segment(tmp_path)
    whole = path.read_bytes()
    for cut in range(start, end):
        # zeros and other bytes behind the cut: neither may hurt
        for filler in (b"\0", b"\xa5"):
            torn = whole[:cut] + filler * (end - cut) + whole[end:]
            if torn == whole:
                continue
            path.write_bytes(torn)
            wal = open_wal(tmp_path, size=8192)
            assert wal.recovered.last == 3, (cut, filler)
            wal.append(batch(4, 1, term=9))
            wal.close()
            wal = open_wal(tmp_path, size=8192)
            assert [(e.index, e.term) for e in all_entries(wal)][3:] == [(4, 9)]
            wal.close()


def test_every_flipped_bit_before_a_later_batch_is_found(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, size=8192)
    wal.append(batch(1, 2))
    start = form.HEADER_BLOCK
    end = end_of(wal)
    wal.append(batch(3, 1))
    wal.close()
    path = only_segment(tmp_path)
    whole = path.read_bytes()
    for offset in range(start, end):
        flipped = bytearray(whole)
        flipped[offset] ^= 1 << (offset % 8)
        path.write_bytes(flipped)
        with pytest.raises(CorruptLog) as caught:
            open_wal(tmp_path, size=8192)
        assert str(path) in str(caught.value) and f"offset {start}" in str(caught.value)


def test_a_zeroed_batch_before_a_later_one_is_found(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    wal.append(batch(1, 2))
    start = end_of(wal)
    wal.append(batch(3, 2))
    end = end_of(wal)
    wal.append(batch(5, 2))
    wal.close()
    path = only_segment(tmp_path)
    whole = bytearray(path.read_bytes())
    whole[start:end] = bytes(end - start)
    path.write_bytes(whole)
    with pytest.raises(CorruptLog, match=f"offset {start}: damaged, and batch 3 follows at {end}"):
        open_wal(tmp_path)


def test_a_damaged_header_is_found(tmp_path: Path) -> None:
    open_wal(tmp_path).close()
    path = only_segment(tmp_path)
    path.write_bytes(b"?" + path.read_bytes()[1:])
    with pytest.raises(CorruptLog, match="offset 0: not the header"):
        open_wal(tmp_path)


def fill(wal: Wal, first: int, last: int, size: int = 2000) -> None:
    for index in range(first, last + 1):
        wal.append(batch(index, size=size))


def test_segments_follow_each_other(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    wal.append(Ready(hard_state=HardState(4, "b")))
    fill(wal, 1, 50)
    assert len(list(tmp_path.glob("*.seg"))) > 3
    wal.close()
    wal = open_wal(tmp_path)
    assert [e.index for e in all_entries(wal)] == list(range(1, 51))
    assert wal.recovered.hard == HardState(4, "b")
    wal.close()


def test_a_missing_segment_is_found(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    fill(wal, 1, 50)
    wal.close()
    paths = sorted(tmp_path.glob("*.seg"))
    paths[1].unlink()
    with pytest.raises(CorruptLog, match="are damaged or missing"):
        open_wal(tmp_path)


def test_a_missing_first_segment_without_mark_is_found(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    fill(wal, 1, 50)
    wal.close()
    sorted(tmp_path.glob("*.seg"))[0].unlink()
    with pytest.raises(CorruptLog, match="are missing"):
        open_wal(tmp_path)


def test_damage_at_the_end_of_an_older_segment_is_found(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    fill(wal, 1, 50)
    wal.close()
    path = sorted(tmp_path.glob("*.seg"))[0]
    data = bytearray(path.read_bytes())
    data[len(bytes(data).rstrip(b"\0")) - 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptLog, match="are damaged or missing"):
        open_wal(tmp_path)


def mark(wal: Wal, index: int, term: int, replace: bool = False) -> None:
    frame = wal.prepare_mark(index, term, replace)
    wal.write(frame)
    wal.finish(frame)


def test_compaction_deletes_whole_segments(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    wal.append(Ready(hard_state=HardState(6, "c")))
    fill(wal, 1, 50)
    count = len(list(tmp_path.glob("*.seg")))
    mark(wal, 30, 1)
    unused = wal.take_unused()
    assert unused
    wal.remove(unused)
    assert len(list(tmp_path.glob("*.seg"))) == count - len(unused)
    assert [e.index for e in wal.read(31, 50)] == list(range(31, 51))
    wal.close()
    wal = open_wal(tmp_path)
    assert (wal.recovered.base, wal.recovered.base_term, wal.recovered.last) == (30, 1, 50)
    assert wal.recovered.hard == HardState(6, "c")
    assert [e.index for e in all_entries(wal)] == list(range(31, 51))
    wal.append(batch(51))
    wal.close()
    wal = open_wal(tmp_path)
    assert [e.index for e in all_entries(wal)] == list(range(31, 52))
    wal.close()


def test_a_snapshot_replaces_the_log(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    fill(wal, 1, 20)
    mark(wal, 12, 5, replace=True)
    wal.append(batch(13, 2, term=6))
    assert [e.index for e in wal.read(13, 14)] == [13, 14]
    wal.close()
    wal = open_wal(tmp_path)
    found = wal.recovered
    assert (found.base, found.base_term, found.last, found.runs) == (12, 5, 14, [(13, 6)])
    wal.close()


@pytest.mark.parametrize("number", [NO_SPACE, IO_ERROR])
@pytest.mark.parametrize("part", [None, 0, 10, 4000])
def test_a_failed_write_leaves_nothing_and_heals(tmp_path: Path, number: int, part: int | None) -> None:
    files = FlakyFiles()
    wal = open_wal(tmp_path, files)
    wal.append(batch(1, 3))
    files.fail_write, files.write_part = number, part
    with pytest.raises(StorageFull, match="the Raft log cannot be written"):
        wal.append(batch(4, 3, size=3000))
    assert [e.index for e in wal.read(1, 3)] == [1, 2, 3]
    files.fail_create = number
    files.fail_write = 0
    with pytest.raises(StorageFull):  # the tail is unknown, and there is no room for a new segment
        wal.append(batch(4, 1, term=8))
    files.fail_create = 0
    wal.append(batch(4, 2, term=9))
    wal.close()
    wal = open_wal(tmp_path)
    assert [(e.index, e.term) for e in all_entries(wal)] == [(1, 1), (2, 1), (3, 1), (4, 9), (5, 9)]
    wal.close()


def test_a_write_that_failed_after_reaching_the_disk_is_superseded(tmp_path: Path) -> None:
    files = FlakyFiles()
    wal = open_wal(tmp_path, files)
    wal.append(batch(1, 1))
    files.fail_write, files.write_part = IO_ERROR, 1 << 20  # all bytes written, the fsync fails
    with pytest.raises(StorageFull):
        wal.append(batch(2, 5))
    files.fail_write = 0
    wal.append(batch(2, 1, term=2))
    wal.append(batch(3, 1, term=2))
    wal.close()
    wal = open_wal(tmp_path)
    assert [(e.index, e.term) for e in all_entries(wal)] == [(1, 1), (2, 2), (3, 2)]
    wal.close()


def test_repeated_failures_do_not_pile_up_files(tmp_path: Path) -> None:
    files = FlakyFiles()
    wal = open_wal(tmp_path, files)
    wal.append(batch(1, 1))
    for _ in range(20):
        files.fail_write, files.write_part = IO_ERROR, 5
        with pytest.raises(StorageFull):
            wal.append(batch(2, 1))
        files.fail_write = 0
    wal.append(batch(2, 1))
    assert len(list(tmp_path.iterdir())) <= 3
    wal.close()


def test_a_full_disk_without_room_for_a_segment(tmp_path: Path) -> None:
    files = FlakyFiles()
    wal = open_wal(tmp_path, files)
    files.fail_create = NO_SPACE
    index = 1
    with pytest.raises(StorageFull, match="No space left on device"):
        while True:
            wal.append(batch(index, size=1000))
            index += 1
    assert index > 10
    with pytest.raises(OSError):
        wal.make_spare()
    files.fail_create = 0
    wal.append(batch(index, size=1000))
    wal.close()
    wal = open_wal(tmp_path)
    assert wal.recovered.last == index
    wal.close()


def test_the_spare_is_used_and_survives_a_restart(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    assert not wal.wants_spare()
    fill(wal, 1, 10)
    assert wal.wants_spare()
    wal.make_spare()
    assert not wal.wants_spare()
    wal.close()
    files = FlakyFiles()
    wal = open_wal(tmp_path, files)
    files.fail_create = NO_SPACE
    fill(wal, 11, 20)
    wal.close()
    wal = open_wal(tmp_path)
    assert wal.recovered.last == 20
    wal.close()


def test_a_batch_larger_than_a_segment(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    wal.make_spare()
    wal.append(batch(1, 2, size=SMALL * 2))
    wal.append(batch(3, 1))
    wal.close()
    wal = open_wal(tmp_path)
    assert [len(e.data or b"") for e in all_entries(wal)] == [SMALL * 2 + 2, SMALL * 2 + 2, 22]
    wal.close()


def test_a_half_made_segment_is_removed(tmp_path: Path) -> None:
    open_wal(tmp_path).close()
    (tmp_path / "0000000000000002.seg.tmp").write_bytes(b"half")
    open_wal(tmp_path).close()
    assert [path.name for path in tmp_path.iterdir()] == ["0000000000000001.seg"]


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    with pytest.raises(CtlError, match="in use by another process"):
        open_wal(tmp_path)
    wal.close()
    open_wal(tmp_path).close()


def test_stored_bytes_cannot_pass_for_a_batch(tmp_path: Path) -> None:
    """A client stores a frame that is valid under another salt; the batch around it is torn."""
    wal = open_wal(tmp_path)
    wal.append(batch(1, 1))
    fake = form.encode_frame(b"", 99, 12345)
    start = end_of(wal)
    wal.append(Ready(entries=[Entry(2, 1, COMMAND, fake * 3)]))
    wal.close()
    path = only_segment(tmp_path)
    data = bytearray(path.read_bytes())
    data[start + 8] ^= 0xFF
    path.write_bytes(data)
    wal = open_wal(tmp_path)
    assert wal.recovered.last == 1
    wal.close()


def test_bytes_that_changed_since_are_not_served(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    wal.append(batch(1, 1))
    path = only_segment(tmp_path)
    with open(path, "r+b") as file:
        file.seek(form.HEADER_BLOCK + 30)
        file.write(b"\xff\xff")
    with pytest.raises(CorruptLog, match="damaged since it was written"):
        wal.read(1, 1)
    wal.close()


def test_files_are_not_readable_by_others(tmp_path: Path) -> None:
    open_wal(tmp_path).close()
    assert os.stat(only_segment(tmp_path)).st_mode & 0o777 == 0o600


def test_memory_log_has_the_same_door() -> None:
    log = MemoryLog()
    for ready in (batch(1, 5), Ready(truncate=4, entries=batch(4, 3, term=2).entries)):
        frame = log.prepare([ready])
        log.write(frame)
        log.finish(frame)
    assert [(e.index, e.term) for e in log.read(2, 6)] == [(2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]
    log.finish(log.prepare_mark(4, 2))
    assert [e.index for e in log.read(5, 6)] == [5, 6]
    log.finish(log.prepare_mark(9, 3, replace=True))
    log.finish(log.prepare([batch(10, 1)]))
    assert [e.index for e in log.read(10, 10)] == [10]


def test_truncation_below_a_deleted_segment_and_its_mark(tmp_path: Path) -> None:
    """The second segment starts with entry 3, drops 2 and 3, and says last that the log begins at 2."""
    files = FlakyFiles()
    wal = open_wal(tmp_path, files)
    wal.append(batch(1, 2))
    files.fail_write = IO_ERROR
    with pytest.raises(StorageFull):
        wal.append(batch(3, 1))
    files.fail_write = 0
    wal.append(batch(3, 1))
    wal.append(Ready(truncate=2, entries=batch(2, 1, term=5).entries))
    mark(wal, 1, 1)
    wal.remove(wal.take_unused())
    wal.close()
    assert len(list(tmp_path.glob("*.seg"))) == 1
    wal = open_wal(tmp_path)
    assert (wal.recovered.base, wal.recovered.base_term, wal.recovered.runs) == (1, 1, [(2, 5)])
    assert [(e.index, e.term) for e in all_entries(wal)] == [(2, 5)]
    wal.close()
