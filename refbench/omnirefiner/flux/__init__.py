"""The full scale: FLUX.1-Kontext, and its transformer in torch alone."""
