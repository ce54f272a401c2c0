"""Local consistency: the surroundings, the seam, and light and shape inside."""
