"""Part I, associative memories: energies over stored patterns, retrieval, and exact nearest neighbours."""
