"""What say.py, model_server.py and voice_server.py share: flat rooms, imports only downward (tests/test_imports.py)."""

__version__ = "0.1.0"  # a constant: importlib.metadata would cost the client a tenth of a second
