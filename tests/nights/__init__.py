"""Ten faults made on purpose, and a stranger's first hour: what is said, and the seconds until then."""
