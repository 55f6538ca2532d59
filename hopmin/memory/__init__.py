"""Part I, the memory: energies over stored patterns, retrieval, and the nearest neighbour as their hard limit."""
