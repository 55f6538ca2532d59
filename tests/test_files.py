"""Files are read whole or refused with a sentence, written whole or not at all."""

import gc
import string
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hopmin._files import load_arrays, read_text, replaced, save_arrays, writable_folder, write_text


def complaint(function, *arguments, **options):
    with pytest.raises(ValueError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Replaced


def test_the_new_file_takes_the_place_of_the_old_once_it_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replaced(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def half_written(path, error):
    with replaced(path) as file:
        file.write(b"half of it")
        raise error


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("old", [b"old", None])
def test_a_writer_that_fails_leaves_the_old_file_and_no_trace(tmp_path, error, old):
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(error):
        half_written(path, error)
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == ([] if old is None else [old])


def test_a_folder_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "none" / "file"
    expected = f"path must be a file that can be written; {path}: No such file or directory"
    assert complaint(write_text, path, "text") == expected


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    assert complaint(write_text, folder, "text") == f"path must be a file that can be written; {folder}: Is a directory"
    assert list(tmp_path.iterdir()) == [folder]


def test_text_is_written_as_utf8_and_read_back(tmp_path):
    write_text(tmp_path / "text", "naïve β\n")
    assert (tmp_path / "text").read_bytes() == "naïve β\n".encode()
    assert read_text(tmp_path / "text") == "naïve β\n"


# Folders


def test_a_folder_is_made_with_all_above_it_and_left_empty(tmp_path):
    assert writable_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert writable_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize(("below", "reason"), [("file", "File exists"), ("file/a", "Not a directory")])
def test_a_folder_cannot_stand_on_a_file(tmp_path, below, reason):
    (tmp_path / "file").write_text("kept")
    expected = f"out must be a folder that can be written to; {tmp_path / below}: {reason}"
    assert complaint(writable_folder, tmp_path / below) == expected
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
def test_arrays_and_records_come_back(tmp_path_factory, arrays, records):
    path = tmp_path_factory.mktemp("arrays") / "file.npz"
    save_arrays(path, "thing", arrays, **records)
    back, told = load_arrays(path, "thing")
    assert told == records
    assert back.keys() == arrays.keys()
    for name, a in arrays.items():
        assert (back[name].dtype, back[name].shape, back[name].tobytes()) == (a.dtype, a.shape, a.tobytes())


def test_another_kind_of_thing_is_named(tmp_path):
    path = tmp_path / "file.npz"
    save_arrays(path, "memory", {})
    assert complaint(load_arrays, path, "model") == f"{path} must hold a model in format 1; got a memory in format 1"


DAMAGED = "model must be a file that hopmin saved; {} is damaged or something else"


def test_objects_are_not_saved(tmp_path):
    path = tmp_path / "file.npz"
    save_arrays(path, "model", {"a": np.zeros(2)})
    before = path.read_bytes()
    with pytest.raises((ValueError, TypeError), match=r"(?i)^[^\n]*object[^\n]*$"):
        save_arrays(path, "model", {"a": np.array([{}], object)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_objects_are_not_loaded(tmp_path):
    path = tmp_path / "file.npz"
    save_arrays(path, "model", {"a": np.zeros(1)})
    with np.load(path) as file:
        about = file["hopmin"]
    np.savez(path, hopmin=about, a=np.array([print], object))
    assert complaint(load_arrays, path, "model") == DAMAGED.format(path)


@pytest.mark.parametrize(
    "about", ["", "{", "3", "[]", "null", "{}", '{"kind": "model"}', '{"kind": "model", "format": 1}']
)
def test_a_file_that_tells_of_itself_in_another_way_is_refused(tmp_path, about):
    path = tmp_path / "file.npz"
    np.savez(path, hopmin=np.array(about))
    assert complaint(load_arrays, path, "model") == DAMAGED.format(path)


def loaded(path):
    """What the file holds, or the complaint."""
    try:
        return load_arrays(path, "model")
    except ValueError as error:
        return str(error)


def test_a_file_with_any_one_byte_changed_is_refused_or_the_same(tmp_path):
    path = tmp_path / "file.npz"
    save_arrays(path, "model", {"a": np.arange(3.0), "b": np.ones((2, 2), np.float32)}, x=1)
    whole, right = path.read_bytes(), loaded(path)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        found = loaded(path)
        if not str(found).startswith("model must be a "):
            np.testing.assert_equal(found, right)


@pytest.mark.parametrize("size", [0, 1, 10, 100, 500, -1])
def test_a_file_cut_anywhere_is_refused_and_closed(tmp_path, size):
    path = tmp_path / "file.npz"
    save_arrays(path, "model", {"a": np.arange(100.0)})
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    gc.collect()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert complaint(load_arrays, path, "model") == DAMAGED.format(path)
        gc.collect()
    assert [str(warning.message) for warning in told] == []


def test_a_path_without_a_name_is_refused():
    assert complaint(write_text, "", "") == "path must be a file that can be written; got '.'"


@pytest.mark.parametrize("name", ["hopmin", "file"])
def test_the_names_the_format_needs_are_refused(tmp_path, name):
    expected = f"arrays must not go by the names hopmin and file; got {name}"
    assert complaint(save_arrays, tmp_path / "file.npz", "thing", {name: np.zeros(1)}) == expected
