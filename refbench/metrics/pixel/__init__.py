"""Pixel fidelity: metrics that ask for each pixel at its place, a column of its own beside the score."""
