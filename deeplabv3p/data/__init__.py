"""Datasets: class lists, decoding, layouts, paired augmentation and the training pipeline."""
