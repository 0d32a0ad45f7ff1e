"""What was used: counted once, in Redis at once and in the database for ever."""
