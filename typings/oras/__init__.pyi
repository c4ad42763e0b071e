# What the engine uses of oras, which ships no types.
from oras import provider as provider
