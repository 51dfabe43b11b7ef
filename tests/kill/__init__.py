"""Things that write, killed at random moments: nothing is lost."""
