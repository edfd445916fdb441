"""From requests to plans: one module for a verb or dialect; pure functions."""
