"""Where sessions are stored: the contract in ``base``, one module per storage."""
