"""Judge softmax in PyTorch, in four dtypes: torch.softmax, and one that sums exponentials without a shift.

Needs hypothesis (the extra "testing") and PyTorch; says so if PyTorch is not installed.
Run: python examples/judge_a_softmax_in_pytorch.py
"""

from importlib.util import find_spec

from hopmin.testing import conformance


def softmax(a, axis=None):
    """Call torch.softmax, over all elements if no axis is given."""
    return torch.softmax(a, axis) if axis is not None else torch.softmax(a.reshape(-1), 0).reshape(a.shape)


def unshifted(a, axis=None):
    """Exponentiate without subtracting the maximum: a score of 89 overflows in float32, one of 12 in float16."""
    dim = tuple(range(a.ndim)) if axis is None else axis
    return torch.exp(a) / torch.exp(a).sum(dim, keepdim=True)


if find_spec("torch"):
    import torch

    for candidate in (softmax, unshifted):
        for dtype in ("float64", "float32", "float16", "bfloat16"):
            report = conformance(candidate, "softmax", dtype=dtype, examples=50, seed=0)
            print(f"{candidate.__name__} in {dtype}: {report.summary()}")
            for row in report.failures[:1]:
                print(f"    {row.law}: {row.message}")
else:
    print("PyTorch is not installed: nothing to judge")
