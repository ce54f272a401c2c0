"""What the method needs to be trained at a small scale: a linear autoencoder, and prompts as one bit."""
