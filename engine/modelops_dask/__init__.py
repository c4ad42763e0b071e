"""What a worker image holds and a laptop imports: executors, studies, stores."""

__version__ = "0.2.0"
