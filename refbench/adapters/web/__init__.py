"""Models that are web services: what is asked and answered, what it costs, and nothing paid twice."""
