"""What say.py, model_server.py and voice_server.py share: imports only downward (tests/structure)."""

__version__ = "0.1.0"  # a constant: importlib.metadata would cost the client a tenth of a second
