"""Networks by name: a registry of records, backbones dilated from ``keras.applications``, heads, and the factory."""
