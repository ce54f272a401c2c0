"""What people prefer: pages that ask them, the votes they give, and what the score has to do with it."""
