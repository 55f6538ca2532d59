"""Readers raise one-line errors for files they cannot use; writers are atomic."""

import copy
import errno
import gc
import io
import json
import os
import pickle
import stat
import string
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from helpers import error_message
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hopmin import _files
from hopmin._files import (
    atomic_write,
    load_arrays,
    map_arrays,
    read_bytes,
    read_chunks,
    read_text,
    save_arrays,
    writable_folder,
    write_text,
)  # fmt: skip

# Atomic writes


def test_a_complete_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def write_and_raise(path, error):
    with atomic_write(path) as file:
        file.write(b"half of it")
        raise error


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("old", [b"old", None])
def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path, error, old):
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(error):
        write_and_raise(path, error)
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == ([] if old is None else [old])


def test_a_missing_folder_is_named_in_the_error(tmp_path):
    path = tmp_path / "none" / "file"
    expected = f"path must be a file that can be written; {path}: No such file or directory"
    assert error_message(ValueError, write_text, path, "text") == expected


@pytest.mark.parametrize("make", [os.mkdir, *([os.mkfifo] if hasattr(os, "mkfifo") else [])])
def test_folders_and_pipes_are_not_replaced_by_a_file(tmp_path, make):
    """Nor are devices, which the superuser could replace."""
    make(tmp_path / "it")
    kind = os.stat(tmp_path / "it").st_mode
    os.symlink(tmp_path / "it", tmp_path / "link")
    for path in (tmp_path / "it", tmp_path / "link"):
        found = error_message(ValueError, write_text, path, "text")
        assert found == f"path must be a file that can be written; {tmp_path / 'it'} is not a regular file"
    assert os.stat(tmp_path / "it").st_mode == kind
    assert {entry.name for entry in tmp_path.iterdir()} == {"it", "link"}
    for path in (os.devnull, "/", ""):  # "" is the working folder
        assert error_message(ValueError, write_text, path, "text").endswith("is not a regular file")


def test_a_symbolic_link_is_kept_and_its_target_replaced(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    os.symlink("file", tmp_path / "link")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


def test_text_is_written_as_utf8_and_read_back_unchanged(tmp_path):
    write_text(tmp_path / "text", "naïve β\r\n")
    assert (tmp_path / "text").read_bytes() == "naïve β\r\n".encode()
    assert read_text(tmp_path / "text") == "".join(read_chunks(tmp_path / "text")) == "naïve β\r\n"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755, 0o666])
def test_a_replaced_file_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    os.symlink("file", tmp_path / "link")
    with atomic_write(tmp_path / "link") as file:
        if os.name == "posix":
            assert stat.S_IMODE(os.stat(file.name).st_mode) & 0o077 == 0  # not readable by others before it is whole
        file.write(b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", mode)


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_new_file_follows_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot open folders")
def test_the_folder_is_synced_after_the_rename(tmp_path, monkeypatch):
    calls = []

    def noted(name, function):
        monkeypatch.setattr(os, name, lambda *arguments: (calls.append(name), function(*arguments))[1])

    def fsync(descriptor):
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")

    monkeypatch.setattr(os, "fsync", fsync)
    noted("replace", os.replace)
    write_text(tmp_path / "file", "text")
    assert calls == ["file", "replace", "folder"]


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path, monkeypatch):
    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "file", "text")
    assert read_text(tmp_path / "file") == "text"


KILLED = """
import os, signal, sys
from hopmin._files import atomic_write
for path in sys.argv[1:]:
    if not os.fork():
        with atomic_write(path) as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and locks")
def test_twenty_killed_writes_leave_at_most_one_file_each(tmp_path):
    first, second = tmp_path / "a[1]", tmp_path / "a"  # a name that is also a pattern
    second.write_bytes(b"old")
    subprocess.run([sys.executable, "-c", KILLED, *20 * [first], *2 * [second]], cwd=tmp_path, check=True)
    assert len(list(tmp_path.iterdir())) == 3
    assert second.read_bytes() == b"old"
    write_text(first, "new")
    assert {entry.name[:6] for entry in tmp_path.iterdir()} == {"a[1]", "a", ".a." + second_token(tmp_path)}
    write_text(second, "new")
    assert {entry.name for entry in tmp_path.iterdir()} == {"a[1]", "a"}


def second_token(folder):
    """Return the first three random characters of the one temporary file."""
    (name,) = [entry.name for entry in folder.iterdir() if entry.name.startswith(".")]
    return name[3:6]


@pytest.mark.skipif(_files.fcntl is None, reason="needs locks")
def test_files_in_use_and_files_of_others_are_not_deleted(tmp_path):
    """Two writers of the same file: the last to finish wins, and neither is disturbed."""
    path = tmp_path / "file"
    others = [tmp_path / ".file.0123abc.hopmin", tmp_path / ".file.0123abcd", tmp_path / ".other.0123abcd.hopmin"]
    for other in others:
        other.write_bytes(b"kept")
    (tmp_path / ".file.01234567.hopmin").mkdir()
    with atomic_write(path) as slow:
        slow.write(b"slow")
        with atomic_write(path) as fast:
            fast.write(b"fast")
        assert path.read_bytes() == b"fast"
    assert path.read_bytes() == b"slow"
    assert len(list(tmp_path.iterdir())) == 2 + len(others)


@pytest.mark.skipif(_files.fcntl is None, reason="needs locks")
def test_a_file_deleted_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    flock, deleted = _files.fcntl.flock, []

    def late(file, operation):
        if not deleted:
            deleted.append(os.unlink(file.name))
        flock(file, operation)

    monkeypatch.setattr(_files.fcntl, "flock", late)
    write_text(tmp_path / "file", "text")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_without_locks_files_are_written_and_none_is_deleted(tmp_path, monkeypatch):
    """On Windows, and on file systems that cannot lock."""
    (tmp_path / ".file.01234567.hopmin").write_bytes(b"kept")
    if _files.fcntl is not None:

        def flock(file, operation):
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(_files.fcntl, "flock", flock)
        write_text(tmp_path / "file", "text")
    monkeypatch.setattr(_files, "fcntl", None)
    write_text(tmp_path / "file", "text")
    assert {entry.name for entry in tmp_path.iterdir()} == {"file", ".file.01234567.hopmin"}


# Paths

PATHS = {
    "read_text": read_text, "read_bytes": read_bytes, "read_chunks": lambda path: list(read_chunks(path)),
    "write_text": lambda path: write_text(path, ""), "save_arrays": lambda path: save_arrays(path, "thing", {}),
    "load_arrays": lambda path: load_arrays(path, "thing"), "map_arrays": lambda path: map_arrays(path, "thing"),
}  # fmt: skip


@pytest.mark.parametrize("function", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("path", [True, False, 0, np.int64(1), 3.0, None, b"file", ["file"]], ids=repr)
def test_only_strings_and_paths_are_paths(function, path):
    """`open` would take integers and booleans for descriptors of open files, read them and close them."""
    assert error_message(TypeError, function, path) == f"path must be a string or a path object; got {path!r}"


def test_an_open_file_is_neither_read_nor_closed(tmp_path):
    save_arrays(tmp_path / "file", "thing", {})
    with open(tmp_path / "file", "rb") as file:
        for function in PATHS.values():
            with pytest.raises(TypeError):
                function(file.fileno())
        assert file.tell() == 0
        assert file.read(2) == b"PK"


@pytest.mark.parametrize("function", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("path", ["a\0b", "\ud800"], ids=repr)
def test_paths_that_no_system_can_open_are_refused(function, path):
    sentence = error_message(ValueError, function, path)
    assert sentence == f"path must be a path that the system can encode, without NUL; got {path!r}"


def test_a_file_has_exactly_the_name_that_was_given(tmp_path):
    for name in ("plain", "a.npz", "b.NPZ", "c.npz.old"):
        save_arrays(tmp_path / name, "thing", {"a": np.arange(3)})
        assert load_arrays(tmp_path / name, "thing")[0]["a"].tolist() == [0, 1, 2]
    assert sorted(os.listdir(tmp_path)) == ["a.npz", "b.NPZ", "c.npz.old", "plain"]
    assert error_message(ValueError, write_text, f"{tmp_path}/new/", "text").endswith("is not a regular file")


# Memory

SHORT_OF_MEMORY = """
import resource, sys
import numpy as np
from hopmin import _files
path, kind = sys.argv[1:]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 30_000_000,) * 2)
for read in (_files.load_arrays, _files.map_arrays):
    try:
        read(path, kind)
    except Exception as error:
        print(type(error).__name__, error)
for read in (_files.read_text, _files.read_bytes):
    try:
        read(path + ".txt")
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs the limits of Linux")
def test_a_lack_of_memory_is_not_called_damage(tmp_path):
    path = tmp_path / "file.npz"
    save_arrays(path, "thing", {"a": np.zeros(10_000_000)})
    (tmp_path / "file.npz.txt").write_bytes(b" " * 50_000_000)
    command = [sys.executable, "-c", SHORT_OF_MEMORY, path, "thing"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    size = path.stat().st_size
    assert found == [
        *2 * [f"MemoryError no memory for the {size:,} bytes of {path}"],
        *2 * [f"MemoryError no memory for the 50,000,000 bytes of {path}.txt"],
    ]
    assert load_arrays(path, "thing")[0]["a"].shape == (10_000_000,)


@pytest.mark.parametrize("error", [MemoryError, OSError(errno.ENOMEM, "Cannot allocate memory")])
def test_a_map_without_address_space_is_no_damage(tmp_path, monkeypatch, error):
    def memmap(*arguments):
        raise error

    save_arrays(tmp_path / "file", "thing", {"a": np.zeros(9)})
    monkeypatch.setattr(np, "memmap", memmap)
    sentence = error_message(MemoryError, map_arrays, tmp_path / "file", "thing")
    assert sentence == f"no memory for the {os.path.getsize(tmp_path / 'file'):,} bytes of {tmp_path / 'file'}"


def test_a_device_that_fails_is_no_damage(tmp_path, monkeypatch):
    def memmap(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    save_arrays(tmp_path / "file", "thing", {"a": np.zeros(9)})
    monkeypatch.setattr(np, "memmap", memmap)
    sentence = error_message(ValueError, map_arrays, tmp_path / "file", "thing")
    assert sentence == f"thing must be a readable file; {tmp_path / 'file'}: Input/output error"


# Folders


def test_a_folder_is_created_with_its_parents_and_left_empty(tmp_path):
    assert writable_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert writable_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize(("below", "reason"), [("file", "File exists"), ("file/a", "Not a directory")])
def test_a_file_in_the_place_of_a_folder_raises(tmp_path, below, reason):
    (tmp_path / "file").write_text("kept")
    expected = f"out must be a folder that can be written to; {tmp_path / below}: {reason}"
    assert error_message(ValueError, writable_folder, tmp_path / below) == expected
    assert (tmp_path / "file").read_text() == "kept"


# Arrays

NAMES = st.text(string.ascii_letters + "/._1", min_size=1).map(lambda name: f"parameters/{name}")
ARRAYS = st.sampled_from(["float32", "float64", "int64"]).flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, min_side=0, max_side=3))
)
RECORDS = st.dictionaries(
    st.sampled_from(["config", "training", "corpus"]),
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists),
)


@given(st.dictionaries(NAMES, ARRAYS, max_size=4), RECORDS)
def test_arrays_and_records_are_loaded_as_they_were_saved(tmp_path_factory, arrays, records):
    path = tmp_path_factory.mktemp("arrays") / "file.npz"
    save_arrays(path, "thing", arrays, **records)
    back, loaded_records = load_arrays(path, "thing")
    assert loaded_records == records
    assert back.keys() == arrays.keys()
    for name, a in arrays.items():
        assert (back[name].dtype, back[name].shape, back[name].tobytes()) == (a.dtype, a.shape, a.tobytes())


def test_a_file_of_another_kind_raises(tmp_path):
    path = tmp_path / "file.npz"
    save_arrays(path, "memory", {})
    assert (
        error_message(ValueError, load_arrays, path, "model")
        == f"{path} must hold a model in format 1; got a memory in format 1"
    )


DAMAGED = "model must be a file that hopmin saved; {} is damaged or has another format"


def test_object_arrays_are_not_saved(tmp_path):
    path = tmp_path / "file.npz"
    save_arrays(path, "model", {"a": np.zeros(2)})
    before = path.read_bytes()
    with pytest.raises((ValueError, TypeError), match=r"(?i)^[^\n]*object[^\n]*$"):
        save_arrays(path, "model", {"a": np.array([{}], object)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_object_arrays_are_not_loaded(tmp_path):
    path = tmp_path / "file.npz"
    save_arrays(path, "model", {"a": np.zeros(1)})
    with np.load(path) as file:
        about = file["hopmin"]
    np.savez(path, hopmin=about, a=np.array([print], object))
    assert error_message(ValueError, load_arrays, path, "model") == DAMAGED.format(path)


@pytest.mark.parametrize(
    "about", ["", "{", "3", "[]", "null", "{}", '{"kind": "model"}', '{"kind": "model", "format": 1}']
)
def test_a_file_with_an_invalid_description_raises(tmp_path, about):
    path = tmp_path / "file.npz"
    np.savez(path, hopmin=np.array(about))
    assert error_message(ValueError, load_arrays, path, "model") == DAMAGED.format(path)


def loaded(path):
    """Return the contents of the file, or the error message."""
    try:
        return load_arrays(path, "model")
    except ValueError as error:
        return str(error)


def test_a_changed_byte_is_detected_or_has_no_effect(tmp_path):
    path = tmp_path / "file.npz"
    save_arrays(path, "model", {"a": np.arange(3.0), "b": np.ones((2, 2), np.float32)}, x=1)
    whole, right = path.read_bytes(), loaded(path)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        found = loaded(path)
        if not str(found).startswith("model must be a "):
            np.testing.assert_equal(found, right)


@pytest.mark.parametrize("size", [0, 1, 10, 100, 500, -1])
def test_a_truncated_file_raises_and_is_closed(tmp_path, size):
    path = tmp_path / "file.npz"
    save_arrays(path, "model", {"a": np.arange(100.0)})
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert error_message(ValueError, load_arrays, path, "model") == DAMAGED.format(path)
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


@pytest.mark.parametrize("name", ["hopmin", "file"])
def test_reserved_names_raise(tmp_path, name):
    expected = f"arrays must not be named hopmin or file; got {name}"
    assert error_message(ValueError, save_arrays, tmp_path / "file.npz", "thing", {name: np.zeros(1)}) == expected


# Mapped arrays

READERS = pytest.mark.parametrize("read", [load_arrays, map_arrays])


def sections(path):
    """Yield for each member of a saved file its name and the offsets of its header, its data, and its end."""
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        for member in archive.infolist():
            file.seek(member.header_offset + 26)
            name, extra = struct.unpack("<HH", file.read(4))
            start = member.header_offset + 30 + name + extra
            file.seek(start + 8)
            first = start + 10 + struct.unpack("<H", file.read(2))[0]
            yield member.filename, start, first, start + member.file_size


@given(st.dictionaries(NAMES, ARRAYS, max_size=4), RECORDS)
@settings(max_examples=50)
def test_mapped_arrays_equal_loaded_ones_and_are_aligned(tmp_path_factory, arrays, records):
    path = tmp_path_factory.mktemp("arrays") / "file.npz"
    save_arrays(path, "thing", arrays, **records)
    back, mapped_records = map_arrays(path, "thing")
    assert mapped_records == records
    for name, a in arrays.items():
        assert (back[name].dtype, back[name].shape, back[name].tobytes()) == (a.dtype, a.shape, a.tobytes())
        assert isinstance(back[name], np.memmap) == (a.size > 0)
    for _, start, first, _ in sections(path):
        assert start % 64 == first % 64 == 0
    with np.load(path) as file:
        assert set(file) == {"hopmin", *arrays}


@READERS
@pytest.mark.parametrize(
    "a",
    [
        np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(12.0).reshape(3, 4)[::2, ::-1], np.array(["", "αβ"]),
        np.array([True]), np.array("2024-01-01", "M8[s]"), np.zeros((0, 3), ">i2"), np.zeros((3, 0)), np.zeros(2, "U0"),
        np.array([(1, 2.0)], np.dtype("i1,f8", align=True)), np.float64(3.0), np.arange(400_000.0).reshape(2, -1),
    ],
    ids=str,
)  # fmt: skip
def test_arrays_of_any_layout_and_dtype_are_kept(tmp_path, a, read):
    path = tmp_path / "file.npz"
    save_arrays(path, "thing", {"a": np.asarray(a)})
    back = read(path, "thing")[0]["a"]
    assert (back.dtype, back.shape, back.tolist()) == (a.dtype, a.shape, a.tolist())
    with np.load(path) as file:
        assert file["a"].tolist() == a.tolist()


@READERS
@pytest.mark.parametrize("a", [np.zeros(1, [("β", "f8")]), np.zeros(1, [("a" * 70_000, "f8")])], ids=["name", "length"])
def test_dtypes_without_a_version_1_header_raise(tmp_path, a, read):
    path = tmp_path / "file.npz"
    save_arrays(path, "thing", {"a": np.zeros(2)})
    with pytest.raises(ValueError):
        save_arrays(path, "thing", {"a": a})
    assert read(path, "thing")[0]["a"].tolist() == [0, 0]


def test_a_map_is_read_only_and_survives_replacement(tmp_path):
    path = tmp_path / "file.npz"
    save_arrays(path, "thing", {"a": np.arange(3.0)})
    a = map_arrays(path, "thing")[0]["a"]
    with pytest.raises(ValueError, match="read-only"):
        a[0] = 7
    save_arrays(path, "thing", {"a": np.zeros(3)})
    assert a.tolist() == [0, 1, 2]


def contents(read, path):
    """Return the contents of the file, or None if it raises a one-line error."""
    try:
        arrays, records = read(path, "model")
    except ValueError as error:
        if "\n" in str(error) or not str(error).startswith(("model must be a ", f"{path} must hold a ")):
            raise
        return None
    return {name: (a.dtype, a.shape, a.tobytes()) for name, a in arrays.items()}, records


def test_a_changed_byte_of_a_mapped_file_changes_only_numbers(tmp_path):
    path = tmp_path / "file.npz"
    save_arrays(path, "model", {"a": np.ones((2, 1)), "b": np.array(["x"])}, x=1)
    whole, right = path.read_bytes(), contents(map_arrays, path)
    numbers = {i for name, _, first, end in sections(path) if name != "hopmin.npy" for i in range(first, end)}
    refused = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns of headers that Python 2 may have written
            got = contents(map_arrays, path)
        refused += got is None
        assert got is None or got == right or place in numbers
    assert refused > 500


@READERS
def test_a_file_truncated_at_any_byte_raises(tmp_path, read):
    path = tmp_path / "file.npz"
    save_arrays(path, "model", {"a": np.arange(100.0)})
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        assert error_message(ValueError, read, path, "model") == DAMAGED.format(path)


def crafted(path, header, numbers=b"", compression=zipfile.ZIP_STORED, about=None):
    """Write a file with one array under any header."""
    about = about or json.dumps({"format": 1, "kind": "model", "arrays": {"a": header}, "records": {}})
    with zipfile.ZipFile(path, "w", compression) as archive:
        out = io.BytesIO()
        np.save(out, np.array(about))
        archive.writestr("hopmin.npy", out.getvalue())
        text = header.encode("latin1")
        archive.writestr("a.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + numbers)


@READERS
@pytest.mark.parametrize(
    ("header", "numbers"),
    [
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}", bytes(8)),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1)}", bytes(8)),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000,)}", bytes(8)),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000,)}", bytes(8)),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296, 2)}", b""),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}", bytes(8)),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", bytes(16)),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", pickle.dumps([print])),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", bytes(8)),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (0,)}", b""),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 0)}", b""),
        ("{'descr': '<f8', 'fortran_order': False}", bytes(8)),
        ("{'descr': 'nothing', 'fortran_order': False, 'shape': (1,)}", bytes(8)),
        ("print(1)", bytes(8)),
        ("(" * 9000, b""),
        ("-" * 9000 + "1", b""),  # Python's parser raises MemoryError
    ],
)  # fmt: skip
def test_impossible_headers_raise_without_allocating(tmp_path, header, numbers, read):
    path = tmp_path / "file.npz"
    crafted(path, header, numbers)
    tracemalloc.start()
    assert error_message(ValueError, read, path, "model") == DAMAGED.format(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


@READERS
def test_compressed_arrays_raise_without_allocating(tmp_path, read):
    path = tmp_path / "file.npz"
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (30000000,)}"
    crafted(path, header, bytes(30_000_000), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    assert error_message(ValueError, read, path, "model") == DAMAGED.format(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


@READERS
def test_members_that_overlap_raise_without_allocating(tmp_path, read):
    """A directory that names the same bytes many times could take any amount of memory."""
    path = tmp_path / "file.npz"
    names = [f"a{i:03}" for i in range(100)]
    header = str(np.lib.format.header_data_from_array_1_0(np.zeros(20_000)))
    about = json.dumps({"format": 1, "kind": "model", "arrays": dict.fromkeys(names, header), "records": {}})
    crafted(path, header, bytes(160_000), about=about)
    with zipfile.ZipFile(path, "a") as archive:
        (member,) = [each for each in archive.infolist() if each.filename == "a.npy"]
        for name in names:
            again = copy.copy(member)
            again.filename = f"{name}.npy"
            archive.filelist.append(again)
        archive.filelist.remove(member)
        archive._didModify = True
    tracemalloc.start()
    assert error_message(ValueError, read, path, "model") == DAMAGED.format(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_text_of_a_file_is_quoted_without_control_characters(tmp_path):
    path = tmp_path / "file.npz"
    about = json.dumps({"format": "\x1b[2J\x9b", "kind": "\x1b]0;title\x07\n", "arrays": {}, "records": {}})
    np.savez(path, hopmin=np.array(about))
    sentence = error_message(ValueError, load_arrays, path, "model")
    assert sentence == f"{path} must hold a model in format 1; got a \\x1b]0;title\\x07\\n in format \\x1b[2J\\x9b"


def empty_zip(path):
    zipfile.ZipFile(path, "w").close()


def foreign_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")


def plain_array(path):
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))


def pickled(path):
    path.write_bytes(pickle.dumps({"a": print}))


def foreign_arrays(path):
    np.savez(path, a=np.zeros(3))


@READERS
@pytest.mark.parametrize("write", [empty_zip, foreign_zip, plain_array, pickled, foreign_arrays])
def test_foreign_files_raise(tmp_path, write, read):
    path = tmp_path / "file.npz"
    write(path)
    assert error_message(ValueError, read, path, "model") == DAMAGED.format(path)


@READERS
def test_a_folder_and_a_missing_file_are_named_in_the_error(tmp_path, read):
    assert (
        error_message(ValueError, read, tmp_path, "model")
        == f"model must be a readable file; {tmp_path}: Is a directory"
    )
    path = tmp_path / "none"
    assert (
        error_message(ValueError, read, path, "model")
        == f"model must be a readable file; {path}: No such file or directory"
    )


@READERS
@pytest.mark.parametrize("arrays", [["a", "b"], [], {"a": "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}"}])
def test_arrays_that_do_not_match_the_description_raise(tmp_path, arrays, read):
    path = tmp_path / "file.npz"
    about = json.dumps({"format": 1, "kind": "model", "arrays": arrays, "records": {}})
    crafted(path, "{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", bytes(8), about=about)
    assert error_message(ValueError, read, path, "model") == DAMAGED.format(path)
