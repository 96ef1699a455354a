"""Losses over logits and label maps. Import the submodules: this one loads nothing, so that options stay light."""
