"""The types of the compiled module are those of its NumPy twin."""

from hopmin._buffers_numpy import FUNCTIONS as FUNCTIONS
from hopmin._buffers_numpy import pool as pool
from hopmin._buffers_numpy import within as within
