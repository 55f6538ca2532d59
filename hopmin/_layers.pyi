"""The types of the compiled module are those of its NumPy twin."""

from hopmin._layers_numpy import FUNCTIONS as FUNCTIONS
from hopmin._layers_numpy import SIMD as SIMD
from hopmin._layers_numpy import activate as activate
from hopmin._layers_numpy import adamw as adamw
from hopmin._layers_numpy import add_and_norm as add_and_norm
from hopmin._layers_numpy import attend as attend
from hopmin._layers_numpy import causal_softmax as causal_softmax
from hopmin._layers_numpy import causal_softmax_backward as causal_softmax_backward
from hopmin._layers_numpy import gelu_and_derivative as gelu_and_derivative
from hopmin._layers_numpy import layer_norm_backward as layer_norm_backward
from hopmin._layers_numpy import layer_norm_forward as layer_norm_forward
from hopmin._layers_numpy import simd as simd
