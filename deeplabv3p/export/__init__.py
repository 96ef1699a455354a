"""From a Keras model to the files that other engines run: fold, freeze, then one file a format."""
