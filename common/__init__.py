"""What the scripts share: arguments, console, run folders. Importing any of it costs no heavy import."""
