"""Diagnostics: what users complain of most, in units of their own; they enter no score."""
