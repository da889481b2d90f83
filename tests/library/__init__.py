"""The library in one line, and its examples."""
