"""Other people's datasets, archives and label tools' exports, written as datasets of the project's own layout."""
