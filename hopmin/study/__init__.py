"""Part III, the transformer as a memory: train a grid of small models, measure them, and write a report.

- measurements on a trained model: `measure.py`
- models and amounts of data, trained in parallel: `grid.py`
- figures: `figures.py`
- results and the report: `report.py`
"""
