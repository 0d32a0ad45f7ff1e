"""Publisher and subscriber for Python; the browser module is in ``js/``."""
