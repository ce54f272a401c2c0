"""Refine a crop at the working size inside a picture of any size, and put it back."""
