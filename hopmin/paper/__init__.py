"""Part III, the paper: capacities, certificates, densities, scaling, and its statements with a check for each."""
