"""Part III, the paper: capacities, certificates, densities, scaling, and a check for each of its statements."""
