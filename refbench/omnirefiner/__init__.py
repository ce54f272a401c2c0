"""OmniRefiner (arXiv 2511.19990): reference-guided local refinement by a dual-input diffusion transformer."""
