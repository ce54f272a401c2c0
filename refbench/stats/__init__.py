"""Statistics over scores: recovery, intervals, paired comparison, ranking. Pure arrays and frames, always seeded."""
