"""What runs on top: the command line."""
