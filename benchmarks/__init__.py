"""What the project measures, side by side with others; see README.md. Never part of the tests."""
