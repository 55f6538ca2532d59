"""Part III, the transformer as a memory: train a grid of small ones, measure them, report.

- what is measured on a trained model: `measure.py`
- models times amounts of data, trained side by side: `grid.py`
- results, figures and a page to read: `report.py`
"""
