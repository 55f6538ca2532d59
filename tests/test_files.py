"""Readers raise one-line errors for files they cannot use; writers are atomic."""

import gc
import io
import json
import os
import pickle
import string
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from helpers import error_message
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hopmin._files import (
    atomic_write,
    load_arrays,
    map_arrays,
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
    assert error_message(ValueError, load_arrays, path, "model") == f"{path} must hold a model in format 1; got a memory in format 1"


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
    assert error_message(ValueError, read, tmp_path, "model") == f"model must be a readable file; {tmp_path}: Is a directory"
    path = tmp_path / "none"
    assert error_message(ValueError, read, path, "model") == f"model must be a readable file; {path}: No such file or directory"


@READERS
@pytest.mark.parametrize("arrays", [["a", "b"], [], {"a": "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}"}])
def test_arrays_that_do_not_match_the_description_raise(tmp_path, arrays, read):
    path = tmp_path / "file.npz"
    about = json.dumps({"format": 1, "kind": "model", "arrays": arrays, "records": {}})
    crafted(path, "{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", bytes(8), about=about)
    assert error_message(ValueError, read, path, "model") == DAMAGED.format(path)
