"""What only the small scale needs: a linear autoencoder, gates, an aligner, a prepared start, and scenes."""
