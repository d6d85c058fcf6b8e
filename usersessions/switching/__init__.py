"""Who is behind a session whose user has been switched."""
