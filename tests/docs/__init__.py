"""Documents say what is so: README.md, the pages under docs/, and those beside the code."""
