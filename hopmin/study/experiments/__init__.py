"""The experiments of the study, one module each; see `hopmin/study/plan.py`."""
