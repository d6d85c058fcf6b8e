"""Small sites that differ from the demo in what a site cannot change while it runs."""
