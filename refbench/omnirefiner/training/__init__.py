"""What learns: one loop (`loop.py`), stage 1 and 2 of the paper, their data, and weight files."""
