"""The types of the compiled module are those of its NumPy twin."""

from hopmin._core_numpy import FUNCTIONS as FUNCTIONS
from hopmin._core_numpy import LARGEST as LARGEST
from hopmin._core_numpy import OUTWARDS as OUTWARDS
from hopmin._core_numpy import PANEL as PANEL
from hopmin._core_numpy import SIMD as SIMD
from hopmin._core_numpy import SMALLEST as SMALLEST
from hopmin._core_numpy import TILE as TILE
from hopmin._core_numpy import absorb as absorb
from hopmin._core_numpy import encode as encode
from hopmin._core_numpy import exp_nonpositive as exp_nonpositive
from hopmin._core_numpy import gather as gather
from hopmin._core_numpy import max_abs as max_abs
from hopmin._core_numpy import merge as merge
from hopmin._core_numpy import pack as pack
from hopmin._core_numpy import restore_state as restore_state
from hopmin._core_numpy import scores as scores
from hopmin._core_numpy import search as search
from hopmin._core_numpy import simd as simd
from hopmin._core_numpy import standard_state as standard_state
from hopmin._core_numpy import unpack as unpack
