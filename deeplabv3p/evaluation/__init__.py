"""Evaluation: scores of any model file, and the comparison of any two."""
