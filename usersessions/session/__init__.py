"""What a session is: its data, its secrets and its rules. Knows no storage."""
