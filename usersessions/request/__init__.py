"""What one request has: its sessions, their cookies, and error reports that hide both."""
