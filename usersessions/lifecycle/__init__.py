"""How sessions begin, change and end: ``UserSessionManager``, and saving without loss."""
