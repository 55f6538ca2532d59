"""Nearest-neighbour search that is right in several styles, or wrong by a line or two."""

from types import SimpleNamespace

import numpy as np
import ours_memory
import scipy.spatial

from . import Mutant


def differences(x, p):
    """Squared distances (m, n) in the dtype of the arguments, one query at a time."""
    return np.reshape([np.square(row - p).sum(axis=1) for row in x], (len(x), len(p)))


def by_loops(x, p):
    squares = np.zeros((len(x), len(p)))
    for i, row in enumerate(x):
        for c, number in enumerate(row):
            squares[i] += (float(number) - p[:, c].astype(float)) ** 2
    return squares


def expanded(x, p):
    squares = np.square(x).sum(axis=1)[:, None] - 2 * x @ p.T + np.square(p).sum(axis=1)
    return np.maximum(squares, 0)


def in_float64(function):
    return lambda x, p: function(x.astype(float), p.astype(float))


def centred(function):
    """Subtract the mean of the patterns first, which makes an expanded square less wrong."""
    return lambda x, p: function(x - p.mean(axis=0, dtype=float).astype(p.dtype), p - p.mean(axis=0, dtype=float).astype(p.dtype))


def stable(scores, k):
    return np.argsort(scores, axis=1, kind="stable")[:, :k]


def partitioned(scores, k):
    part = np.argpartition(scores, k - 1, axis=1)[:, :k]
    order = np.argsort(np.take_along_axis(scores, part, axis=1), axis=1)
    return np.take_along_axis(part, order, axis=1)


def build(squares=differences, order=stable, root=np.sqrt):
    """A search by squared distances (m, n), an order of them, and their root."""

    def nearest(x, p, k):
        scores = squares(x, p)
        found = order(scores, k)
        return root(np.take_along_axis(scores, found, axis=1)), found

    return nearest


def build_within(squares=differences, inside=np.less_equal):
    def within(x, p, radius):
        distances = np.sqrt(squares(x, p))
        found = [np.flatnonzero(inside(row, radius)) for row in distances]
        return [row[i] for row, i in zip(distances, found, strict=True)], found

    return within


def unit(a, floor=0.0):
    a = a / np.abs(a).max(axis=1, keepdims=True)
    return a / np.maximum(np.sqrt(np.square(a).sum(axis=1, keepdims=True)), floor)


def by_product(u, v):
    return 1 - u @ v.T


def build_cosine(unit=unit, distances=by_product, order=stable):
    def cosine(x, p, k):
        scores = distances(unit(x), unit(p))
        found = order(scores, k)
        return np.take_along_axis(scores, found, axis=1), found

    return cosine


def build_dot(products=lambda x, p: x @ p.T, order=stable, value=np.negative):
    def dot(x, p, k):
        scores = products(x, p)
        found = order(-scores, k)
        return value(np.take_along_axis(scores, found, axis=1)), found

    return dot


def search(squares, order=stable, distances=by_product, **options):
    return SimpleNamespace(
        nearest=build(squares, order), within=build_within(squares), cosine=build_cosine(unit, distances, order),
        dot=build_dot(order=order, **options),
    )  # fmt: skip


def kd_tree():
    def nearest(x, p, k):
        return scipy.spatial.cKDTree(p).query(x, np.arange(1, k + 1))

    def within(x, p, radius):
        found = scipy.spatial.cKDTree(p).query_ball_point(x, radius)
        return [np.linalg.norm(row.astype(float) - p[i], axis=1) for row, i in zip(x, found, strict=True)], found

    return SimpleNamespace(nearest=nearest, within=within)


def by_scikit_learn(metric="euclidean"):
    def nearest(x, p, k):
        from sklearn.neighbors import NearestNeighbors

        return NearestNeighbors(n_neighbors=k, algorithm="brute", metric=metric).fit(p).kneighbors(x)

    return nearest


def of_one_query(x, p, k=1):
    """Takes one query or many, and refuses what makes no sense."""
    if not 1 <= k <= len(p) or x.shape[-1] != p.shape[1] or not (np.isfinite(x).all() and np.isfinite(p).all()):
        raise ValueError
    distances = np.linalg.norm(x[..., None, :] - p, axis=-1)
    found = np.argsort(distances, axis=-1, kind="stable")[..., :k]
    return np.take_along_axis(distances, found, axis=-1), found


def padded(x, p, k):
    """Missing places have index -1 and distance inf, as in FAISS."""
    distances, found = build()(x, p, min(k, len(p)))
    missing = ((0, 0), (0, max(0, k - len(p))))
    return np.pad(distances, missing, constant_values=np.inf), np.pad(found, missing, constant_values=-1)


RIGHT = {
    "hopmin": ours_memory.search,
    "hopmin, by rows": ours_memory.search_by_rows,
    "in plain NumPy": search(differences, distances=lambda u, v: differences(u, v) / 2),
    "by loops in float64": build(by_loops, partitioned),
    "SciPy and argpartition": search(lambda x, p: scipy.spatial.distance.cdist(x, p, "sqeuclidean"), partitioned, value=np.positive),
    "SciPy's k-d tree": kd_tree(),
    "scikit-learn, brute force": SimpleNamespace(nearest=by_scikit_learn(), cosine=by_scikit_learn("cosine")),
    "expanded in float64": SimpleNamespace(nearest=build(in_float64(expanded), partitioned), dot=build_dot(value=lambda xp: 1 - xp)),
    "expanded": search(expanded),
    "expanded and centred": build(centred(expanded)),
    "of one query or many": of_one_query,
    "padded": padded,
}
OURS = ("digits", "range", "integers", "lists", "bits", "refused", "dtype", "mixed", "empty", "ties", "single")
PROMISES = {
    "hopmin": (*OURS, "products", "inclusive", "sorted", "radii"),
    "hopmin, by rows": ("inclusive", "radii"),
    "in plain NumPy": ("dtype", "mixed", "empty", "ties"),
    "SciPy's k-d tree": ("many", "empty"),
    "scikit-learn, brute force": ("refused", "lists", "integers"),
    "expanded": ("dtype", "empty"),
    "expanded in float64": ("empty",),
    "of one query or many": ("single", "refused", "dtype", "ties", "empty"),
    "padded": ("many", "ties"),
}
CANCELS = dict.fromkeys(("law_nearest_accuracy", "law_nearest_translation"), "squares cancel far from the origin")
FAILS = {
    "scikit-learn, brute force": {**CANCELS, **dict.fromkeys(("law_cosine", "law_cosine_scale"), "lengths below 10 eps count as 0")},
    "expanded in float64": CANCELS,
    "expanded": CANCELS,
    "expanded and centred": {"law_nearest_accuracy": "squares cancel beside a copy"},
}  # fmt: skip


# Wrong implementations


def mutant(law, origin="natural", **options):
    return Mutant(build(**options), law, origin)


BRUTE = build()


def changed(change, right=BRUTE):
    """A right search whose results (distances, indices) are changed by a function of them and the arguments."""

    def nearest(x, p, k):
        return change(*right(x, p, k), x, p, k)

    return nearest


def given(prepare, right=BRUTE):
    """A right search of arguments that were changed first."""

    def nearest(x, p, k):
        return right(*prepare(x, p), k)

    return nearest


def first_of(function, size):
    """Compare with the first patterns only."""

    def squares(x, p):
        scores = function(x, p).astype(float)
        scores[:, size:] = np.inf
        return scores

    return squares


def by_blocks(size, offset=lambda start: start, tail=True, keep=None):
    """Search one block of patterns after the other, and merge."""

    def nearest(x, p, k):
        best, found = np.full((len(x), 0), np.inf), np.zeros((len(x), 0), int)
        stops = range(0, len(p), size) if tail or len(p) < size else range(0, len(p) - size + 1, size)
        for start in stops:
            t, i = build()(x, p[start : start + size], min(keep or k, len(p) - start, size))
            best, found = np.hstack([best, t]), np.hstack([found, i + offset(start)])
            order = stable(best, k)
            best, found = np.take_along_axis(best, order, 1), np.take_along_axis(found, order, 1)
        return best, found

    return nearest


def by_batches(size, tail=True):
    """Search one batch of queries after the other; the last, if incomplete, is forgotten and stays zero."""

    def nearest(x, p, k):
        distances, found = np.zeros((len(x), k)), np.tile(np.arange(k), (len(x), 1))
        for start in range(0, len(x) if tail or len(x) < size else len(x) - size + 1, size):
            distances[start : start + size], found[start : start + size] = build()(x[start : start + size], p, k)
        return distances, found

    return nearest


def last_of_ties(scores, k):
    return scores.shape[1] - 1 - stable(scores[:, ::-1], k)


def overwriting(x, p, k):
    """Centre in place."""
    if p.flags.writeable and x.flags.writeable:
        middle = np.rint(p.mean(axis=0)).astype(p.dtype)
        x -= middle
        p -= middle
    return build()(x, p, k)


def in_storage_order(x, p, k):
    flat = [a.ravel(order="K").reshape(a.shape) for a in (x, p)]
    return build()(*flat, k)


def native_bytes(x, p, k):
    """Reads big-endian numbers as if they were the machine's."""
    return build()(x.view(x.dtype.newbyteorder("=")), p, k)


def unclipped(x, p):
    return np.square(x).sum(axis=1)[:, None] - 2 * x @ p.T + np.square(p).sum(axis=1)


def float16_inside(x, p):
    return expanded(x.astype(np.float16), p.astype(np.float16)).astype(x.dtype)


def dot_blas(x, p):
    """As in libraries that switch to another formula for many queries, with the norm of the wrong rows."""
    if len(x) < 20:
        return differences(x, p)
    return np.square(x).sum(axis=1)[:, None] - 2 * x @ p.T + np.square(p).sum()


def other_formula(x, p):
    return differences(x, p) if len(x) < 20 else -2 * x @ p.T + np.square(p).sum(axis=1)


def scalar_for_one(distances, found, x, p, k):
    return (distances[:, 0], found[:, 0]) if k == 1 else (distances, found)


def squeezed(distances, found, x, p, k):
    return np.squeeze(distances), np.squeeze(found)


def self_excluded(distances, found, x, p, k):
    """Leave out a pattern at distance 0, as for a graph of neighbours."""
    squares = differences(x, p).astype(float)
    squares[squares == 0] = 1e9
    return build(lambda *_: squares)(x, p, k)


def deduplicated(x, p, k):
    """Search different patterns only, and name the first of each."""
    rows, first = np.unique(p, axis=0, return_index=True)
    distances, found = build()(x, rows, min(k, len(rows)))
    return distances, first[found]


def missing_zero(x, p, k):
    distances, found = build()(x, p, min(k, len(p)))
    missing = ((0, 0), (0, max(0, k - len(p))))
    return np.pad(distances, missing, constant_values=np.inf), np.pad(found, missing)


def missing_last(x, p, k):
    return build()(x, p, k) if k <= len(p) else tuple(np.resize(a, (len(x), k)) for a in build()(x, p, len(p)))


def missing_first(x, p, k):
    distances, found = padded(x, p, k)
    return np.roll(distances, k - len(p), axis=1), np.roll(found, k - len(p), axis=1)


def missing_at_zero(x, p, k):
    distances, found = padded(x, p, k)
    return np.where(found < 0, 0, distances), found


def refused_but(**allowed):
    def nearest(x, p, k):
        if (k < 1 and "zero" not in allowed) or (k > len(p) and "many" not in allowed):
            raise ValueError
        if x.shape[1] != p.shape[1]:
            if "wide" not in allowed:
                raise ValueError
            x = x[:, : p.shape[1]]
        if not np.isfinite(x).all() and "nan" not in allowed:
            raise ValueError
        if not np.isfinite(p).all() and "inf" not in allowed:
            raise ValueError
        return build()(x, p, k)

    return nearest


def axis_of_a_single(x, p, k):
    return build()(np.atleast_2d(x), p, k)


def column_of_a_single(x, p, k):
    distances, found = build()(np.atleast_2d(x), p, k)
    return (distances.T, found.T) if x.ndim == 1 else (distances, found)


def each_unit(distances, found, x, p, k):
    return np.linalg.norm(x[:, None].astype(float) - p[found], axis=2, ord=1), found


OTHERS = {
    "the farthest": mutant("law_nearest", order=lambda s, k: np.argsort(-s, axis=1)[:, :k]),
    "squared": mutant("law_nearest", "faiss IndexFlatL2", root=np.positive),
    "half the square": mutant("law_nearest", root=lambda s: s / 2),
    "the sum of absolute differences": mutant("law_nearest", squares=lambda x, p: np.abs(x[:, None] - p).sum(axis=2), root=np.positive),
    "the largest difference": mutant("law_nearest", squares=lambda x, p: np.abs(x[:, None] - p).max(axis=2), root=np.positive),
    "the mean of squares": mutant("law_nearest", squares=lambda x, p: np.square(x[:, None] - p).mean(axis=2)),
    "absolute distances of the right patterns": Mutant(changed(each_unit), "law_nearest", "natural"),
    "|x|^2 missing": mutant("law_nearest", squares=lambda x, p: np.maximum(np.square(p).sum(axis=1) - 2 * x @ p.T, 0)),
    "|p|^2 missing": mutant("law_nearest", squares=lambda x, p: np.maximum(np.square(x).sum(axis=1)[:, None] - 2 * x @ p.T, 0)),
    "x.p once": mutant("law_nearest", squares=lambda x, p: np.square(x).sum(axis=1)[:, None] - x @ p.T + np.square(p).sum(axis=1)),
    "by largest product": mutant("law_nearest", squares=lambda x, p: 1e4 - x @ p.T),
    "always one neighbour": Mutant(changed(lambda t, i, x, p, k: (t[:, :1], i[:, :1])), "law_nearest", "natural"),
    "one neighbour too few": Mutant(changed(lambda t, i, x, p, k: (t[:, : max(1, k - 1)], i[:, : max(1, k - 1)])), "law_nearest", "natural"),
    "in descending order": Mutant(changed(lambda t, i, x, p, k: (t[:, ::-1], i[:, ::-1])), "law_nearest", "natural"),
    "the right patterns in order of index": mutant("law_nearest", order=lambda s, k: np.sort(stable(s, k), axis=1)),
    "distances in another order": Mutant(changed(lambda t, i, x, p, k: (t, np.sort(i, axis=1))), "law_nearest", "natural"),
    "distances by index": Mutant(changed(lambda t, i, x, p, k: (np.sqrt(differences(x, p))[:, :k], i)), "law_nearest", "natural"),
    "sorted along queries": mutant("law_nearest", order=lambda s, k: np.argsort(s, axis=0)[:, :k] % s.shape[1]),
    "indices from 1": Mutant(changed(lambda t, i, x, p, k: (t, i + 1)), "law_nearest", "natural"),
    "an index twice": Mutant(changed(lambda t, i, x, p, k: (t, np.broadcast_to(i[:, :1], i.shape))), "law_nearest", "natural"),
    "ranks instead of indices": mutant("law_nearest", order=lambda s, k: np.argsort(np.argsort(s, axis=1), axis=1)[:, :k]),
    "without the nearest": mutant("law_nearest", order=lambda s, k: np.roll(stable(s, s.shape[1]), -1, axis=1)[:, :k]),
    "without a pattern at distance 0": Mutant(changed(self_excluded), "law_nearest", "natural"),
    "equal patterns once": Mutant(deduplicated, "law_nearest", "natural"),
    "the last pattern left out": mutant("law_nearest", squares=lambda x, p: first_of(differences, max(1, len(p) - 1))(x, p)),
    "the last dimension left out": mutant("law_nearest", squares=lambda x, p: differences(x[:, : max(1, x.shape[1] - 1)], p[:, : max(1, x.shape[1] - 1)])),
    "the first 6 dimensions": mutant("law_nearest", squares=lambda x, p: differences(x[:, :6], p[:, :6])),
    "the first 200 patterns": mutant("law_nearest", squares=first_of(differences, 200)),
    "float16 inside": mutant("law_nearest_floats", squares=float16_inside),
    "float32 inside": mutant("law_nearest_floats", "faiss takes float32", squares=lambda x, p: differences(x.astype("f4"), p.astype("f4")).astype(x.dtype)),
    "rounded to 3 digits": Mutant(changed(lambda t, i, x, p, k: (np.round(t, 3), i)), "law_nearest_floats", "natural"),
    "an epsilon under the root": mutant("law_nearest_floats", "natural", root=lambda s: np.sqrt(s + s.dtype.type(1e-6))),
    "an epsilon added": mutant("law_nearest_floats", "natural", root=lambda s: np.sqrt(s) + s.dtype.type(1e-8)),
    "NaN where squares cancel": mutant("law_nearest_accuracy", "faiss #297", squares=unclipped),
    "the square expanded": mutant("law_nearest_accuracy", "scikit-learn #9354", squares=expanded),
    "the square expanded in float64": mutant("law_nearest_accuracy", "scikit-learn #9354", squares=in_float64(expanded)),
    "the square expanded, integers": mutant("law_nearest_translation", "faiss #5329", squares=expanded),
    "the square expanded in float64, integers": mutant("law_nearest_translation", "faiss #5329", squares=in_float64(expanded)),
    "distances recomputed of a wrong order": Mutant(changed(lambda t, i, x, p, k: (np.linalg.norm(x[:, None] - p[i], axis=2), i), build(expanded)), "law_nearest_translation", "faiss #3245"),
    "no distance below 1e-5": mutant("law_nearest_accuracy", squares=lambda x, p: np.maximum(differences(x, p), x.dtype.type(1e-10))),
    "floored at eps": mutant("law_nearest_accuracy", squares=lambda x, p: np.maximum(differences(x, p), np.finfo(x.dtype).eps)),
    "summed in float32": Mutant(build(), "law_nearest_digits", "natural"),
    "not scaled": Mutant(build(), "law_nearest_range", "natural"),
    "the last of ties": mutant("law_nearest_ties", "scikit-learn #23667", order=last_of_ties),
    "ties by partition": mutant("law_nearest_ties", "scipy #12011", order=partitioned),
    "ties by an unstable sort": mutant("law_nearest_ties", "scikit-learn #30663", order=lambda s, k: np.argsort(s, axis=1)[:, :k]),
    "ties of rounded distances": mutant("law_nearest_ties_far", squares=expanded),
    "k = 1 without an axis": Mutant(changed(scalar_for_one), "law_nearest_array", "esa/pykep #220"),
    "results squeezed": Mutant(changed(squeezed), "law_nearest_array", "natural"),
    "results transposed": Mutant(changed(lambda t, i, x, p, k: (t.T, i.T)), "law_nearest_array", "natural"),
    "indices as floats": Mutant(changed(lambda t, i, x, p, k: (t, i.astype(float))), "law_nearest_array", "natural"),
    "distances as integers": Mutant(changed(lambda t, i, x, p, k: (t.astype(int), i)), "law_nearest_array", "natural"),
    "distances as float32": Mutant(changed(lambda t, i, x, p, k: (t.astype("f4"), i)), "law_nearest_array", "faiss takes float32"),
    "indices before distances": Mutant(changed(lambda t, i, x, p, k: (i, t)), "law_nearest_array", "natural"),
    "queries and patterns centred in place": Mutant(overwriting, "law_nearest_array", "natural"),
    "numbers in storage order": Mutant(in_storage_order, "law_nearest_array", "natural"),
    "big-endian numbers misread": Mutant(native_bytes, "law_nearest_array", "natural"),
    "one byte for an index": Mutant(changed(lambda t, i, x, p, k: (t, i.astype(np.int8))), "law_nearest", "natural"),
    "two bytes for an index": Mutant(changed(lambda t, i, x, p, k: (t, i.astype(np.int16))), "law_nearest_blocks", "natural"),
    "two unsigned bytes for an index": Mutant(changed(lambda t, i, x, p, k: (t, i.astype(np.uint16))), "law_nearest_blocks", "natural"),
    "blocks without an offset": Mutant(by_blocks(8192, lambda start: 0), "law_nearest_blocks", "natural"),
    "small blocks without an offset": Mutant(by_blocks(64, lambda start: 0), "law_nearest", "natural"),
    "blocks with an offset too large by 1": Mutant(by_blocks(4096, lambda start: start + (start > 0)), "law_nearest_blocks", "natural"),
    "the last block forgotten": Mutant(by_blocks(8192, tail=False), "law_nearest_blocks", "natural"),
    "the last small block forgotten": Mutant(by_blocks(256, tail=False), "law_nearest_blocks", "natural"),
    "one candidate a block": Mutant(by_blocks(1000, keep=1), "law_nearest_blocks", "natural"),
    "the first 8192 patterns": mutant("law_nearest_blocks", squares=first_of(differences, 8192)),
    "the first 64 dimensions": mutant("law_nearest_blocks", squares=lambda x, p: differences(x[:, :64], p[:, :64])),
    "the first 512 dimensions": mutant("law_nearest_blocks", squares=lambda x, p: differences(x[:, :512], p[:, :512])),
    "dimensions in multiples of 8": mutant("law_nearest_blocks", squares=lambda x, p: differences(x[:, : max(8, x.shape[1] // 8 * 8)], p[:, : max(8, x.shape[1] // 8 * 8)])),
    "the last batch forgotten": Mutant(by_batches(16, tail=False), "law_nearest_batch", "natural"),
    "the last large batch forgotten": Mutant(by_batches(256, tail=False), "law_nearest_batch", "natural"),
    "the first 1024 queries": Mutant(by_batches(1024, tail=False), "law_nearest_batch", "natural"),
    "queries centred by their mean": Mutant(given(lambda x, p: (x - x.mean(axis=0), p)), "law_nearest_batch", "natural"),
    "scaled by the batch": Mutant(given(lambda x, p: (x / np.abs(x).max(), p / np.abs(x).max())), "law_nearest_batch", "natural"),
    "the same for all queries": Mutant(changed(lambda t, i, x, p, k: (t, np.broadcast_to(i[:1], i.shape))), "law_nearest_batch", "natural"),
    "queries in sorted order": Mutant(given(lambda x, p: (x[np.argsort(x[:, 0], kind="stable")], p)), "law_nearest_batch", "natural"),
    "another formula for 20 queries": mutant("law_nearest_batch", "faiss #563", squares=other_formula, root=lambda s: np.sqrt(np.maximum(s, 0))),
    "the wrong norm for 20 queries": mutant("law_nearest_batch", "faiss #563", squares=dot_blas),
    "unsigned differences": mutant("law_nearest_integers", squares=lambda x, p: np.square((x[:, None] - p).astype(float)).sum(axis=2)),
    "not a list": Mutant(build(), "law_nearest_lists", "natural"),
    "always float64": Mutant(given(lambda x, p: (x.astype(float), p.astype(float))), "law_nearest_dtype", "scipy cdist"),
    "the dtype of the queries": Mutant(given(lambda x, p: (x, p.astype(x.dtype))), "law_nearest_mixed", "natural"),
    "float32 if one is": Mutant(given(lambda x, p: (x.astype("f4"), p.astype("f4")) if x.dtype != p.dtype else (x, p)), "law_nearest_mixed", "natural"),
    "products by BLAS": mutant("law_nearest_bits", "faiss PR #5022", squares=lambda x, p: expanded(x, p)),
    "a single query with an axis": Mutant(axis_of_a_single, "law_nearest_single", "natural"),
    "a single query in a column": Mutant(column_of_a_single, "law_nearest_single", "natural"),
    "a single query by its first number": Mutant(lambda x, p, k: tuple(a[0] if x.ndim == 1 else a for a in build()(np.reshape(x, (-1, p.shape[1])) * (x.ndim == 2), p, k)), "law_nearest_single", "natural"),
    "an error for no queries": Mutant(lambda x, p, k: build()(x, p, k) if x.max() > -np.inf else None, "law_nearest_empty", "natural"),
    "no axis k for no queries": Mutant(changed(lambda t, i, x, p, k: (t, i) if len(x) else (t[:, :0], i[:, :0])), "law_nearest_empty", "natural"),
    "missing patterns at index 0": Mutant(missing_zero, "law_nearest_many", "natural"),
    "missing patterns at distance 0": Mutant(missing_at_zero, "law_nearest_many", "natural"),
    "missing patterns first": Mutant(missing_first, "law_nearest_many", "natural"),
    "patterns repeated for k > n": Mutant(missing_last, "law_nearest_many", "natural"),
    "an error for k > n": Mutant(of_one_query, "law_nearest_many", "hnswlib #244"),
    "k > n cut to n": Mutant(refused_but(many=True), "law_nearest_refused", "natural"),
    "k = 0 taken": Mutant(refused_but(zero=True), "law_nearest_refused", "natural"),
    "other widths taken": Mutant(refused_but(wide=True), "law_nearest_refused", "natural"),
    "NaN taken": Mutant(refused_but(nan=True), "law_nearest_refused", "natural"),
    "infinite patterns taken": Mutant(refused_but(inf=True), "law_nearest_refused", "natural"),
}  # fmt: skip


def cosine(law="law_cosine", origin="natural", **options):
    return Mutant(SimpleNamespace(nearest=build(), cosine=build_cosine(**options)), law, origin)


def dot(law="law_dot", origin="natural", **options):
    return Mutant(SimpleNamespace(nearest=build(), dot=build_dot(**options)), law, origin)


def within(law="law_within", origin="natural", function=None, **options):
    return Mutant(SimpleNamespace(nearest=build(), within=function or build_within(**options)), law, origin)


def changed_within(change):
    def function(x, p, radius):
        return change(*build_within()(x, p, radius), x, p, radius)

    return function


def batch_directions(u, v):
    return 1 - (u - u.mean(axis=0) * (len(u) > 1)) @ v.T


def overwriting_unit(a):
    if a.flags.writeable:
        a /= np.sqrt(np.square(a).sum(axis=1, keepdims=True))
        return a
    return unit(a)


def negated_in_place(x, p):
    squares = differences(x, p)
    if p.flags.writeable:
        np.negative(p, out=p)
    return squares


def rows_of_lists(change):
    """As a sparse matrix by rows, with the offsets changed."""

    def function(x, p, radius):
        t, i = build_within()(x, p, radius)
        offsets = np.cumsum([0, *map(len, i)])
        return np.concatenate(t), np.concatenate(i), change(offsets)

    return function


def no_duplicates(x, p, radius):
    t, i = build_within()(x, p, radius)
    first = [np.unique(row, return_index=True)[1] for row in t]
    return [row[f] for row, f in zip(t, first, strict=True)], [row[f] for row, f in zip(i, first, strict=True)]


COSINES = {
    "cosine: the similarity": cosine(distances=lambda u, v: u @ v.T, order=lambda s, k: stable(-s, k)),
    "cosine: not normalised": cosine(origin="hnswlib #592", unit=np.positive),
    "cosine: queries not normalised": Mutant(SimpleNamespace(nearest=build(), cosine=lambda x, p, k: build_dot(value=lambda s: 1 - s)(x, unit(p), k)), "law_cosine", "usearch #320"),
    "cosine: patterns not normalised": Mutant(SimpleNamespace(nearest=build(), cosine=lambda x, p, k: build_dot(value=lambda s: 1 - s)(unit(x), p, k)), "law_cosine", "usearch #320"),
    "cosine: normalised by columns": cosine(unit=lambda a: a / np.maximum(np.linalg.norm(a, axis=0), 1e-30)),
    "cosine: by the sum of absolute numbers": cosine(unit=lambda a: a / np.abs(a).sum(axis=1, keepdims=True)),
    "cosine: not rooted": cosine(unit=lambda a: a / np.square(a / np.abs(a).max()).sum(axis=1, keepdims=True)),
    "cosine: an epsilon in the length": cosine(origin="usearch #320", unit=lambda a: a / (np.linalg.norm(a.astype(float), axis=1, keepdims=True) + 1e-8).astype(a.dtype)),
    "cosine: lengths of at least 1e-8": cosine(origin="PyTorch cosine_similarity", unit=lambda a: a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), a.dtype.type(1e-8))),
    "cosine: the absolute value": cosine(distances=lambda u, v: 1 - np.abs(u @ v.T)),
    "cosine: the angle": cosine(distances=lambda u, v: np.arccos(np.clip(u @ v.T, -1, 1))),
    "cosine: twice the distance": cosine(distances=lambda u, v: 2 - 2 * u @ v.T),
    "cosine: half of it": cosine(distances=lambda u, v: (1 - u @ v.T) / 2),
    "cosine: farthest first": cosine(order=lambda s, k: stable(-s, k)),
    "cosine: centred, a correlation": cosine(unit=lambda a: unit(a - a.mean(axis=1, keepdims=True) * 0.5)),
    "cosine: float16 inside": cosine(distances=lambda u, v: 1 - (u.astype("f2") @ v.astype("f2").T).astype("f4")),
    "cosine: clipped at 0": cosine(distances=lambda u, v: 1 - np.maximum(u @ v.T, 0)),
    "cosine: squares overflow": cosine("law_cosine_range", unit=lambda a: a / np.sqrt(np.square(a).sum(axis=1, keepdims=True))),
    "cosine: scaled by an epsilon": cosine("law_cosine_scale", "hnswlib #592", unit=lambda a: a / np.sqrt(np.square(a).sum(axis=1, keepdims=True) + a.dtype.type(1e-10))),
    "cosine: the last of ties": cosine("law_cosine_ties", order=last_of_ties),
    "cosine: centred by the batch": cosine("law_cosine_batch", distances=batch_directions),
    "cosine: normalised in place": cosine("law_cosine_array", "natural", unit=overwriting_unit),
    "cosine: the first 8192 patterns": cosine("law_cosine_blocks", distances=lambda u, v: first_of(lambda u, v: 1 - u @ v.T, 8192)(u, v)),
    "cosine: the first 512 dimensions": cosine("law_cosine_blocks", distances=lambda u, v: 1 - u[:, :512] @ v[:, :512].T),
    "cosine: missing patterns at index 0": Mutant(SimpleNamespace(nearest=build(), cosine=lambda x, p, k: tuple(np.pad(a, ((0, 0), (0, max(0, k - len(p))))) for a in build_cosine()(x, p, min(k, len(p))))), "law_cosine_many", "natural"),
    "dot: the smallest": dot(order=lambda s, k: stable(-s, k)),
    "dot: of directions": dot(products=lambda x, p: unit(x + (x == 0) * 1e-9) @ unit(p + (p == 0) * 1e-9).T),
    "dot: the nearest": dot(products=lambda x, p: -differences(x, p)),
    "dot: the largest absolute product": dot(products=lambda x, p: np.abs(x @ p.T)),
    "dot: a cosine of the queries and patterns of length 1": dot(products=lambda x, p: x @ unit(p + (p == 0) * 1e-9).T),
    "dot: integers": dot(products=lambda x, p: np.trunc(x) @ np.trunc(p).T),
    "dot: centred patterns and queries": dot(products=lambda x, p: (x - x.mean(axis=1, keepdims=True)) @ p.T),
    "dot: float16 inside": dot(products=lambda x, p: (x.astype("f2") @ p.astype("f2").T).astype(x.dtype)),
    "dot: the first 8192 patterns": dot("law_dot_blocks", products=lambda x, p: np.where(np.arange(len(p)) < 8192, x @ p.T, -np.inf)),
    "dot: the first 512 dimensions": dot("law_dot_blocks", products=lambda x, p: x[:, :512] @ p[:, :512].T),
    "dot: half the product": dot("law_dot_values", value=lambda s: -s / 2),
    "dot: scaled by the dimension": dot("law_dot_values", products=lambda x, p: x @ p.T / x.shape[1] ** 0.5),
    "dot: an inverse": dot("law_dot_values", value=lambda s: 1 / (1 + np.exp(s))),
    "dot: x.p promised to be -x.p": dot("law_dot_products", value=np.positive),
    "dot: 1 - x.p promised to be -x.p": dot("law_dot_products", value=lambda s: 1 - s),
    "dot: the last of ties": dot("law_dot_ties", order=last_of_ties),
    "dot: queries centred by the batch": dot("law_dot_batch", products=lambda x, p: (x - x.mean(axis=0) * (len(x) > 1)) @ p.T),
    "dot: patterns repeated for k > n": Mutant(SimpleNamespace(nearest=build(), dot=lambda x, p, k: tuple(np.resize(a, (len(x), k)) for a in build_dot()(x, p, min(k, len(p))))), "law_dot_many", "natural"),
    "dot: numbers in storage order": Mutant(SimpleNamespace(nearest=build(), dot=lambda x, p, k: build_dot()(*(a.ravel(order="K").reshape(a.shape) for a in (x, p)), k)), "law_dot_array", "natural"),
    "cosine: by BLAS": cosine("law_cosine_bits", "faiss PR #5022"),
    "dot: by BLAS": dot("law_dot_bits", "faiss PR #5022"),
}  # fmt: skip

WITHIN = {
    "within: squared radius": within(inside=lambda t, r: t <= r * r),
    "within: squares compared with the radius": within(origin="scipy and faiss differ", inside=lambda t, r: t * t <= r),
    "within: outside": within(inside=np.greater),
    "within: twice the radius": within(inside=lambda t, r: t <= 2 * r),
    "within: squared distances": within(origin="faiss range_search", function=changed_within(lambda t, i, x, p, r: ([a * a for a in t], i))),
    "within: at most 10": within(function=changed_within(lambda t, i, x, p, r: ([a[:10] for a in t], [a[:10] for a in i]))),
    "within: at most 50": within("law_within_blocks", function=changed_within(lambda t, i, x, p, r: ([a[:50] for a in t], [a[:50] for a in i]))),
    "within: the nearest is not counted": within(function=changed_within(lambda t, i, x, p, r: ([a[1:] for a in t], [a[1:] for a in i]))),
    "within: a pattern at distance 0 left out": within(inside=lambda t, r: (t <= r) & (t > 0)),
    "within: equal distances once": within(function=no_duplicates),
    "within: indices from 1": within(function=changed_within(lambda t, i, x, p, r: (t, [a + 1 for a in i]))),
    "within: distances sorted, indices not": within(function=changed_within(lambda t, i, x, p, r: ([np.sort(a) for a in t], i))),
    "within: the first query's": within(function=changed_within(lambda t, i, x, p, r: ([t[0]] * len(t), [i[0]] * len(i)))),
    "within: one list for all": within(function=changed_within(lambda t, i, x, p, r: (t[:1], i[:1]))),
    "within: empty lists left out": within(function=changed_within(lambda t, i, x, p, r: ([a for a in t if len(a)], [a for a in i if len(a)]))),
    "within: indices as floats": within(function=changed_within(lambda t, i, x, p, r: (t, [a.astype(float) for a in i]))),
    "within: the mask": within(function=changed_within(lambda t, i, x, p, r: (t, [np.isin(np.arange(len(p)), a) for a in i]))),
    "within: float16 inside": within(squares=float16_inside),
    "within: the first 200 patterns": within(squares=first_of(differences, 200)),
    "within: the first 64 dimensions": within("law_within_blocks", squares=lambda x, p: differences(x[:, :64], p[:, :64])),
    "within: the first 8192 patterns": within("law_within_blocks", squares=first_of(differences, 8192)),
    "within: the first 512 dimensions": within("law_within_blocks", squares=lambda x, p: differences(x[:, :512], p[:, :512])),
    "within: offsets that do not begin at 0": within(function=rows_of_lists(lambda o: o[1:])),
    "within: counts instead of offsets": within(function=rows_of_lists(lambda o: np.diff(o, prepend=0))),
    "within: offsets off by one row": within(function=rows_of_lists(lambda o: np.concatenate([[0, 0], o[1:-1]]))),
    "within: less than the radius": within("law_within_boundary", inside=np.less),
    "within: the square expanded, on the boundary": within("law_within_boundary", "faiss #297", squares=expanded),
    "within: in order of index": within("law_within_sorted"),
    "within: another formula than nearest": Mutant(SimpleNamespace(nearest=build(), within=build_within(lambda x, p: 1.21 * differences(x, p))), "law_within_nearest", "usearch #527"),
    "within: queries centred by the batch": within("law_within_batch", squares=lambda x, p: differences(x - x.mean(axis=0), p)),
    "within: patterns changed in place": within("law_within_array", squares=negated_in_place),
    "within: numbers in storage order": within("law_within_array", squares=lambda x, p: differences(*(a.ravel(order="K").reshape(a.shape) for a in (x, p)))),
    "within: the first radius for all": within("law_within_radii", inside=lambda t, r: t <= np.ravel(r)[0]),
    "within: the largest radius for all": within("law_within_radii", inside=lambda t, r: t <= np.max(r)),
    "within: products by BLAS": within("law_within_bits", "faiss PR #5022", squares=expanded),
}  # fmt: skip
MUTANTS = {**OTHERS, **COSINES, **WITHIN}
