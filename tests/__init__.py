"""The tests mirror the source; `harness.py` starts real agents for them."""
