"""Figures and tables for papers, and a static viewer: everything here reads run folders."""
