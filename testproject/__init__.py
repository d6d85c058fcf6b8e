"""The demo site: a small shop that shows every feature of ``usersessions``."""
