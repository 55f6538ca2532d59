"""Memories that are right in several styles, or wrong by a line or two."""

import math
import pickle

import numpy as np
import ours_memory

import hopmin

from . import Mutant


class Rows:
    """An array of rows; every change makes a new one."""

    def __init__(self, patterns):
        self.rows = np.array(patterns)

    def __len__(self):
        return len(self.rows)

    def squares(self, queries):
        return np.square(queries[:, None] - self.rows).sum(axis=2)

    def nearest(self, queries, k):
        if queries.shape[1] != self.rows.shape[1]:
            raise ValueError("queries must have the width of the patterns")
        squares = self.squares(queries)
        order = np.argsort(squares, axis=1, kind="stable")[:, :k]
        return np.sqrt(np.take_along_axis(squares, order, axis=1)), order

    def add(self, patterns):
        self.rows = np.concatenate([self.rows, patterns])

    def remove(self, indices):
        self.rows = np.delete(self.rows, indices, axis=0)

    def replace(self, indices, patterns):
        rows = self.rows.copy()
        rows[indices] = patterns
        self.rows = rows

    def save(self, path):
        np.savez(path, rows=self.rows)

    @classmethod
    def load(cls, path):
        with np.load(path) as file:
            return cls(file["rows"])


class Lists(Rows):
    """A list of lists, and pickle."""

    def __init__(self, patterns):
        self.list, self.dtype, self.d = patterns.tolist(), patterns.dtype, patterns.shape[1]

    def __len__(self):
        return len(self.list)

    def nearest(self, queries, k):
        found = [sorted((math.dist(x, row), i) for i, row in enumerate(self.list))[:k] for x in queries.tolist()]
        return np.array([[a for a, _ in row] for row in found]), np.array([[i for _, i in row] for row in found])

    def checked(self, patterns):
        if patterns.shape[1] != self.d:
            raise TypeError("another width")
        return patterns.tolist()

    def add(self, patterns):
        self.list += self.checked(patterns)

    def remove(self, indices):
        gone = set(indices.tolist())
        self.list = [row for i, row in enumerate(self.list) if i not in gone]

    def replace(self, indices, patterns):
        rows = self.checked(patterns)
        if max(indices) >= len(self.list):
            raise LookupError("no such row")
        for i, row in zip(indices, rows, strict=True):
            self.list[i] = row

    def save(self, path):
        with open(path, "wb") as file:
            pickle.dump(self, file)

    def load(self, path):
        with open(path, "rb") as file:
            return pickle.load(file)


class Products(Rows):
    """Expanded squares by a BLAS, any order of ties, and a part of a larger buffer."""

    def __init__(self, patterns):
        self.buffer, self.n = np.empty((2 * len(patterns) + 1, patterns.shape[1]), patterns.dtype), len(patterns)
        self.buffer[: self.n] = patterns

    @property
    def rows(self):
        return self.buffer[: self.n]

    @rows.setter
    def rows(self, rows):
        if len(rows) > len(self.buffer):
            self.buffer = np.empty((2 * len(rows), rows.shape[1]), rows.dtype)
        self.buffer[: len(rows)], self.n = rows, len(rows)

    def squares(self, queries):
        p = self.rows
        squares = np.square(queries).sum(axis=1)[:, None] - 2 * queries @ p.T + np.square(p).sum(axis=1)
        return np.maximum(squares, 0)

    def nearest(self, queries, k):
        squares = self.squares(queries)[:, ::-1]
        order = np.argpartition(squares, k - 1, axis=1)[:, :k]
        order = np.take_along_axis(order, np.take_along_axis(squares, order, axis=1).argsort(axis=1), axis=1)
        return np.sqrt(np.take_along_axis(squares, order, axis=1)), len(self) - 1 - order


class Fixed:
    """Only what a memory must have."""

    def __init__(self, patterns):
        self.rows = patterns.copy()

    __len__, squares, nearest = Rows.__len__, Rows.squares, Rows.nearest


RIGHT = {
    "hopmin": ours_memory.Memory, "an array": Rows, "lists": Lists, "products in a buffer": Products,
    "without changes": Fixed, "float64 inside": lambda patterns: hopmin.Memory(patterns.astype(float)),
}  # fmt: skip
PROMISES = {
    "hopmin": ours_memory.Memory.promises, "an array": ("ties", "empty"), "lists": ("ties", "empty"),
    "products in a buffer": ("empty",), "without changes": ("ties",),
}  # fmt: skip


def mutant(base=Rows, **methods):
    return type("Mutant", (base,), methods)


class Tombstones(Rows):
    """Removed rows stay, infinitely far away; positions do not shift."""

    def remove(self, indices):
        self.rows = self.rows.copy()
        self.rows[indices] = np.inf


class Identifiers(Rows):
    """Indices are numbers given once; they do not shift."""

    def __init__(self, patterns):
        super().__init__(patterns)
        self.numbers = np.arange(len(patterns))

    def nearest(self, queries, k):
        distances, order = super().nearest(queries, k)
        return distances, self.numbers[order]

    def add(self, patterns):
        first = self.numbers.max(initial=-1) + 1
        self.numbers = np.concatenate([self.numbers, np.arange(first, first + len(patterns))])
        super().add(patterns)

    def remove(self, indices):
        self.numbers = np.delete(self.numbers, indices)
        super().remove(indices)


class SwapsLast(Rows):
    """Moves the last row to the place of one that is removed."""

    def remove(self, indices):
        rows = list(self.rows)
        for i in sorted(np.asarray(indices).tolist(), reverse=True):
            rows[i] = rows[-1]
            rows.pop()
        self.rows = np.array(rows).reshape(-1, self.rows.shape[1])


class Norms(Rows):
    """Keeps the squared norms of the rows, and forgets them in one of the changes."""

    forgets = "replace"

    def __init__(self, patterns):
        super().__init__(patterns)
        self.norms = np.square(self.rows).sum(axis=1)

    def squares(self, queries):
        return np.maximum(np.square(queries).sum(axis=1)[:, None] - 2 * queries @ self.rows.T + self.norms, 0)

    def add(self, patterns):
        super().add(patterns)
        self.norms = np.square(self.rows).sum(axis=1)

    def remove(self, indices):
        super().remove(indices)
        self.norms = np.square(self.rows).sum(axis=1)


class Cached(Rows):
    """Remembers the last answer."""

    answer = None

    def nearest(self, queries, k):
        key = (queries.tobytes(), k, len(self))
        if self.answer is None or self.answer[0] != key:
            self.answer = key, super().nearest(queries, k)
        return self.answer[1]


class OneBuffer(Rows):
    """Answers are views of one buffer, which the next answer overwrites."""

    def nearest(self, queries, k):
        distances, order = super().nearest(queries, k)
        if getattr(self, "found", np.empty(0)).shape != order.shape:
            self.found = np.empty_like(order)
        self.found[...] = order
        return distances, self.found


class Pending(Rows):
    """Additions are kept apart until there is a question, and removals do not see them."""

    def __init__(self, patterns):
        super().__init__(patterns)
        self.pending = patterns[:0]

    def __len__(self):
        return len(self.rows) + len(self.pending)

    def nearest(self, queries, k):
        self.rows, self.pending = np.concatenate([self.rows, self.pending]), self.pending[:0]
        return super().nearest(queries, k)

    def add(self, patterns):
        self.pending = np.concatenate([self.pending, patterns])

    def remove(self, indices):
        keep = np.ones(len(self.rows), bool)
        keep[[i for i in indices if i < len(self.rows)]] = False
        self.rows = self.rows[keep]


class Blocks(Rows):
    """Blocks of 8192 rows, whose indices begin at 0 in each."""

    def nearest(self, queries, k):
        distances, order = super().nearest(queries, k)
        return distances, order % 8192


class RemovesOneByOne(Rows):
    def remove(self, indices):
        for i in sorted(np.asarray(indices).tolist()):
            if i >= len(self.rows):
                raise IndexError(i)
            super().remove(i)


class RemovesPartly(Rows):
    """Removes from the last to the first, until one is beyond the end."""

    def remove(self, indices):
        n = len(self.rows)
        for i in indices:
            if i >= n:
                raise IndexError(i)
            self.rows[i] = np.nan
        self.rows = self.rows[~np.isnan(self.rows[:, 0])]


class ReplacesPartly(Rows):
    def replace(self, indices, patterns):
        for i, row in zip(indices, patterns, strict=True):
            self.rows[i] = row


class ChangesQueries(Rows):
    def nearest(self, queries, k):
        queries -= self.rows[0]
        return Rows.nearest(Rows(self.rows - self.rows[0]), queries, k)


class SortsInPlace(Rows):
    def remove(self, indices):
        indices.sort()
        super().remove(indices)


class CountsFirst(Rows):
    """Counts the rows before it looks at them."""

    def __init__(self, patterns):
        super().__init__(patterns)
        self.n = len(patterns)

    def __len__(self):
        return self.n

    def add(self, patterns):
        self.n += len(patterns)
        super().add(patterns)

    def remove(self, indices):
        super().remove(indices)
        self.n = len(self.rows)


class SavesOnce(Rows):
    def save(self, path):
        try:
            open(path).close()
        except FileNotFoundError:
            super().save(path)


class Text(Rows):
    def save(self, path):
        np.savetxt(path, self.rows, fmt="%.6g")

    @classmethod
    def load(cls, path):
        return cls(np.loadtxt(path, ndmin=2))


class LoadsItself(Rows):
    """load changes the memory that is asked, and returns it."""

    def load(self, path):
        with np.load(path) as file:
            self.rows = file["rows"]
        return self


class Last(Rows):
    """A class attribute that all memories share."""

    kept = None

    def save(self, path):
        Last.kept = self

    @classmethod
    def load(cls, path):
        return cls.kept


def keeps(self, patterns):
    self.rows = patterns


MUTANTS = {
    "removed rows stay far away": Mutant(Tombstones, "law_memory_model", "hnswlib #321"),
    "indices that do not shift": Mutant(Identifiers, "law_memory_model", "faiss #1164"),
    "the last row takes the place of one removed": Mutant(SwapsLast, "law_memory_model", "natural"),
    "removes one after the other, while positions shift": Mutant(RemovesOneByOne, "law_memory_model", "natural"),
    "removes the first of the rows only": Mutant(
        mutant(remove=lambda s, i: Rows.remove(s, i[:1])), "law_memory_model", "natural"),
    "removes equal rows too": Mutant(
        mutant(remove=lambda s, i: setattr(s, "rows", np.array([r for r in s.rows if not any((r == s.rows[j]).all() for j in i)]).reshape(-1, s.rows.shape[1]))),
        "law_memory_model", "natural"),
    "new rows come first": Mutant(
        mutant(add=lambda s, p: setattr(s, "rows", np.concatenate([p, s.rows]))), "law_memory_model", "natural"),
    "adds no row twice": Mutant(
        mutant(add=lambda s, p: setattr(s, "rows", np.concatenate([s.rows, [r for r in p if not (r == s.rows).all(axis=1).any()] or s.rows[:0]]))),
        "law_memory_model", "natural"),
    "adds only the first row": Mutant(mutant(add=lambda s, p: Rows.add(s, p[:1])), "law_memory_model", "natural"),
    "replaces in ascending order of positions": Mutant(
        mutant(replace=lambda s, i, p: Rows.replace(s, np.sort(i), p)), "law_memory_model", "natural"),
    "replaces by removing and adding": Mutant(
        mutant(replace=lambda s, i, p: (s.remove(i), s.add(p))), "law_memory_model", "natural"),
    "norms of replaced rows are old": Mutant(Norms, "law_memory_model", "natural"),
    "an answer remembered too long": Mutant(Cached, "law_memory_model", "natural"),
    "additions that removals do not see": Mutant(Pending, "law_memory_model", "natural"),
    "keeps the array that is added": Mutant(
        mutant(add=lambda s, p: setattr(s, "rows", np.concatenate([s.rows, p]) if len(s.rows) else p)), "law_memory_empty", "natural"),
    "keeps the array that it is made of": Mutant(mutant(__init__=keeps), "law_memory_nearest", "natural"),
    "changes the queries": Mutant(ChangesQueries, "law_memory_nearest", "micrograd #53"),
    "sorts the positions in place": Mutant(SortsInPlace, "law_memory_model", "natural"),
    "the farthest": Mutant(
        mutant(squares=lambda s, x: -Rows.squares(s, x), nearest=lambda s, x, k: (np.sqrt(-np.sort(Rows.squares(s, x) * -1, axis=1)[:, :k]), np.argsort(-Rows.squares(s, x), axis=1)[:, :k])),
        "law_memory_nearest", "natural"),
    "squared distances": Mutant(
        mutant(nearest=lambda s, x, k: (Rows.nearest(s, x, k)[0] ** 2, Rows.nearest(s, x, k)[1])), "law_memory_nearest", "natural"),
    "sums of differences": Mutant(
        mutant(squares=lambda s, x: np.abs(x[:, None] - s.rows).sum(axis=2) ** 2), "law_memory_nearest", "natural"),
    "one neighbour only": Mutant(
        mutant(nearest=lambda s, x, k: Rows.nearest(s, x, 1)), "law_memory_nearest", "natural"),
    "unsorted": Mutant(
        mutant(nearest=lambda s, x, k: tuple(a[:, ::-1] for a in Rows.nearest(s, x, k))), "law_memory_nearest", "natural"),
    "the number of coordinates as length": Mutant(
        mutant(__len__=lambda s: s.rows.size), "law_memory_nearest", "natural"),
    "single precision": Mutant(
        mutant(__init__=lambda s, p: keeps(s, p.astype(np.float32))), "law_memory_digits", "natural"),
    "additions in single precision": Mutant(
        mutant(add=lambda s, p: Rows.add(s, p.astype(np.float32))), "law_memory_digits", "natural"),
    "a text of six digits": Mutant(Text, "law_memory_digits", "natural"),
    "indices within a block": Mutant(Blocks, "law_memory_blocks", "natural"),
    "at most 1024 rows": Mutant(mutant(squares=lambda s, x: np.where(np.arange(len(s)) < 1024, Rows.squares(s, x), np.inf)), "law_memory_blocks", "natural"),
    "indices of 16 bits, and an offset of a block": Mutant(
        mutant(nearest=lambda s, x, k: (Rows.nearest(s, x, k)[0], Rows.nearest(s, x, k)[1] & 511)), "law_memory_blocks", "natural"),
    "answers that the next one overwrites": Mutant(OneBuffer, "law_memory_answers", "natural"),
    "part of a removal before an error": Mutant(RemovesPartly, "law_memory_errors", "natural"),
    "part of a replacement before an error": Mutant(ReplacesPartly, "law_memory_errors", "natural"),
    "counts before an error": Mutant(CountsFirst, "law_memory_errors", "natural"),
    "wide rows cut": Mutant(
        mutant(add=lambda s, p: Rows.add(s, p[:, : s.rows.shape[1]])), "law_memory_errors", "natural"),
    "positions beyond the last wrap around": Mutant(
        mutant(replace=lambda s, i, p: Rows.replace(s, np.asarray(i) % len(s.rows), p)), "law_memory_errors", "natural"),
    "the last row cannot be removed": Mutant(
        mutant(remove=lambda s, i: Rows.remove(s, i[: len(s.rows) - 1])), "law_memory_empty", "natural"),
    "an empty memory finds index 0": Mutant(
        mutant(nearest=lambda s, x, k: Rows.nearest(s, x, k) if len(s.rows) else (np.full((len(x), k), np.inf), np.zeros((len(x), k), int))),
        "law_memory_empty", "natural"),
    "an existing file is kept": Mutant(SavesOnce, "law_memory_file", "natural"),
    "load changes the memory itself": Mutant(LoadsItself, "law_memory_file", "natural"),
    "a file is the memory itself": Mutant(Last, "law_memory_file", "natural"),
    "a file without the rows added": Mutant(
        mutant(Pending, save=Rows.save), "law_memory_model", "natural"),
    "the last of ties": Mutant(
        mutant(nearest=lambda s, x, k: (lambda a: (np.sqrt(np.take_along_axis(Rows.squares(s, x), a, 1)), a))(len(s) - 1 - np.argsort(Rows.squares(s, x)[:, ::-1], axis=1, kind="stable")[:, :k])),
        "law_memory_ties", "scikit-learn #23667"),
    "no ties in the order of positions": Mutant(Products, "law_memory_ties", "scikit-learn #23667"),
    "a memory of no rows is refused": Mutant(
        mutant(__init__=lambda s, p: keeps(s, np.array(p)) if p.max() > -9 else None), "law_memory_from_nothing", "natural"),
}  # fmt: skip
