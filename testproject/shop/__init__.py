"""A shop with a basket in the session, customer accounts and an admin for staff."""
